//! Tests of the policies: the tables of their specifications, and properties against naive models.
//!
//! A naive model keeps the whole history and computes every answer from it anew. It is slow and obvious, and shares
//! no code with the policy.

mod backoff;
mod breaker;
mod breaker_model;
mod budget;
mod condition;
mod deadline;
mod extremes;
mod outlier;
mod outlier_model;
mod pick;
mod retry;
mod throttle;
mod window;

use std::time::Duration;

use mainstay::time::Instant;

/// Times of a test, counted from a moment that does not matter.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(mainstay::time::now())
    }

    fn ms(self, millis: u64) -> Instant {
        self.0 + ms(millis)
    }

    fn secs(self, seconds: f64) -> Instant {
        self.0 + secs(seconds)
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The random number whose fraction is `u`.
fn random(u: f64) -> u64 {
    (u * 2_f64.powi(64)) as u64
}
