//! What is known of one endpoint, shared by all who call it.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::error::ConfigError;
use crate::event::BreakerState;
use crate::guard::Breaker;
use crate::policy::Backoff;
use crate::policy::BackoffConfig;
use crate::policy::Ejection;
use crate::policy::Jitter;
use crate::policy::Load;
use crate::policy::OutlierConfig;
use crate::policy::PeakEwma;
use crate::policy::Schedule;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::time::Instant;

/// One place that a target can be called at: health, load and latency, one value for all workers.
pub struct Endpoint {
    id: u32,
    name: Arc<str>,
    addresses: ArcSwap<Vec<SocketAddr>>,
    breaker: Option<Breaker>,
    in_flight: AtomicU32,
    averages: Mutex<Averages>,
    /// What the averages were when they last changed, for picks, which take no lock.
    latency_nanos: AtomicU64,
    cost_nanos: AtomicU64,
    ejection: Mutex<Ejection>,
    reconnect: Mutex<Reconnect>,
}

/// What keeps an endpoint from being used.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unusable {
    /// Its breaker is open.
    BreakerOpen,
    /// It failed too often in a row.
    Ejected,
    /// No connection could be made, and it is too early to try again.
    Unreachable,
}

#[derive(Debug, Default)]
struct Reconnect {
    backoff: Backoff,
    retry_at: Option<Instant>,
    error: Option<Arc<dyn Error + Send + Sync>>,
}

impl Endpoint {
    pub(crate) fn new(
        id: u32,
        name: Arc<str>,
        addresses: Vec<SocketAddr>,
        breaker: Option<Breaker>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            id,
            name,
            addresses: ArcSwap::from_pointee(addresses),
            breaker,
            in_flight: AtomicU32::new(0),
            averages: Mutex::default(),
            latency_nanos: AtomicU64::new(0),
            cost_nanos: AtomicU64::new(0),
            ejection: Mutex::default(),
            reconnect: Mutex::default(),
        })
    }

    /// Its name: `host:port`, as configured or as resolved.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many calls it is answering now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long it takes to answer: a moving average that jumps up at once and decays slowly. Zero if not known.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency_nanos.load(Ordering::Relaxed))
    }

    /// What picks go by: the latency, in which a failure counts as an answer that took some times as long.
    #[must_use]
    pub fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost_nanos.load(Ordering::Relaxed))
    }

    /// The state of its breaker, if it has one.
    #[must_use]
    pub fn breaker(&self) -> Option<BreakerState> {
        self.breaker.as_ref().map(Breaker::state)
    }

    /// What keeps it from being used, and until when.
    #[must_use]
    pub fn unusable(&self, now: Instant) -> Option<(Unusable, Instant)> {
        let ejected = lock(&self.ejection).ejected_until().map(|until| (Unusable::Ejected, until));
        let unreachable = lock(&self.reconnect).retry_at.map(|at| (Unusable::Unreachable, at));
        let open = self.breaker.as_ref().and_then(Breaker::open_until).map(|until| (Unusable::BreakerOpen, until));
        [ejected, unreachable, open]
            .into_iter()
            .flatten()
            .filter(|(_, until)| *until > now)
            .max_by_key(|(_, until)| *until)
    }

    /// The error of the latest connection that failed, if none was made since.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        lock(&self.reconnect).error.clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Moves it. No address at all means that its name could not be resolved this time: it stays where it was.
    pub(crate) fn readdress(&self, addresses: &[SocketAddr]) {
        if !addresses.is_empty() && **self.addresses.load() != addresses {
            self.addresses.store(Arc::new(addresses.to_vec()));
        }
    }

    pub(crate) fn own_breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }

    pub(crate) fn load(&self) -> Load {
        Load { in_flight: self.in_flight(), latency: self.cost() }
    }

    pub(crate) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes how long an answer took to come.
    pub(crate) fn answered(&self, now: Instant, latency: Duration) {
        let mut averages = lock(&self.averages);
        averages.latency.observe(now, latency);
        averages.cost.observe(now, latency);
        self.latency_nanos.store(nanos(averages.latency.value(now)), Ordering::Relaxed);
        self.cost_nanos.store(nanos(averages.cost.value(now)), Ordering::Relaxed);
    }

    /// Notes that a call failed after so long. A peer that fails fast must not look quick: it would draw the more calls
    /// the more it fails. So its own latency is not enough, and what answers of the others take counts too.
    pub(crate) fn failed(&self, now: Instant, after: Duration, typical: Duration) {
        let mut averages = lock(&self.averages);
        let penalty = averages.latency.value(now).max(typical).saturating_mul(FAILURE_PENALTY);
        averages.cost.observe(now, after.max(penalty));
        self.cost_nanos.store(nanos(averages.cost.value(now)), Ordering::Relaxed);
    }

    pub(crate) fn with_ejection<R>(&self, change: impl FnOnce(&mut Ejection) -> R) -> R {
        change(&mut lock(&self.ejection))
    }

    /// Notes a connection that was made. True if the endpoint was unreachable before.
    pub(crate) fn connected(&self) -> bool {
        let mut reconnect = lock(&self.reconnect);
        reconnect.backoff.reset();
        reconnect.error = None;
        reconnect.retry_at.take().is_some()
    }

    /// Notes a connection that could not be made.
    pub(crate) fn unreachable(&self, now: Instant, random: u64, error: Arc<dyn Error + Send + Sync>) {
        let mut reconnect = lock(&self.reconnect);
        reconnect.error = Some(error);
        if reconnect.retry_at.is_none_or(|at| at <= now) {
            let wait = reconnect.backoff.next(&RECONNECT, random);
            reconnect.retry_at = Some(now + wait);
        }
    }

    /// Lets an ejection end whose time is over. True once.
    pub(crate) fn release(&self, config: &OutlierConfig, now: Instant) -> bool {
        lock(&self.ejection).release(config, now)
    }
}

/// Moving averages of one endpoint.
#[derive(Debug, Default)]
struct Averages {
    latency: PeakEwma,
    cost: PeakEwma,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A failure counts as an answer that took this many times as long as answers do, here or elsewhere.
const FAILURE_PENALTY: u32 = 3;

/// gRPC's factor and jitter (connection-backoff), but a shorter start and end: here a call, not a background task,
/// finds out that a peer is back, and a proxy's caller expects that within seconds of a restart.
const RECONNECT: BackoffConfig = BackoffConfig {
    schedule: Schedule::Exponential { base: Duration::from_millis(100), factor: 1.6, max: Duration::from_secs(5) },
    jitter: Jitter::Proportional(0.2),
};

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("addresses", &self.addresses.load())
            .field("in_flight", &self.in_flight())
            .field("latency", &self.latency())
            .finish_non_exhaustive()
    }
}
