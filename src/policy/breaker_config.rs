//! The settings of a circuit breaker.

use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::backoff::BackoffConfig;
use crate::policy::backoff::Jitter;
use crate::policy::backoff::Schedule;
use crate::policy::require;
use crate::policy::window::WindowConfig;

/// When a breaker opens, for how long, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// Which calls `failure_rate` looks at. Default the last 10 s in 10 buckets.
    pub window: WindowConfig,
    /// The share of failures in the window that opens it. Default 0.5; lower opens sooner, and also for a peer that
    /// fails for some callers only. Allowed: above 0.0, up to 1.0, or none if `consecutive` is set.
    pub failure_rate: Option<f64>,
    /// The calls that the window must hold for `failure_rate` to mean something. Default 20; fewer let a short burst
    /// open it. Allowed: 1 to 1,000,000, and not more than a window over a number of calls holds.
    pub min_calls: u32,
    /// The failures in a row that open it, overloads not counted. Default none; suits callers with little traffic.
    /// Allowed: 1 to 1,000,000, or none if `failure_rate` is set.
    pub consecutive: Option<u32>,
    /// How long it stays open.
    pub open_for: OpenFor,
    /// The probes that decide when it is half open: it opens as soon as `failure_rate` of them have failed (without
    /// a rate, when one has), and closes as soon as that cannot happen any more. Default 5; more are surer and send
    /// more calls to a peer that may still be failing. Allowed: 1 to 1000.
    pub half_open_permits: u32,
    /// How long a probe keeps its place; later, its result is not counted. Default 30 s. Allowed: 1 ms to 1 day.
    pub probe_lease: Duration,
    /// How long it stays half open before it decides with the probes it has, or opens if it has none. Default 60 s.
    /// Allowed: 1 ms to 1 day.
    pub max_half_open: Duration,
}

/// How long a breaker stays open: each time in a row longer, and as at first again after it has closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenFor {
    /// The first time, before jitter. Default 5 s; longer spares the peer and fails more calls. Allowed: 1 ms to 1 day.
    pub start: Duration,
    /// The longest time. Default 60 s. Allowed: `start` to 1 day.
    pub max: Duration,
    /// How many times longer each next one is. Default 2.0. Allowed: 1.0 to 100.0.
    pub factor: f64,
    /// How the times are spread, so that many clients do not probe at the same moment. Default [`Jitter::Equal`].
    pub jitter: Jitter,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: WindowConfig::default(),
            failure_rate: Some(0.5),
            min_calls: 20,
            consecutive: None,
            open_for: OpenFor::default(),
            half_open_permits: 5,
            probe_lease: Duration::from_secs(30),
            max_half_open: Duration::from_secs(60),
        }
    }
}

impl Default for OpenFor {
    fn default() -> Self {
        Self { start: Duration::from_secs(5), max: Duration::from_secs(60), factor: 2.0, jitter: Jitter::Equal }
    }
}

impl BreakerConfig {
    /// Checks that every setting is in its range, and that something can open the breaker.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.window.validate().map_err(|error| error.within("window"))?;
        let allowed = "set, or `consecutive` must be";
        require(self.failure_rate.is_some() || self.consecutive.is_some(), "failure_rate", "none", allowed)?;
        if let Some(rate) = self.failure_rate {
            require(rate > 0.0 && rate <= 1.0, "failure_rate", rate, "above 0.0, up to 1.0")?;
        }
        require((1..=1_000_000).contains(&self.min_calls), "min_calls", self.min_calls, "between 1 and 1000000")?;
        if let (Some(_), WindowConfig::Count(count)) = (self.failure_rate, self.window) {
            require(self.min_calls <= count, "min_calls", self.min_calls, "at most the calls that `window` holds")?;
        }
        if let Some(run) = self.consecutive {
            require((1..=1_000_000).contains(&run), "consecutive", run, "between 1 and 1000000")?;
        }
        self.open_for.validate().map_err(|error| error.within("open_for"))?;
        let permits = self.half_open_permits;
        require((1..=1000).contains(&permits), "half_open_permits", permits, "between 1 and 1000")?;
        check_time("probe_lease", self.probe_lease, Duration::from_millis(1))?;
        check_time("max_half_open", self.max_half_open, Duration::from_millis(1))
    }

    /// T: the least number of failed probes whose share of all is the failure rate.
    pub(super) fn trip_at(&self) -> u32 {
        let Some(rate) = self.failure_rate else { return 1 };
        let permits = f64::from(self.half_open_permits);
        // The same division as for the window: ceil(rate * permits) would ask for 4 of 30 at a rate of 0.1.
        (1..self.half_open_permits)
            .find(|failed| f64::from(*failed) / permits >= rate)
            .unwrap_or(self.half_open_permits)
    }
}

impl OpenFor {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_time("start", self.start, Duration::from_millis(1))?;
        check_time("max", self.max, self.start)?;
        self.backoff().validate()
    }

    pub(super) fn backoff(&self) -> BackoffConfig {
        let schedule = Schedule::Exponential { base: self.start, factor: self.factor, max: self.max };
        BackoffConfig { schedule, jitter: self.jitter }
    }
}

fn check_time(field: &str, time: Duration, least: Duration) -> Result<(), ConfigError> {
    let day = Duration::from_secs(86_400);
    require((least..=day).contains(&time), field, format_args!("{time:?}"), &format!("between {least:?} and 1 day"))
}
