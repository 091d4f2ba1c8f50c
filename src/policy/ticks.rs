//! Time in whole ticks, for rings of slots that expire one by one.

use std::time::Duration;

use crate::time::Instant;

/// Tells how many ticks of a fixed length have begun since it was last asked.
///
/// Every tick begins a whole number of lengths after the first. A clock that goes backwards stays in the current tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    length: Duration,
    start: Option<Instant>,
    // When the current tick is over, if time reaches that far.
    end: Option<Instant>,
}

impl Ticks {
    /// `length` must be between 1 ns and the 584 years that an `u64` of nanoseconds holds.
    pub(super) fn new(length: Duration) -> Self {
        Self { length, start: None, end: None }
    }

    /// Begins the first tick, if none has begun.
    #[inline]
    pub(super) fn start(&mut self, now: Instant) {
        if self.start.is_none() {
            self.begin(Some(now));
        }
    }

    /// Moves to the tick that `now` is in, and tells how many ticks that is further on. None before the first.
    #[inline]
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        // All that most calls have to ask.
        if self.end.is_some_and(|end| now < end) {
            return 0;
        }
        let Some(start) = self.start else { return 0 };
        let elapsed = now.saturating_duration_since(start);
        if elapsed < self.length {
            return 0;
        }
        let (elapsed, length) = (elapsed.as_nanos(), self.length.as_nanos());
        let into = Duration::from_nanos(u64::try_from(elapsed % length).unwrap_or(u64::MAX));
        self.begin(now.checked_sub(into));
        u64::try_from(elapsed / length).unwrap_or(u64::MAX)
    }

    fn begin(&mut self, start: Option<Instant>) {
        self.start = start;
        self.end = start.and_then(|start| start.checked_add(self.length));
    }
}
