//! Which endpoints of many to leave alone for a while: ejection for consecutive failures, after Envoy's outlier
//! detection.
//!
//! Three things differ from Envoy, each because of a measured defect. The outcome of an attempt is counted when it
//! ends, so a failing gRPC status in the trailers counts. One endpoint may always be ejected, whatever the percentage
//! says of small clusters, and the last one never. An ejection ends at its exact time and not at the next tick of an
//! interval, and is followed by a probation in which half as many failures eject again.

use std::time::Duration;

use crate::error::ConfigError;
use crate::outcome::Outcome;
use crate::policy::backoff::seconds;
use crate::policy::require;
use crate::rng::fraction;
use crate::time::Instant;

/// When endpoints are ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierConfig {
    /// The failures in a row that eject. Default 5; fewer eject sooner and more often by accident. Allowed: 1 to
    /// 1,000,000.
    pub consecutive_failures: u32,
    /// How long an endpoint stays in service for its next ejection to be one step shorter. Default 10 s; longer
    /// remembers old ejections for longer. Allowed: 1 ms to 1 day.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th lasts n times as long. Also the length of the probation after
    /// each. Default 30 s; longer spares a failing endpoint and does without a recovered one for longer. Allowed: 1 ms
    /// to 1 day.
    pub base_ejection_time: Duration,
    /// The longest ejection, before jitter. Default 300 s. Allowed: `base_ejection_time` to 1 day.
    pub max_ejection_time: Duration,
    /// The share of endpoints that may be ejected at the same time, in percent, rounded down, but always one.
    /// Default 10; higher loses more capacity to failures that are not the endpoints' own. Allowed: 1 to 100.
    pub max_ejection_percent: u32,
    /// The fraction by which an ejection may be longer, at random, so that endpoints ejected together do not return
    /// together. Default 0.1. Allowed: 0.0 to 1.0.
    pub ejection_jitter: f64,
}

/// What is known of one endpoint's failures.
///
/// Time passes for it in each of its methods that takes `now`, with the same result whether they are called often or
/// not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ejection {
    run: u32,
    // How many times the base the last ejection lasted, less one for each interval in service since.
    multiplier: u32,
    out: Option<Out>,
    // When its last ejection ended, moved on by whole intervals as the multiplier shrinks.
    healthy_since: Option<Instant>,
    probation: Option<Out>,
    // Ejections that are over and were not told yet.
    returned: u32,
}

/// A span of time, kept as start and length, since an end might be later than the clock can say.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Out {
    since: Instant,
    length: Duration,
}

/// Tells whether one more of `total` endpoints may be ejected when `ejected` of them are.
///
/// As many as `max_ejection_percent`, rounded down, but always one, and never the last that is left.
#[must_use]
pub fn may_eject(config: &OutlierConfig, total: usize, ejected: usize) -> bool {
    let share = total as u128 * u128::from(config.max_ejection_percent) / 100;
    let next = ejected as u128 + 1;
    next <= share.max(1) && next < total as u128
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            ejection_jitter: 0.1,
        }
    }
}

impl OutlierConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (failures, percent, jitter) = (self.consecutive_failures, self.max_ejection_percent, self.ejection_jitter);
        let (interval, base, max) = (self.interval, self.base_ejection_time, self.max_ejection_time);
        let day = Duration::from_secs(86_400);
        let times = Duration::from_millis(1)..=day;
        let allowed = "between 1 ms and 1 day";
        require((1..=1_000_000).contains(&failures), "consecutive_failures", failures, "between 1 and 1000000")?;
        require(times.contains(&interval), "interval", format_args!("{interval:?}"), allowed)?;
        require(times.contains(&base), "base_ejection_time", format_args!("{base:?}"), allowed)?;
        let allowed = "between `base_ejection_time` and 1 day";
        require((base..=day).contains(&max), "max_ejection_time", format_args!("{max:?}"), allowed)?;
        require((1..=100).contains(&percent), "max_ejection_percent", percent, "between 1 and 100")?;
        require((0.0..=1.0).contains(&jitter), "ejection_jitter", jitter, "between 0.0 and 1.0")
    }
}

