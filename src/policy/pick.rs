//! Which of many endpoints: the arithmetic of picks, whose cost does not grow with their number.

use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::backoff::seconds;
use crate::policy::require;
use crate::time::Instant;

/// Each endpoint in turn.
#[derive(Clone, Copy, Debug)]
pub struct RoundRobin;

/// What is known of how busy an endpoint is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// The calls it is working on.
    pub in_flight: u32,
    /// How long it takes to answer, or zero if that is not known.
    pub latency: Duration,
}

/// An average of response times that follows a rise at once and a fall slowly.
///
/// A plain average needs many samples to see that an endpoint has become slow, and gets few while calls hang. Here a
/// sample above the average replaces it; one below moves it by the weight of the time since the last sample. Without
/// samples it decays, so an endpoint that was slow once is tried again. From Finagle's `PeakEwma`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    decay: Duration,
    // In seconds.
    average: f64,
    at: Option<Instant>,
}

impl RoundRobin {
    /// The index of the endpoint for the call that drew `counter`, or nothing if there are no endpoints.
    #[must_use]
    pub fn index(counter: u64, len: usize) -> Option<usize> {
        (len > 0).then(|| (counter % len as u64) as usize)
    }
}

/// Two different indices below `len`, each pair as likely as any other; twice 0 if there is only one.
///
/// "The power of two choices": the less loaded of two random endpoints is nearly as good as the least loaded of all,
/// and herds do not form, since not all clients see the same two (Mitzenmacher 1996).
#[must_use]
pub fn p2c(len: usize, random: u64) -> Option<(usize, usize)> {
    match len {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = scale(random >> 32, len);
            let second = scale(random & u64::from(u32::MAX), len - 1);
            Some((first, if second >= first { second + 1 } else { second }))
        }
    }
}

/// Tells whether `a` is the better pick of two.
///
/// Compares the time a new call would wait if calls were served one by one: the calls there would be, times the
/// latency. If a latency is not known, or both products are the same, compares the calls alone.
#[must_use]
pub fn less_loaded(a: Load, b: Load) -> bool {
    if a.latency.is_zero() || b.latency.is_zero() {
        return a.in_flight < b.in_flight;
    }
    match a.cost().cmp(&b.cost()) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => a.in_flight < b.in_flight,
        std::cmp::Ordering::Greater => false,
    }
}

impl Load {
    fn cost(self) -> u128 {
        self.latency.as_nanos() * (u128::from(self.in_flight) + 1)
    }
}

impl Default for PeakEwma {
    /// Decays by 10 s, as Finagle's does.
    fn default() -> Self {
        Self { decay: Duration::from_secs(10), average: 0.0, at: None }
    }
}

impl PeakEwma {
    /// Makes an average that knows nothing yet.
    ///
    /// After `decay` without samples, 37 % (1/e) of it is left. Longer remembers a slow moment for longer.
    ///
    /// # Errors
    ///
    /// If `decay` is not between 1 ms and 1 day.
    pub fn new(decay: Duration) -> Result<Self, ConfigError> {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
        require(allowed.contains(&decay), "decay", format_args!("{decay:?}"), "between 1 ms and 1 day")?;
        Ok(Self { decay, ..Self::default() })
    }

    /// Adds a response that came at `now` and took `rtt`.
    pub fn observe(&mut self, now: Instant, rtt: Duration) {
        let rtt = rtt.as_secs_f64();
        self.average = if rtt >= self.average { rtt } else { rtt + (self.average - rtt) * self.weight(now) };
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// The average as of `now`; zero if nothing is known, or not any more.
    #[must_use]
    pub fn value(&self, now: Instant) -> Duration {
        seconds(self.average * self.weight(now))
    }

    // How much of the average is left: 1 at the last sample, 1/e one decay later.
    fn weight(&self, now: Instant) -> f64 {
        let age = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (-age.as_secs_f64() / self.decay.as_secs_f64()).exp()
    }
}

/// Maps 32 random bits onto `0..len` with one multiplication (Lemire 2019). The bias, `len / 2^32`, is not measurable.
fn scale(random: u64, len: usize) -> usize {
    ((u128::from(random) * len as u128) >> 32) as usize
}
