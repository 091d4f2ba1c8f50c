//! Whether to make another attempt.
//!
//! Two kinds of retry are kept apart. A *transparent* one repeats a request that provably reached no application: it
//! needs no configuration, asks no budget and counts as no attempt (gRPC A6). A *policy* retry repeats a request that
//! may have been worked on, so somebody has to say so: by the conditions of the route, and by the method being
//! idempotent. The reason that is given when there is no other attempt is the one whose removal would help: a body
//! that is too large to repeat is blamed only if the attempt would have been repeated otherwise.

use std::time::Duration;

use crate::error::ConfigError;
use crate::event::Stop;
use crate::outcome::Ending;
use crate::outcome::Outcome;
use crate::outcome::Pushback;
use crate::outcome::Reach;
use crate::policy::backoff::Backoff;
use crate::policy::backoff::BackoffConfig;
use crate::policy::condition::Conditions;
use crate::policy::require;
use crate::time::Instant;

/// When attempts are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryConfig {
    /// The most attempts of one call, the first included, transparent ones not. Default 3: the second helps often,
    /// the third sometimes, more only add load. Allowed: 1 to 100; 1 never repeats.
    pub max_attempts: u32,
    /// The endings that are repeated. Default none, which leaves the transparent retries only.
    pub on: Conditions,
    /// The waits between attempts. Default [`BackoffConfig::default`].
    pub backoff: BackoffConfig,
    /// The longest wait that a peer may ask for. Default 5 s: whoever must be left alone for longer has failed the
    /// call. Raising it keeps calls waiting for longer. Allowed: any.
    pub max_pushback: Duration,
    /// The most transparent retries of one call. Default 3, so that a peer which closes every connection cannot keep
    /// a call busy. Allowed: 0 to 1000; 0 turns them off.
    pub max_transparent: u32,
    /// Whether a wait begins although the deadline comes before its end. Default false: the caller gets the failure
    /// at once. True is what gRPC clients do under a service config: the call ends at its deadline.
    pub wait_past_deadline: bool,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// How it ended.
    pub ending: Ending,
    /// Whether a part of the answer was already handed to the caller.
    pub committed: bool,
    /// Whether the whole request is still there to be sent again.
    pub replayable: bool,
    /// Whether the request may be worked on twice.
    pub idempotent: bool,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Make another one.
    Again {
        /// How long to wait before.
        after: Duration,
        /// Whether the request reached no application, so that the budget need not be asked.
        transparent: bool,
    },
    /// Hand the answer or the error to the caller.
    Done(Stop),
}

/// What one call remembers of its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryState {
    retries: u32,
    transparent: u32,
    refused: bool,
    backoff: Backoff,
    // Of its own, since transparent retries do not advance the policy's (A6).
    transparent_backoff: Backoff,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            on: Conditions::default(),
            backoff: BackoffConfig::default(),
            max_pushback: Duration::from_secs(5),
            max_transparent: 3,
            wait_past_deadline: false,
        }
    }
}

impl RetryConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require((1..=100).contains(&self.max_attempts), "max_attempts", self.max_attempts, "between 1 and 100")?;
        require(self.max_transparent <= 1000, "max_transparent", self.max_transparent, "at most 1000")?;
        self.on.validate()?;
        self.backoff.validate().map_err(|error| error.within("backoff"))
    }
}

impl RetryState {
    /// Decides about the attempt that ended at `now`, and counts the next one if there is to be one.
    ///
    /// The budget is not asked here: whoever gets [`Decision::Again`] asks it, unless the retry is transparent.
    #[inline]
    pub fn decide(
        &mut self,
        config: &RetryConfig,
        now: Instant,
        deadline: Option<Instant>,
        random: u64,
        attempt: &Attempt,
    ) -> Decision {
        let mut next = *self;
        match next.wait(config, now, deadline, random, attempt) {
            Ok((after, transparent)) => {
                *self = next;
                Decision::Again { after, transparent }
            }
            Err(stop) => Decision::Done(stop),
        }
    }

    /// The attempts made so far, the running one included and transparent ones not: 1 while the first runs.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    /// The number for the header `grpc-previous-rpc-attempts`, which the first attempt does not have.
    #[must_use]
    pub fn previous_attempts(&self) -> Option<u32> {
        (self.retries > 0).then_some(self.retries)
    }

    fn wait(
        &mut self,
        config: &RetryConfig,
        now: Instant,
        deadline: Option<Instant>,
        random: u64,
        attempt: &Attempt,
    ) -> Result<(Duration, bool), Stop> {
        let ending = &attempt.ending;
        let transparent = self.is_transparent(config, ending);
        match ending.outcome {
            Outcome::Cancelled => return Err(Stop::NotRetryable),
            Outcome::Rejected => return Err(Stop::Rejected),
            // A 408 or 409 says nothing against the peer, and may be worth another attempt all the same.
            Outcome::Success if !config.on.matches(ending) => return Err(Stop::Succeeded),
            Outcome::Failure(_) if !transparent && !config.on.matches(ending) => return Err(Stop::NotRetryable),
            Outcome::Success | Outcome::Failure(_) => {}
        }
        if attempt.committed {
            return Err(Stop::Committed);
        }
        let after = if transparent {
            self.transparent_wait(config, ending, random)
        } else {
            self.policy_wait(config, attempt, random)?
        };
        if !config.wait_past_deadline && outlasts(now, after, deadline) {
            return Err(Stop::DeadlineTooNear);
        }
        if !attempt.replayable {
            return Err(Stop::BodyTooLarge);
        }
        Ok((after, transparent))
    }

    fn is_transparent(&self, config: &RetryConfig, ending: &Ending) -> bool {
        let left = ending.outcome.is_failure() && self.transparent < config.max_transparent;
        match ending.reach {
            Reach::NotSent => left,
            // "the client library will immediately retry it once. If this fails, then the RPC will be handled by the
            // configured retry policy." - A6, Transparent Retries
            Reach::Unprocessed => left && !self.refused,
            Reach::Processed => false,
        }
    }

    fn transparent_wait(&mut self, config: &RetryConfig, ending: &Ending, random: u64) -> Duration {
        let at_once = self.transparent == 0 || ending.reach == Reach::Unprocessed;
        self.transparent += 1;
        self.refused |= ending.reach == Reach::Unprocessed;
        // Waiting from the second on: a peer that drops every connection must not make us spin.
        if at_once { Duration::ZERO } else { self.transparent_backoff.next(&config.backoff, random) }
    }

    fn policy_wait(&mut self, config: &RetryConfig, attempt: &Attempt, random: u64) -> Result<Duration, Stop> {
        // What no application saw can be repeated even if it may not be worked on twice.
        if !attempt.idempotent && attempt.ending.reach == Reach::Processed {
            return Err(Stop::NotIdempotent);
        }
        if self.attempts() >= config.max_attempts {
            return Err(Stop::AttemptsSpent);
        }
        let after = match attempt.ending.pushback {
            Some(Pushback::Stop) => return Err(Stop::PushedBack),
            Some(Pushback::After(after)) if after > config.max_pushback => return Err(Stop::PushedBack),
            Some(Pushback::After(after)) => {
                // The peer's number is taken as it is, and the schedule starts anew after it (A6).
                self.backoff.reset();
                after
            }
            None => self.backoff.next(&config.backoff, random),
        };
        self.retries += 1;
        Ok(after)
    }
}

fn outlasts(now: Instant, wait: Duration, deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| now.checked_add(wait).is_none_or(|then| then >= deadline))
}