impl Ejection {
    /// Counts an attempt that ended. Returns true if it was one failure too many; the count then starts anew, whether
    /// the endpoint is ejected or may not be.
    ///
    /// While it is ejected, what is left of its calls is not counted.
    #[must_use]
    pub fn settle(&mut self, config: &OutlierConfig, now: Instant, outcome: Outcome) -> bool {
        self.pass(config, now);
        match (self.out, outcome) {
            (Some(_), _) | (None, Outcome::Cancelled | Outcome::Rejected) => false,
            (None, Outcome::Success) => {
                self.run = 0;
                false
            }
            (None, Outcome::Failure(_)) => {
                self.run += 1;
                let too_many = self.run >= self.threshold(config);
                if too_many {
                    self.run = 0;
                }
                too_many
            }
        }
    }

    /// Ejects the endpoint, and tells for how long. One that is ejected already stays so for what is left of its time.
    pub fn eject(&mut self, config: &OutlierConfig, now: Instant, random: u64) -> Duration {
        self.pass(config, now);
        if let Some(out) = self.out {
            return out.left(now);
        }
        let (base, max) = (config.base_ejection_time, config.max_ejection_time);
        // Not beyond the longest: an endpoint that is healthy again works off only what it has served.
        if base.saturating_mul(self.multiplier) < max {
            self.multiplier += 1;
        }
        let length = base.saturating_mul(self.multiplier).min(max);
        let length = length.saturating_add(seconds(length.as_secs_f64() * config.ejection_jitter * fraction(random)));
        self.out = Some(Out { since: now, length });
        self.probation = None;
        self.run = 0;
        length
    }

    /// Returns true once for each ejection that is over: the endpoint is back, on probation.
    #[must_use]
    pub fn release(&mut self, config: &OutlierConfig, now: Instant) -> bool {
        self.pass(config, now);
        let returned = self.returned > 0;
        self.returned = self.returned.saturating_sub(1);
        returned
    }

    /// Tells whether the endpoint is to be left alone.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.out.is_some_and(|out| !out.is_over(now))
    }

    /// When the ejection ends or ended. Nothing if there was none since the last [`release`](Self::release), or if it
    /// ends later than the clock can say.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Instant> {
        self.out.and_then(Out::end)
    }

    /// Tells whether the endpoint was ejected until less than `base_ejection_time` ago.
    #[must_use]
    pub fn is_on_probation(&self, config: &OutlierConfig, now: Instant) -> bool {
        let mut then = *self;
        then.pass(config, now);
        then.probation.is_some()
    }

    /// The failures in a row so far.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        self.run
    }

    /// Forgets everything: ejection, probation and failures.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn threshold(&self, config: &OutlierConfig) -> u32 {
        if self.probation.is_some() { config.consecutive_failures.div_ceil(2) } else { config.consecutive_failures }
    }

    /// Lets time pass: ends what is over.
    fn pass(&mut self, config: &OutlierConfig, now: Instant) {
        if let Some(out) = self.out.filter(|out| out.is_over(now)) {
            let back = out.end().unwrap_or(now);
            self.out = None;
            self.returned = self.returned.saturating_add(1);
            self.healthy_since = Some(back);
            self.probation = Some(Out { since: back, length: config.base_ejection_time });
        }
        if self.out.is_some() {
            return;
        }
        self.probation = self.probation.filter(|probation| !probation.is_over(now));
        let Some(since) = self.healthy_since else { return };
        let intervals = now.saturating_duration_since(since).as_nanos() / config.interval.as_nanos().max(1);
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        self.multiplier = self.multiplier.saturating_sub(intervals);
        self.healthy_since = match self.multiplier {
            0 => None,
            _ => config.interval.checked_mul(intervals).and_then(|served| since.checked_add(served)),
        };
    }
}

impl Out {
    fn is_over(&self, now: Instant) -> bool {
        self.left(now).is_zero()
    }

    fn left(self, now: Instant) -> Duration {
        self.length.saturating_sub(now.saturating_duration_since(self.since))
    }

    fn end(self) -> Option<Instant> {
        self.since.checked_add(self.length)
    }
}
