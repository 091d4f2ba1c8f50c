//! How long to wait before trying again.
//!
//! The schedule is configuration and may be shared; what one call has to remember of it is a [`Backoff`], two words
//! that are copied with the call. Delays are computed in `f64` seconds, which saturate where integers would overflow.

use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::require;
use crate::rng::fraction;

/// How waits grow from one attempt to the next, and how they are spread.
///
/// # Defaults
///
/// Envoy's: exponential from 25 ms, doubling up to 250 ms, with full jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffConfig {
    /// The waits before jitter. Default exponential, 25 ms times 2 up to 250 ms.
    pub schedule: Schedule,
    /// How waits are spread, so that clients who failed together do not come back together. Default
    /// [`Jitter::Full`]. Allowed: only [`Jitter::None`] with a decorrelated schedule, which draws its own.
    pub jitter: Jitter,
}

/// How waits grow. `i` is 0 for the first wait, `u` is random in `0.0..1.0`.
///
/// Any `base` is allowed, zero too; `max` must not be below it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Always `delay`.
    Constant {
        /// The wait.
        delay: Duration,
    },
    /// `base * (i + 1)`, at most `max`.
    Linear {
        /// The first wait, and how much each next one is longer.
        base: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// `base * factor^i`, at most `max`.
    Exponential {
        /// The first wait.
        base: Duration,
        /// How many times longer each next one is. Allowed: 1.0 to 100.0.
        factor: f64,
        /// The longest wait.
        max: Duration,
    },
    /// `base + u * (3 * previous - base)`, at most `max`: the "decorrelated jitter" of the AWS architecture blog.
    Decorrelated {
        /// The shortest wait, and the one that counts as previous to the first.
        base: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// Polly's second version of it: smooth in `i + u`, so that waits of many clients spread without bunches. With
    /// `t = i + u` and `g(t) = 2^t * tanh(sqrt(4t))` a wait is `base * (g(t) - g(previous t)) / 1.4`, at most `max`.
    DecorrelatedV2 {
        /// The median of the first wait.
        base: Duration,
        /// The longest wait.
        max: Duration,
    },
}

/// How a wait `d` is spread. `u` is random in `0.0..1.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// `d`.
    None,
    /// `u * d`: anything up to it. The least load on a peer that comes back.
    Full,
    /// `d / 2 + u * d / 2`: at least half of it.
    Equal,
    /// `d * (1 - p + 2pu)`: up to the fraction `p` shorter or longer, so it may exceed `max`. gRPC uses 0.2 (A6).
    /// Allowed: 0.0 to 1.0.
    Proportional(f64),
}

/// Where one call is in its schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backoff {
    step: u32,
    // What a decorrelated schedule remembers: the previous wait in seconds, or the previous g(t).
    previous: f64,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::Exponential {
                base: Duration::from_millis(25),
                factor: 2.0,
                max: Duration::from_millis(250),
            },
            jitter: Jitter::Full,
        }
    }
}

impl BackoffConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.schedule {
            Schedule::Constant { .. } => {}
            Schedule::Linear { base, max } => check_max(base, max)?,
            Schedule::Exponential { base, factor, max } => {
                require((1.0..=100.0).contains(&factor), "factor", factor, "between 1.0 and 100.0")?;
                check_max(base, max)?;
            }
            Schedule::Decorrelated { base, max } | Schedule::DecorrelatedV2 { base, max } => {
                check_max(base, max)?;
                let name = format_args!("{:?}", self.jitter);
                require(self.jitter == Jitter::None, "jitter", name, "none: a decorrelated schedule has its own")?;
            }
        }
        match self.jitter {
            Jitter::None | Jitter::Full | Jitter::Equal => Ok(()),
            Jitter::Proportional(p) => require((0.0..=1.0).contains(&p), "jitter", p, "between 0.0 and 1.0"),
        }
    }
}

impl Backoff {
    /// The next wait, for a `random` number that is drawn anew for each.
    ///
    /// No configuration makes it panic; one that was not validated may give strange waits.
    #[must_use]
    pub fn next(&mut self, config: &BackoffConfig, random: u64) -> Duration {
        let (i, u) = (self.step, fraction(random));
        self.step = i.saturating_add(1);
        let delay = match config.schedule {
            Schedule::Constant { delay } => delay,
            Schedule::Linear { base, max } => base.checked_mul(self.step).map_or(max, |delay| delay.min(max)),
            Schedule::Exponential { base, .. } if base.is_zero() => base,
            Schedule::Exponential { base, factor, max } => {
                seconds(base.as_secs_f64() * factor.powi(i32::try_from(i).unwrap_or(i32::MAX))).min(max)
            }
            Schedule::Decorrelated { base, max } => {
                let shortest = base.as_secs_f64();
                let previous = if i == 0 { shortest } else { self.previous };
                let delay = seconds(shortest + u * (3.0 * previous - shortest)).min(max);
                self.previous = delay.as_secs_f64();
                return delay;
            }
            Schedule::DecorrelatedV2 { base, .. } if base.is_zero() => base,
            Schedule::DecorrelatedV2 { base, max } => {
                let t = f64::from(i) + u;
                let g = t.exp2() * (4.0 * t).sqrt().tanh();
                // Past 2^1024 the difference of two infinities would be no number.
                let growth = if g.is_finite() { (g - self.previous).max(0.0) } else { f64::INFINITY };
                self.previous = g;
                return seconds(growth / 1.4 * base.as_secs_f64()).min(max);
            }
        };
        match config.jitter {
            Jitter::None => delay,
            Jitter::Full => seconds(u * delay.as_secs_f64()),
            Jitter::Equal => seconds((0.5 + 0.5 * u) * delay.as_secs_f64()),
            Jitter::Proportional(p) => seconds((1.0 - p + 2.0 * p * u) * delay.as_secs_f64()),
        }
    }

    /// Starts the schedule anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn check_max(base: Duration, max: Duration) -> Result<(), ConfigError> {
    require(max >= base, "max", format_args!("{max:?}"), "at least as long as `base`")
}

/// A duration of so many seconds: zero for none, fewer or no number, the longest there is for too many.
pub(super) fn seconds(seconds: f64) -> Duration {
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}
