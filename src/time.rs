//! The one place that reads a clock.
//!
//! Time comes from tokio, so `tokio::time::pause` and a simulator drive everything in this crate. Policies never
//! call [`now`]: they take an [`Instant`] as an argument.

pub use tokio::time::Instant;

/// Reads the clock.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place that may
pub fn now() -> Instant {
    Instant::now()
}
