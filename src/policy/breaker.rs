//! Whether to call a peer that keeps failing: the circuit breaker.
//!
//! ```text
//!            too many failures            open time over
//!   Closed --------------------> Open --------------------> HalfOpen
//!      ^                           ^                          |  |
//!      |                           +--------------------------+  |
//!      |                             too many probes fail        |
//!      +---------------------------------------------------------+
//!                          enough probes succeed
//! ```
//!
//! Each change of state begins an *era*, and a call's ticket names the era it was admitted in. What a call of an
//! earlier era says is dropped: a slow success from before the trip must not close a breaker whose probes fail. A
//! probe that neither ends nor is dropped loses its place after a lease, so a stream that never ends cannot keep the
//! breaker half open.
//!
//! Everything is lazy: an open breaker turns half open when it is next asked, not by a timer.

use std::time::Duration;

use crate::error::ConfigError;
use crate::event::BreakerState;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::policy::backoff::Backoff;
use crate::policy::backoff::BackoffConfig;
use crate::policy::window::Totals;
use crate::policy::window::Window;
use crate::time::Instant;

pub use crate::policy::breaker_config::BreakerConfig;
pub use crate::policy::breaker_config::OpenFor;

/// A closed, open or half-open circuit.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    open_for: BackoffConfig,
    // The failed probes that open it.
    trip_at: u32,
    window: Window,
    run: u32,
    state: State,
    era: u64,
    since: Option<Instant>,
    backoff: Backoff,
    // Capacity for all permits, so that nothing is allocated later.
    probes: Vec<Probe>,
    last_probe: u64,
    late_results: u64,
    // The random number of the last trip, for the one opening that no call's end brings about.
    spare: u64,
}

/// The right to make one call, to be given back with its outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    era: u64,
    // 0 if the call is not a probe.
    probe: u64,
}

/// A change of state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The state before.
    pub from: BreakerState,
    /// The state now.
    pub to: BreakerState,
}

/// What a breaker knows, at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The state.
    pub state: BreakerState,
    /// Counts the changes of state.
    pub era: u64,
    /// The calls in the window.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// The failures in a row.
    pub consecutive: u32,
    /// When an open breaker lets the first probe through.
    pub open_until: Option<Instant>,
    /// When the state last changed, or nothing if it never did.
    pub since: Option<Instant>,
    /// Results that were dropped because their call was admitted in an earlier era or lost its lease.
    pub late_results: u64,
    /// The probes that are running.
    pub probes_in_flight: u32,
    /// The probes that succeeded since it is half open.
    pub probes_succeeded: u32,
    /// The probes that failed since it is half open.
    pub probes_failed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Closed,
    Open { since: Instant, length: Duration },
    HalfOpen(Trial),
    ForcedClosed,
    ForcedOpen,
}

/// The probes that have ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trial {
    since: Instant,
    succeeded: u32,
    failed: u32,
}

/// A probe that is running.
#[derive(Clone, Copy, Debug)]
struct Probe {
    id: u64,
    since: Instant,
}

/// The longest that a caller is told to wait when all probes are out: one of them may end any moment.
const MAX_BUSY_WAIT: Duration = Duration::from_secs(1);

