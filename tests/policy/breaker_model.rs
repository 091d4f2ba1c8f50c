//! The breaker against a model that keeps every call and every change of state, and derives all else from them.

use std::time::Duration;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::event::BreakerState;
use mainstay::event::BreakerState::Closed;
use mainstay::event::BreakerState::ForcedClosed;
use mainstay::event::BreakerState::ForcedOpen;
use mainstay::event::BreakerState::HalfOpen;
use mainstay::event::BreakerState::Open;
use mainstay::policy::Breaker;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Jitter;
use mainstay::policy::OpenFor;
use mainstay::policy::Transition;
use mainstay::policy::WindowConfig;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;

const OVERLOAD: Outcome = Outcome::Failure(Failure::Overload);

/// Settings in whole milliseconds and whole numbers; the rate is `rate.0 / rate.1`.
#[derive(Clone, Debug)]
struct Settings {
    bucket: u64,
    buckets: u32,
    count: Option<u32>,
    rate: Option<(u64, u64)>,
    min_calls: u32,
    consecutive: Option<u32>,
    open: (u64, u64, u64),
    permits: u32,
    lease: u64,
    max_half_open: u64,
}

struct Call {
    era: usize,
    admitted: u64,
    end: Option<(u64, Outcome)>,
    counted: bool,
}

struct Naive {
    settings: Settings,
    calls: Vec<Call>,
    /// In the order in which they ended.
    ended: Vec<usize>,
    changes: Vec<(u64, BreakerState)>,
    late: u64,
}

impl Settings {
    fn config(&self) -> BreakerConfig {
        let (start, factor, max) = self.open;
        BreakerConfig {
            window: match self.count {
                Some(count) => WindowConfig::Count(count),
                None => WindowConfig::Time { period: ms(self.bucket * u64::from(self.buckets)), buckets: self.buckets },
            },
            failure_rate: self.rate.map(|(a, b)| a as f64 / b as f64),
            min_calls: self.min_calls,
            consecutive: self.consecutive,
            open_for: OpenFor { start: ms(start), max: ms(max), factor: factor as f64, jitter: Jitter::None },
            half_open_permits: self.permits,
            probe_lease: ms(self.lease),
            max_half_open: ms(self.max_half_open),
        }
    }

    fn too_many(&self, failures: u64, calls: u64) -> bool {
        self.rate.is_some_and(|(a, b)| failures * b >= a * calls)
    }
}

impl Naive {
    fn state(&self) -> BreakerState {
        self.changes.last().map_or(Closed, |(_, state)| *state)
    }

    fn era(&self) -> usize {
        self.changes.len()
    }

    fn change(&mut self, now: u64, to: BreakerState) -> Option<Transition> {
        let from = self.state();
        self.changes.push((now, to));
        Some(Transition { from, to })
    }

    fn since(&self) -> u64 {
        self.changes.last().expect("it has changed").0
    }

    /// The calls that ended and were counted in `era`, oldest end first.
    fn counted(&self, era: usize) -> Vec<(u64, Outcome)> {
        let calls = self.ended.iter().map(|call| &self.calls[*call]).filter(|call| call.counted && call.era == era);
        calls.map(|call| call.end.expect("it ended")).collect()
    }

    /// The last era in which it was closed.
    fn closed_era(&self) -> usize {
        (1..=self.era()).rev().find(|era| self.changes[era - 1].1 == Closed).unwrap_or(0)
    }

    fn window(&self, now: u64) -> (u64, u64) {
        let mut calls = self.counted(self.closed_era());
        match self.settings.count {
            Some(count) => calls = calls.split_off(calls.len().saturating_sub(count as usize)),
            None => {
                let was_closed = |era: usize| era == 0 || self.changes[era - 1].1 == Closed;
                let first =
                    self.ended.iter().map(|call| &self.calls[*call]).find(|call| call.counted && was_closed(call.era));
                let origin = first.map_or(0, |call| call.end.expect("it ended").0);
                let bucket = |time: u64| (time - origin) / self.settings.bucket;
                calls.retain(|(time, _)| bucket(*time) + u64::from(self.settings.buckets) > bucket(now));
            }
        }
        (calls.len() as u64, calls.iter().filter(|(_, outcome)| outcome.is_failure()).count() as u64)
    }

