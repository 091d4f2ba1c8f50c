//! Ejection against a model that keeps every outcome and every ejection, and derives all else from them.

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::policy::Ejection;
use mainstay::policy::OutlierConfig;
use proptest::prelude::*;

use crate::Clock;
use crate::ms;

/// Settings in whole milliseconds.
#[derive(Clone, Copy, Debug)]
struct Settings {
    failures: u32,
    interval: u64,
    base: u64,
    max: u64,
}

struct Naive {
    settings: Settings,
    /// When, how, and whether it was the one too many.
    outcomes: Vec<(u64, Outcome, bool)>,
    /// From when to when.
    ejections: Vec<(u64, u64)>,
    told: usize,
}

impl Naive {
    fn last_end(&self) -> u64 {
        self.ejections.last().map_or(0, |(_, end)| *end)
    }

    fn is_ejected(&self, now: u64) -> bool {
        now < self.last_end()
    }

    fn is_on_probation(&self, now: u64) -> bool {
        let end = self.last_end();
        end > 0 && (end..end + self.settings.base).contains(&now)
    }

    fn streak(&self) -> u32 {
        let counted = self.outcomes.iter().filter(|(at, outcome, _)| {
            let ejected = self.ejections.iter().any(|(start, end)| (start..end).contains(&at));
            !ejected && !matches!(outcome, Outcome::Cancelled | Outcome::Rejected)
        });
        let since = counted
            .rev()
            .take_while(|(at, outcome, too_many)| *at >= self.last_end() && outcome.is_failure() && !too_many);
        since.count() as u32
    }

    fn settle(&mut self, now: u64, outcome: Outcome) -> bool {
        self.outcomes.push((now, outcome, false));
        if self.is_ejected(now) || !outcome.is_failure() {
            return false;
        }
        let half = if self.is_on_probation(now) { 2 } else { 1 };
        // Twice the streak, so that half of an odd number needs no rounding.
        let too_many = self.streak() * half >= self.settings.failures;
        self.outcomes.last_mut().expect("just pushed").2 = too_many;
        too_many
    }

    fn eject(&mut self, now: u64) -> u64 {
        if self.is_ejected(now) {
            return self.last_end() - now;
        }
        let Settings { interval, base, max, .. } = self.settings;
        let starts = self.ejections.iter().map(|(start, _)| *start).chain([now]);
        let ends = [0].into_iter().chain(self.ejections.iter().map(|(_, end)| *end));
        let times = starts.zip(ends).fold(0, |times: u64, (start, end)| {
            let times = times.saturating_sub((start - end) / interval);
            if base * times < max { times + 1 } else { times }
        });
        let length = (base * times).min(max);
        self.ejections.push((now, now + length));
        length
    }

    fn release(&mut self, now: u64) -> bool {
        let over = self.ejections.iter().filter(|(_, end)| *end <= now).count();
        let returned = over > self.told;
        self.told += usize::from(returned);
        returned
    }
}

#[derive(Clone, Debug)]
enum Step {
    Settle(Outcome),
    Eject,
    Release,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        10 => Just(Step::Settle(Outcome::Failure(Failure::Server))),
        2 => Just(Step::Settle(Outcome::Success)),
        1 => Just(Step::Settle(Outcome::Cancelled)),
        1 => Just(Step::Settle(Outcome::Rejected)),
        1 => Just(Step::Eject),
        3 => Just(Step::Release),
    ];
    prop::collection::vec((prop_oneof![4 => 0..5_u64, 3 => 0..40_u64, 1 => 0..400_u64], step), 0..300)
}

proptest! {
    #[test]
    fn an_endpoint_is_out_when_a_replay_of_its_history_says_so(
        failures in 1..8_u32, interval in 1..50_u64, base in 1..60_u64, more in 0..200_u64,
        obey in any::<bool>(), steps in steps(),
    ) {
        let at = Clock::new();
        let config = OutlierConfig {
            consecutive_failures: failures,
            interval: ms(interval),
            base_ejection_time: ms(base),
            max_ejection_time: ms(base + more),
            ejection_jitter: 0.0,
            ..OutlierConfig::default()
        };
        prop_assert!(config.validate().is_ok());
        let settings = Settings { failures, interval, base, max: base + more };
        let mut naive = Naive { settings, outcomes: Vec::new(), ejections: Vec::new(), told: 0 };
        let mut ejection = Ejection::default();
        let mut now = 0;
        for (delta, step) in steps {
            now += delta;
            let time = at.ms(now);
            match step {
                Step::Settle(outcome) => {
                    let too_many = ejection.settle(&config, time, outcome);
                    prop_assert_eq!(too_many, naive.settle(now, outcome));
                    if too_many && obey {
                        prop_assert_eq!(ejection.eject(&config, time, 0), ms(naive.eject(now)));
                    }
                }
                Step::Eject => prop_assert_eq!(ejection.eject(&config, time, 0), ms(naive.eject(now))),
                Step::Release => prop_assert_eq!(ejection.release(&config, time), naive.release(now)),
            }
            prop_assert_eq!(ejection.is_ejected(time), naive.is_ejected(now));
            prop_assert_eq!(ejection.is_on_probation(&config, time), naive.is_on_probation(now));
        }
    }
}
