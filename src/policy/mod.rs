//! Policies: the rules, as plain values.
//!
//! A policy is a state machine without a clock, a lock, a runtime or a callback. The time and a random number come in
//! as arguments, a decision comes out, and a change of state is returned to whoever asked. So one rule serves
//! production, a test that steps through it by hand, and a simulation of a million calls in a second:
//!
//! ```
//! use std::time::Duration;
//!
//! use mainstay::Outcome;
//! use mainstay::outcome::Failure;
//! use mainstay::policy::Breaker;
//! use mainstay::policy::BreakerConfig;
//!
//! let now = mainstay::time::now();
//! let mut breaker = Breaker::new(BreakerConfig { consecutive: Some(1), ..BreakerConfig::default() })?;
//!
//! let ticket = breaker.admit(now).0.expect("it is closed");
//! breaker.settle(now, ticket, Outcome::Failure(Failure::Reset), 0);
//!
//! let wait = breaker.admit(now).0.expect_err("it is open");
//! assert!(breaker.admit(now + wait).0.is_ok(), "then a probe is let through");
//! # assert!(wait <= Duration::from_secs(5));
//! # Ok::<(), mainstay::ConfigError>(())
//! ```
//!
//! Three conventions hold for all of them. A clock that goes backwards is read as one that stands still. A
//! configuration is checked once, in `new` or `validate`, and its error names field, value and range. Arithmetic on
//! time and counters saturates, so no argument makes a policy panic.
//!
//! Guards put a lock, a name and an observer around a policy; layers drive guards.

pub mod backoff;
pub mod breaker;
mod breaker_config;
pub mod budget;
pub mod condition;
pub mod deadline;
pub mod outlier;
pub mod pick;
pub mod retry;
pub mod throttle;
mod ticks;
pub mod window;

use std::fmt;

use crate::error::ConfigError;

pub use backoff::Backoff;
pub use backoff::BackoffConfig;
pub use backoff::Jitter;
pub use backoff::Schedule;
pub use breaker::Breaker;
pub use breaker::BreakerConfig;
pub use breaker::BreakerSnapshot;
pub use breaker::OpenFor;
pub use breaker::Ticket;
pub use breaker::Transition;
pub use budget::Budget;
pub use budget::BudgetConfig;
pub use condition::Condition;
pub use condition::Conditions;
pub use outlier::Ejection;
pub use outlier::OutlierConfig;
pub use pick::Load;
pub use pick::PeakEwma;
pub use pick::RoundRobin;
pub use retry::Attempt;
pub use retry::Decision;
pub use retry::RetryConfig;
pub use retry::RetryState;
pub use throttle::Throttle;
pub use throttle::ThrottleConfig;
pub use window::Totals;
pub use window::Window;
pub use window::WindowConfig;

/// Turns a setting that is out of its range into an error.
fn require(holds: bool, field: &str, value: impl fmt::Display, allowed: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(field, value, allowed)) }
}