    fn run(&self) -> u32 {
        let ends = self.counted(self.closed_era());
        let run = ends.iter().rev().take_while(|(_, outcome)| *outcome != Outcome::Success);
        run.filter(|(_, outcome)| *outcome != OVERLOAD).count() as u32
    }

    /// Probes that succeeded and that failed.
    fn decided(&self) -> (u64, u64) {
        let ends = self.counted(self.era());
        let failed = ends.iter().filter(|(_, outcome)| outcome.is_failure()).count() as u64;
        (ends.len() as u64 - failed, failed)
    }

    /// How long each probe that is running still has.
    fn leases(&self, now: u64) -> Vec<u64> {
        let running = self.calls.iter().filter(|call| call.era == self.era() && call.end.is_none());
        running.map(|call| (call.admitted + self.settings.lease).saturating_sub(now)).filter(|left| *left > 0).collect()
    }

    fn open_length(&self) -> u64 {
        let (start, factor, max) = self.settings.open;
        let openings = self.changes.iter().rev().take_while(|(_, state)| *state != Closed);
        let before = openings.filter(|(_, state)| *state == Open).count() as u32 - 1;
        factor.saturating_pow(before).saturating_mul(start).min(max)
    }

    fn admit(&mut self, now: u64) -> (Result<(), Duration>, Option<Transition>) {
        let mut transition = None;
        if self.state() == Open && now >= self.since() + self.open_length() {
            transition = self.change(now, HalfOpen);
        } else if self.state() == HalfOpen && now >= self.since() + self.settings.max_half_open {
            let (succeeded, failed) = self.decided();
            let failing = succeeded + failed == 0 || self.settings.too_many(failed, succeeded + failed);
            transition = self.change(now, if failing { Open } else { Closed });
        }
        let leases = self.leases(now);
        let (succeeded, failed) = self.decided();
        let refusal = match self.state() {
            Open => Some(ms(self.since() + self.open_length() - now)),
            ForcedOpen => Some(Duration::MAX),
            HalfOpen if succeeded + failed + leases.len() as u64 >= u64::from(self.settings.permits) => {
                Some(ms(leases.into_iter().min().expect("a probe is running").min(1000)))
            }
            _ => None,
        };
        if let Some(wait) = refusal {
            return (Err(wait), transition);
        }
        self.calls.push(Call { era: self.era(), admitted: now, end: None, counted: false });
        (Ok(()), transition)
    }

    fn settle(&mut self, now: u64, call: usize, outcome: Outcome) -> Option<Transition> {
        let says_something = !matches!(outcome, Outcome::Cancelled | Outcome::Rejected);
        let (era, state) = (self.era(), self.state());
        let settled = &mut self.calls[call];
        settled.end = Some((now, outcome));
        self.ended.push(call);
        let lost = state == HalfOpen && now >= settled.admitted + self.settings.lease;
        if settled.era != era || lost {
            self.late += u64::from(says_something);
            return None;
        }
        settled.counted = says_something && state != ForcedClosed;
        if !settled.counted {
            return None;
        }
        if state == HalfOpen {
            let (succeeded, failed) = self.decided();
            let permits = u64::from(self.settings.permits);
            let opens =
                |failed| failed > 0 && (self.settings.rate.is_none() || self.settings.too_many(failed, permits));
            let most = permits - succeeded;
            return match () {
                () if opens(failed) => self.change(now, Open),
                // Even if all that are left failed, it would not open.
                () if !opens(most) => self.change(now, Closed),
                () => None,
            };
        }
        let (calls, failures) = self.window(now);
        let by_rate = calls >= u64::from(self.settings.min_calls) && self.settings.too_many(failures, calls);
        let by_run = self.settings.consecutive.is_some_and(|run| self.run() >= run);
        if by_rate || by_run { self.change(now, Open) } else { None }
    }