impl Breaker {
    /// Makes a breaker that is closed.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range, or nothing could open it.
    pub fn new(config: BreakerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            open_for: config.open_for.backoff(),
            trip_at: config.trip_at(),
            window: Window::new(config.window)?,
            run: 0,
            state: State::Closed,
            era: 0,
            since: None,
            backoff: Backoff::default(),
            probes: Vec::with_capacity(config.half_open_permits as usize),
            last_probe: 0,
            late_results: 0,
            spare: 0,
            config,
        })
    }

    /// Asks for a call.
    ///
    /// A refusal says how long it is until asking again may help: [`Duration::MAX`] if it is forced open, when only a
    /// reset does. The change of state, if the time for one had come, is returned in both cases.
    #[inline]
    pub fn admit(&mut self, now: Instant) -> (Result<Ticket, Duration>, Option<Transition>) {
        let transition = self.wake(now);
        let admitted = match self.state {
            State::Closed | State::ForcedClosed => Ok(Ticket { era: self.era, probe: 0 }),
            State::Open { since, length } => Err(length.saturating_sub(now.saturating_duration_since(since))),
            State::HalfOpen(trial) => self.admit_probe(now, trial),
            State::ForcedOpen => Err(Duration::MAX),
        };
        (admitted, transition)
    }

    /// Counts how a call ended. `random` spreads the open time, should this be the end that opens the breaker.
    #[inline]
    pub fn settle(&mut self, now: Instant, ticket: Ticket, outcome: Outcome, random: u64) -> Option<Transition> {
        if ticket.era != self.era {
            self.late_results += u64::from(says_something(outcome));
            return None;
        }
        match (self.state, outcome) {
            (State::HalfOpen(trial), _) => self.settle_probe(now, trial, ticket, outcome, random),
            (State::Closed, Outcome::Success) => {
                self.run = 0;
                self.count(now, false, random)
            }
            (State::Closed, Outcome::Failure(Failure::Overload)) => self.count(now, true, random),
            (State::Closed, Outcome::Failure(_)) => {
                self.run = self.run.saturating_add(1);
                self.count(now, true, random)
            }
            (State::Closed, Outcome::Cancelled | Outcome::Rejected) => None,
            // Forced closed counts nothing; while it is open, no ticket of this era exists.
            (State::ForcedClosed | State::Open { .. } | State::ForcedOpen, _) => None,
        }
    }

    /// The state. It says open until a call is admitted, though the open time may be over.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen(_) => BreakerState::HalfOpen,
            State::ForcedClosed => BreakerState::ForcedClosed,
            State::ForcedOpen => BreakerState::ForcedOpen,
        }
    }

    /// All it knows.
    #[must_use]
    pub fn snapshot(&mut self, now: Instant) -> BreakerSnapshot {
        let Totals { calls, failures } = self.window.totals(now);
        let (probes_succeeded, probes_failed) = match self.state {
            State::HalfOpen(trial) => (trial.succeeded, trial.failed),
            _ => (0, 0),
        };
        BreakerSnapshot {
            state: self.state(),
            era: self.era,
            calls,
            failures,
            consecutive: self.run,
            open_until: self.open_until(),
            since: self.since,
            late_results: self.late_results,
            probes_in_flight: u32::try_from(self.probes.len()).unwrap_or(u32::MAX),
            probes_succeeded,
            probes_failed,
        }
    }

    /// When an open breaker lets the first probe through. Nothing if it is not open.
    #[must_use]
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { since, length } => since.checked_add(length),
            _ => None,
        }
    }

    /// Admits nothing until it is reset or forced closed.
    pub fn force_open(&mut self, now: Instant) -> Option<Transition> {
        self.force(now, State::ForcedOpen)
    }

    /// Admits everything, and counts nothing, until it is reset or forced open.
    pub fn force_close(&mut self, now: Instant) -> Option<Transition> {
        self.force(now, State::ForcedClosed)
    }

    /// Starts anew: closed, with an empty window. What running calls say is dropped.
    pub fn reset(&mut self, now: Instant) -> Option<Transition> {
        let transition = self.close(now);
        (transition.from != transition.to).then_some(transition)
    }

    /// Makes the changes of state that time brings about.
    #[inline]
    fn wake(&mut self, now: Instant) -> Option<Transition> {
        match self.state {
            State::Open { since, length } if now.saturating_duration_since(since) >= length => {
                Some(self.enter(now, State::HalfOpen(Trial { since: now, succeeded: 0, failed: 0 })))
            }
            State::HalfOpen(trial) if now.saturating_duration_since(trial.since) >= self.config.max_half_open => {
                let seen = Totals {
                    calls: u64::from(trial.succeeded) + u64::from(trial.failed),
                    failures: u64::from(trial.failed),
                };
                // Without a rate one failed probe has opened it already.
                let failing = self.config.failure_rate.is_some_and(|rate| seen.failure_rate() >= rate);
                // Knuth's generator: each such opening in a row spreads differently.
                let random = self.spare.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Some(if seen.calls == 0 || failing { self.open(now, random) } else { self.close(now) })
            }
            _ => None,
        }
    }

    fn admit_probe(&mut self, now: Instant, trial: Trial) -> Result<Ticket, Duration> {
        self.reclaim(now);
        let taken = trial.succeeded as usize + trial.failed as usize + self.probes.len();
        if taken < self.config.half_open_permits as usize {
            self.last_probe += 1;
            self.probes.push(Probe { id: self.last_probe, since: now });
            return Ok(Ticket { era: self.era, probe: self.last_probe });
        }
        let lease = self.config.probe_lease;
        let waits = self.probes.iter().map(|probe| lease.saturating_sub(now.saturating_duration_since(probe.since)));
        Err(waits.min().unwrap_or(MAX_BUSY_WAIT).min(MAX_BUSY_WAIT))
    }

    fn settle_probe(
        &mut self,
        now: Instant,
        mut trial: Trial,
        ticket: Ticket,
        outcome: Outcome,
        random: u64,
    ) -> Option<Transition> {
        self.reclaim(now);
        let Some(place) = self.probes.iter().position(|probe| probe.id == ticket.probe) else {
            self.late_results += u64::from(says_something(outcome));
            return None;
        };
        self.probes.swap_remove(place);
        match outcome {
            Outcome::Success => trial.succeeded += 1,
            Outcome::Failure(_) => trial.failed += 1,
            Outcome::Cancelled | Outcome::Rejected => return None,
        }
        self.state = State::HalfOpen(trial);
        // With P permits, P - T + 1 successes leave too few for T failures; so P results always decide.
        if trial.failed >= self.trip_at {
            Some(self.open(now, random))
        } else if trial.succeeded > self.config.half_open_permits - self.trip_at {
            Some(self.close(now))
        } else {
            None
        }
    }

    #[inline]
    fn count(&mut self, now: Instant, failed: bool, random: u64) -> Option<Transition> {
        let totals = self.window.record(now, failed);
        let by_rate = self
            .config
            .failure_rate
            .is_some_and(|rate| totals.calls >= u64::from(self.config.min_calls) && totals.failure_rate() >= rate);
        let by_run = self.config.consecutive.is_some_and(|run| self.run >= run);
        (by_rate || by_run).then(|| self.open(now, random))
    }

    /// Takes back the places of probes whose lease is over.
    fn reclaim(&mut self, now: Instant) {
        let lease = self.config.probe_lease;
        self.probes.retain(|probe| now.saturating_duration_since(probe.since) < lease);
    }

    fn open(&mut self, now: Instant, random: u64) -> Transition {
        self.spare = random;
        let length = self.backoff.next(&self.open_for, random);
        self.enter(now, State::Open { since: now, length })
    }

    fn close(&mut self, now: Instant) -> Transition {
        self.window.clear();
        self.run = 0;
        self.backoff.reset();
        self.enter(now, State::Closed)
    }

    fn force(&mut self, now: Instant, state: State) -> Option<Transition> {
        (self.state != state).then(|| self.enter(now, state))
    }

    fn enter(&mut self, now: Instant, state: State) -> Transition {
        let from = self.state();
        self.state = state;
        self.era += 1;
        self.since = Some(now);
        self.probes.clear();
        Transition { from, to: self.state() }
    }
}

fn says_something(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Success | Outcome::Failure(_))
}
