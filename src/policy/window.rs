//! How many of the last calls failed.
//!
//! A window over time is a ring of buckets; each holds the counts of one slice of the period, and the oldest is
//! cleared when its slice is over. So the counts are exact for a period that ends with the current slice, a record
//! costs one addition, and memory does not grow with traffic. Rejected: an exponentially decaying rate, which cannot
//! say how many calls it stands for, so that no minimum of calls can be asked of it.

use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::require;
use crate::policy::ticks::Ticks;
use crate::time::Instant;

/// Which calls a [`Window`] looks back on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WindowConfig {
    /// Those of the last while.
    Time {
        /// How far back it reaches. Default 10 s; longer reacts later and forgives later. Allowed: 1 ms to 1 day.
        period: Duration,
        /// How many slices the period is cut into. Default 10; more slices expire in finer steps and take more
        /// memory (16 bytes each). Allowed: 1 to 1000.
        buckets: u32,
    },
    /// The last so many, however old. Suits traffic so rare that a period would be empty. Allowed: 1 to 1,000,000.
    Count(u32),
}

/// Counts calls and failures over a period or over a number of calls.
#[derive(Clone, Debug)]
pub struct Window {
    samples: Samples,
    totals: Totals,
}

/// The counts of a [`Window`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// The calls that were recorded, failed or not.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

#[derive(Clone, Debug)]
enum Samples {
    Time { ticks: Ticks, buckets: Box<[Totals]>, current: usize },
    Count { failed: Box<[u64]>, size: u32, next: u32 },
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self::Time { period: Duration::from_secs(10), buckets: 10 }
    }
}

impl WindowConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Time { period, buckets } => {
                let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
                require(allowed.contains(&period), "period", format_args!("{period:?}"), "between 1 ms and 1 day")?;
                require((1..=1000).contains(&buckets), "buckets", buckets, "between 1 and 1000")
            }
            Self::Count(count) => require((1..=1_000_000).contains(&count), "count", count, "between 1 and 1000000"),
        }
    }
}

impl Window {
    /// Makes an empty window. It allocates here and never again.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn new(config: WindowConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let samples = match config {
            WindowConfig::Time { period, buckets } => Samples::Time {
                ticks: Ticks::new(period / buckets),
                buckets: vec![Totals::default(); buckets as usize].into(),
                current: 0,
            },
            WindowConfig::Count(size) => {
                Samples::Count { failed: vec![0; size.div_ceil(u64::BITS) as usize].into(), size, next: 0 }
            }
        };
        Ok(Self { samples, totals: Totals::default() })
    }

    /// Adds a call that ended at `now`, and tells the counts with it.
    #[inline]
    pub fn record(&mut self, now: Instant, failed: bool) -> Totals {
        self.expire(now);
        match &mut self.samples {
            Samples::Time { ticks, buckets, current } => {
                ticks.start(now);
                buckets[*current].add(failed);
            }
            Samples::Count { failed: bits, size, next } => {
                let (word, bit) = ((*next / u64::BITS) as usize, 1 << (*next % u64::BITS));
                if self.totals.calls == u64::from(*size) {
                    self.totals.calls -= 1;
                    self.totals.failures -= u64::from(bits[word] & bit != 0);
                }
                bits[word] = if failed { bits[word] | bit } else { bits[word] & !bit };
                *next = (*next + 1) % *size;
            }
        }
        self.totals.add(failed);
        self.totals
    }

    /// The counts as of `now`.
    #[must_use]
    #[inline]
    pub fn totals(&mut self, now: Instant) -> Totals {
        self.expire(now);
        self.totals
    }

    /// Forgets every call.
    pub fn clear(&mut self) {
        self.totals = Totals::default();
        // A ring over a number of calls may begin anywhere.
        if let Samples::Time { buckets, .. } = &mut self.samples {
            buckets.fill(Totals::default());
        }
    }

    #[inline]
    fn expire(&mut self, now: Instant) {
        let Samples::Time { ticks, buckets, current } = &mut self.samples else { return };
        let steps = ticks.advance(now);
        if steps >= buckets.len() as u64 {
            buckets.fill(Totals::default());
            self.totals = Totals::default();
            return;
        }
        for _ in 0..steps {
            *current = (*current + 1) % buckets.len();
            let expired = std::mem::take(&mut buckets[*current]);
            self.totals.calls -= expired.calls;
            self.totals.failures -= expired.failures;
        }
    }
}

impl Totals {
    /// The share of calls that failed, from 0.0 to 1.0; 0.0 if there were none.
    #[must_use]
    #[inline]
    pub fn failure_rate(self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.failures as f64 / self.calls as f64 }
    }

    #[inline]
    fn add(&mut self, failed: bool) {
        self.calls += 1;
        self.failures += u64::from(failed);
    }
}
