//! Time in whole ticks, for rings of slots that expire one by one.

use std::time::Duration;

use crate::time::Instant;

/// Tells how many ticks of a fixed length have begun since it was last asked.
///
/// The first question starts the first tick, and every later tick begins a whole number of lengths after it. A clock
/// that goes backwards stays in the current tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    length: Duration,
    start: Option<Instant>,
}

impl Ticks {
    /// `length` must be between 1 ns and the 584 years that an `u64` of nanoseconds holds.
    pub(super) fn new(length: Duration) -> Self {
        Self { length, start: None }
    }

    /// Tells whether the first tick has begun.
    pub(super) fn has_started(&self) -> bool {
        self.start.is_some()
    }

    /// Moves to the tick that `now` is in, and tells how many ticks that is further on.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let Some(start) = self.start else {
            self.start = Some(now);
            return 0;
        };
        let elapsed = now.saturating_duration_since(start);
        if elapsed < self.length {
            return 0;
        }
        let (elapsed, length) = (elapsed.as_nanos(), self.length.as_nanos());
        let into = Duration::from_nanos(u64::try_from(elapsed % length).unwrap_or(u64::MAX));
        self.start = now.checked_sub(into);
        u64::try_from(elapsed / length).unwrap_or(u64::MAX)
    }
}
