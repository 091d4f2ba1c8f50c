//! Arithmetic on deadlines: no deadline is `None`, and nothing overflows.

use std::time::Duration;

use crate::time::Instant;

/// The deadline of a call that starts `now` and may take `timeout`.
///
/// None if that is later than the clock can say; [`Duration::MAX`] always is.
#[must_use]
pub fn deadline_after(now: Instant, timeout: Duration) -> Option<Instant> {
    if timeout == Duration::MAX { None } else { now.checked_add(timeout) }
}

/// The stricter of two deadlines.
#[must_use]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// How long there is until `deadline`: zero if it has passed.
#[must_use]
pub fn remaining(now: Instant, deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now)
}

/// Tells whether `deadline` has come. At the deadline itself it has.
#[must_use]
pub fn is_past(now: Instant, deadline: Instant) -> bool {
    now >= deadline
}