    fn force(&mut self, now: u64, to: BreakerState) -> Option<Transition> {
        if self.state() == to && to != Closed {
            return None;
        }
        self.change(now, to).filter(|transition| transition.from != transition.to)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Settle(usize, Outcome),
    Force(BreakerState),
}

fn settings() -> impl Strategy<Value = Settings> {
    let window = (1..20_u64, 1..8_u32, prop::option::of(1..10_u32));
    let rate = prop::option::weighted(0.8, (1..=10_u64).prop_flat_map(|b| (1..=b, Just(b))));
    let trip = (rate, 1..10_u32, prop::option::of(1..6_u32));
    let probes = (1..6_u32, 1..200_u64, 1..400_u64);
    let open = (1..50_u64, 1..4_u64, 0..300_u64);
    (window, trip, probes, open).prop_map(|((bucket, buckets, count), (rate, min_calls, run), probes, open)| Settings {
        bucket,
        buckets,
        count,
        rate,
        min_calls: count.map_or(min_calls, |count| min_calls.min(count)),
        consecutive: run.or(rate.is_none().then_some(3)),
        open: (open.0, open.1, open.0 + open.2),
        permits: probes.0,
        lease: probes.1,
        max_half_open: probes.2,
    })
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        6 => Just(Outcome::Failure(Failure::Server)),
        2 => Just(OVERLOAD),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Rejected),
    ];
    let force = prop_oneof![Just(Closed), Just(ForcedClosed), Just(ForcedOpen)];
    let step = prop_oneof![
        20 => Just(Step::Admit),
        20 => (any::<prop::sample::Index>(), outcome).prop_map(|(call, outcome)| Step::Settle(call.index(1 << 20), outcome)),
        1 => force.prop_map(Step::Force),
    ];
    let time = prop_oneof![6 => 0..3_u64, 3 => 0..40_u64, 1 => 0..500_u64];
    prop::collection::vec((time, step), 0..400)
}

proptest! {
    #[test]
    fn a_breaker_decides_as_a_replay_of_its_history_does(settings in settings(), steps in steps()) {
        let at = Clock::new();
        let mut breaker = Breaker::new(settings.config()).unwrap();
        let mut naive = Naive { settings, calls: Vec::new(), ended: Vec::new(), changes: Vec::new(), late: 0 };
        let (mut now, mut tickets, mut running) = (0, Vec::new(), Vec::new());
        for (delta, step) in steps {
            now += delta;
            match step {
                Step::Admit => {
                    let (admitted, transition) = breaker.admit(at.ms(now));
                    prop_assert_eq!((admitted.map(|_| ()), transition), naive.admit(now));
                    if let Ok(ticket) = admitted {
                        running.push(tickets.len());
                        tickets.push(ticket);
                    }
                }
                Step::Settle(_, _) if running.is_empty() => {}
                Step::Settle(call, outcome) => {
                    let call = running.swap_remove(call % running.len());
                    let transition = breaker.settle(at.ms(now), tickets[call], outcome, 0);
                    prop_assert_eq!(transition, naive.settle(now, call, outcome));
                }
                Step::Force(ForcedOpen) => prop_assert_eq!(breaker.force_open(at.ms(now)), naive.force(now, ForcedOpen)),
                Step::Force(ForcedClosed) => prop_assert_eq!(breaker.force_close(at.ms(now)), naive.force(now, ForcedClosed)),
                Step::Force(_) => prop_assert_eq!(breaker.reset(at.ms(now)), naive.force(now, Closed)),
            }
            let snapshot = breaker.snapshot(at.ms(now));
            prop_assert_eq!((snapshot.state, snapshot.era), (naive.state(), naive.era() as u64));
            prop_assert_eq!((snapshot.calls, snapshot.failures), naive.window(now));
            prop_assert_eq!((snapshot.consecutive, snapshot.late_results), (naive.run(), naive.late));
            if snapshot.state == HalfOpen {
                let decided = (u64::from(snapshot.probes_succeeded), u64::from(snapshot.probes_failed));
                prop_assert_eq!(decided, naive.decided());
                prop_assert!(snapshot.probes_in_flight <= naive.settings.permits);
            }
        }
    }
}
