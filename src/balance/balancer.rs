//! The endpoints of a target, and the choice between them.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::balance::endpoint::Endpoint;
use crate::balance::endpoint::Unusable;
use crate::context::Tried;
use crate::error::ConfigError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::event::BreakerState;
use crate::event::Event;
use crate::event::Scope;
use crate::guard::Breaker;
use crate::guard::Listener;
use crate::outcome::Outcome;
use crate::policy::BreakerConfig;
use crate::policy::OutlierConfig;
use crate::policy::RoundRobin;
use crate::policy::Ticket;
use crate::policy::Transition;
use crate::policy::outlier::may_eject;
use crate::policy::pick::less_loaded;
use crate::policy::pick::p2c;
use crate::rng::Rng;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::time::Instant;

/// How one of several endpoints is picked.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Balancing {
    /// Two at random, and the less loaded of them: calls in flight times latency. Default.
    #[default]
    P2c,
    /// One after the other.
    RoundRobin,
}

/// The settings of a [`Balancer`].
#[derive(Clone, Debug, PartialEq)]
pub struct BalancerConfig {
    /// How an endpoint is picked. Default: p2c.
    pub balancing: Balancing,
    /// When an endpoint that fails is left out for a while. Default: after five failures in a row; `None` never.
    pub outlier: Option<OutlierConfig>,
    /// The circuit breaker that each endpoint gets. Default: none.
    pub breaker: Option<BreakerConfig>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { balancing: Balancing::default(), outlier: Some(OutlierConfig::default()), breaker: None }
    }
}

/// The endpoints of a target: which there are, which can be used, and which one is next.
///
/// A clone is the same balancer. Picks read a snapshot and take no lock; their cost does not depend on how many
/// endpoints there are. A new snapshot is made when the set of endpoints changes and when one of them becomes usable
/// or stops being it.
#[derive(Clone)]
pub struct Balancer(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    config: BalancerConfig,
    snapshot: ArcSwap<Snapshot>,
    /// Serializes those who replace the snapshot, and knows the endpoints by name.
    members: Mutex<Members>,
    resolved: watch::Sender<bool>,
    turn: AtomicU64,
    /// How long answers of this target take, in nanoseconds: an average over successes, wherever they came from.
    typical: AtomicU64,
    rng: Rng,
    listener: Listener,
}

#[derive(Default)]
struct Members {
    by_name: HashMap<Arc<str>, Arc<Endpoint>>,
    order: Vec<Arc<Endpoint>>,
    next_id: u32,
    version: u64,
}

/// The endpoints at one moment.
#[derive(Default)]
struct Snapshot {
    all: Vec<Arc<Endpoint>>,
    /// All of them, in the order of their identities.
    by_id: Vec<Arc<Endpoint>>,
    usable: Vec<Arc<Endpoint>>,
    /// When the first of those that are left out may come back.
    recheck: Option<Instant>,
    /// Counts changes of the set of endpoints.
    version: u64,
}

/// An endpoint with its name and addresses, as discovery finds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// What identifies it: `host:port`.
    pub name: Arc<str>,
    /// Where to connect, tried in this order.
    pub addresses: Vec<SocketAddr>,
}

/// An endpoint that was picked, and its breaker's leave to call it.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) ticket: Option<Ticket>,
}

/// How often a pick is drawn anew to avoid an endpoint that the call has tried, or whose breaker is still probing.
const REDRAWS: usize = 3;

impl Balancer {
    /// Makes a balancer without endpoints; calls wait until the first [`update`](Self::update).
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(name: impl Into<Arc<str>>, config: BalancerConfig) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::default(), Rng::unseeded())
    }

    pub(crate) fn build(
        name: Arc<str>,
        config: BalancerConfig,
        listener: Listener,
        rng: Rng,
    ) -> Result<Self, ConfigError> {
        if let Some(breaker) = &config.breaker {
            Breaker::new(name.clone(), *breaker).map_err(|error| error.within("breaker"))?;
        }
        if let Some(outlier) = &config.outlier {
            outlier.validate().map_err(|error| error.within("outlier"))?;
        }
        Ok(Self(Arc::new(Inner {
            name,
            config,
            snapshot: ArcSwap::default(),
            members: Mutex::default(),
            resolved: watch::Sender::new(false),
            turn: AtomicU64::new(0),
            typical: AtomicU64::new(0),
            rng,
            listener,
        })))
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// All endpoints, usable or not.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.0.snapshot.load().all.clone()
    }

    /// The endpoint with this identity, if it is still there.
    #[cfg(feature = "proxy")]
    pub(crate) fn endpoint(&self, id: u32) -> Option<Arc<Endpoint>> {
        let snapshot = self.0.snapshot.load();
        let at = snapshot.by_id.binary_search_by_key(&id, |endpoint| endpoint.id()).ok()?;
        Some(snapshot.by_id[at].clone())
    }

    /// How many endpoints can be used now.
    #[must_use]
    pub fn usable(&self, now: Instant) -> usize {
        self.current(now).usable.len()
    }

    /// Replaces the set of endpoints. Those that stay keep what is known of them.
    ///
    /// # Errors
    /// If a breaker cannot be made, which [`new`](Self::new) has checked.
    pub fn update(&self, now: Instant, targets: &[Target]) -> Result<(), ConfigError> {
        let mut members = lock(&self.0.members);
        let mut order = Vec::with_capacity(targets.len());
        let mut by_name = HashMap::with_capacity(targets.len());
        for target in targets {
            if by_name.contains_key(&target.name) {
                continue;
            }
            let endpoint = match members.by_name.get(&target.name) {
                Some(known) => known.clone(),
                None => self.admit_endpoint(&mut members.next_id, target)?,
            };
            endpoint.readdress(&target.addresses);
            by_name.insert(target.name.clone(), endpoint.clone());
            order.push(endpoint);
        }
        let changed = order.len() != members.order.len()
            || order.iter().zip(&members.order).any(|(new, old)| new.id() != old.id());
        if changed {
            members.version += 1;
        }
        members.by_name = by_name;
        members.order = order;
        self.publish(&members, now);
        let count = members.order.len();
        drop(members);
        self.0.resolved.send_replace(true);
        if changed {
            self.hear(None, &Event::EndpointsChanged { count });
        }
        Ok(())
    }

    fn admit_endpoint(&self, next_id: &mut u32, target: &Target) -> Result<Arc<Endpoint>, ConfigError> {
        let inner = &self.0;
        let breaker = inner.config.breaker.map(|config| {
            // Deaf: its changes are told here, with the name of the target beside the endpoint's.
            Breaker::build(target.name.clone(), config, Listener::default(), inner.rng.fork())
        });
        *next_id += 1;
        Endpoint::new(*next_id, target.name.clone(), target.addresses.clone(), breaker.transpose()?).map(Arc::new)
    }

    /// Lets calls go on that wait for the first endpoints, though there are none.
    pub(crate) fn unresolved(&self, error: &(dyn std::error::Error + 'static)) {
        self.hear(None, &Event::ResolveFailed { error });
        self.0.resolved.send_replace(true);
    }

    /// Tells whether discovery has answered.
    pub(crate) fn is_resolved(&self) -> bool {
        self.0.snapshot.load().version > 0 || *self.0.resolved.borrow()
    }

    /// Waits until discovery has answered for the first time.
    pub(crate) async fn resolved(&self) {
        // The sender lives as long as this handle, so it cannot be gone.
        let _ = self.0.resolved.subscribe().wait_for(|resolved| *resolved).await;
    }

    /// Counts changes of the set of endpoints.
    pub(crate) fn version(&self) -> u64 {
        self.0.snapshot.load().version
    }

    /// Picks an endpoint without calling it, to see who a call at `now` might go to.
    ///
    /// Nothing is counted towards its load. Its breaker is asked, as for a call, and given its permit back.
    ///
    /// # Errors
    /// If no endpoint is usable, or the breakers of those that were drawn refuse.
    ///
    /// # Examples
    /// ```
    /// use mainstay::RejectionKind;
    /// use mainstay::balance::{Balancer, BalancerConfig, Target};
    /// use mainstay::time::now;
    ///
    /// # fn main() -> Result<(), mainstay::ConfigError> {
    /// let orders = Balancer::new("orders", BalancerConfig::default())?;
    /// assert_eq!(orders.choose(now()).unwrap_err().kind(), RejectionKind::NoEndpoint);
    ///
    /// orders.update(now(), &[Target { name: "10.0.0.1:80".into(), addresses: vec![([10, 0, 0, 1], 80).into()] }])?;
    /// let endpoint = orders.choose(now()).expect("there is one");
    /// assert_eq!((endpoint.name(), endpoint.in_flight()), ("10.0.0.1:80", 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn choose(&self, now: Instant) -> Result<Arc<Endpoint>, Rejection> {
        let Picked { endpoint, ticket } = self.pick(now, &Tried::default())?;
        if let (Some(breaker), Some(ticket)) = (endpoint.own_breaker(), ticket) {
            let transition = breaker.leave(now, ticket, Outcome::Cancelled);
            self.tell(&endpoint, transition);
        }
        Ok(endpoint)
    }

    /// Picks an endpoint, rather one that was not tried yet, and asks its breaker.
    pub(crate) fn pick(&self, now: Instant, tried: &Tried) -> Result<Picked, Rejection> {
        let snapshot = self.current(now);
        let (mut refused, mut avoid) = (None, *tried);
        for draw in 0..=REDRAWS {
            let Some(endpoint) = self.draw(&snapshot.usable, &avoid) else { break };
            if draw < REDRAWS && avoid.contains(endpoint.id()) && snapshot.usable.len() > 1 {
                continue;
            }
            match self.admit(endpoint, now) {
                Ok(picked) => return Ok(picked),
                Err(rejection) => refused = Some(rejection),
            }
            avoid.push(endpoint.id());
        }
        let Some(refused) = refused else { return Err(self.nobody(&snapshot, now)) };
        // Every draw met a breaker that is busy with its probes. Rather look at all endpoints than fail a call that
        // one of them would take.
        if let Some(picked) = snapshot.usable.iter().find_map(|endpoint| self.admit(endpoint, now).ok()) {
            return Ok(picked);
        }
        self.hear(None, &Event::Rejected(&refused));
        Err(refused)
    }

    /// Asks an endpoint's breaker.
    fn admit(&self, endpoint: &Arc<Endpoint>, now: Instant) -> Result<Picked, Rejection> {
        let Some(breaker) = endpoint.own_breaker() else {
            return Ok(Picked { endpoint: endpoint.clone(), ticket: None });
        };
        let (admission, transition) = breaker.enter(now);
        if transition.is_some_and(|change| change.to != BreakerState::HalfOpen) {
            self.refresh(now);
        }
        self.tell(endpoint, transition);
        admission.map(|ticket| Picked { endpoint: endpoint.clone(), ticket: Some(ticket) })
    }

    fn draw<'a>(&self, usable: &'a [Arc<Endpoint>], tried: &Tried) -> Option<&'a Arc<Endpoint>> {
        match self.0.config.balancing {
            Balancing::RoundRobin => {
                let index = RoundRobin::index(self.0.turn.fetch_add(1, Ordering::Relaxed), usable.len())?;
                Some(&usable[index])
            }
            Balancing::P2c => {
                let (a, b) = p2c(usable.len(), self.0.rng.next())?;
                let (a, b) = (&usable[a], &usable[b]);
                match (tried.contains(a.id()), tried.contains(b.id())) {
                    (true, false) => Some(b),
                    (false, true) => Some(a),
                    _ if less_loaded(b.load(), a.load()) => Some(b),
                    _ => Some(a),
                }
            }
        }
    }

    /// Says why there is nobody to call, with the last connection error.
    fn nobody(&self, snapshot: &Snapshot, now: Instant) -> Rejection {
        let out: Vec<_> = snapshot.all.iter().filter_map(|endpoint| endpoint.unusable(now)).collect();
        let open = !out.is_empty() && out.iter().all(|(why, _)| *why == Unusable::BreakerOpen);
        let kind = if open { RejectionKind::BreakerOpen } else { RejectionKind::NoEndpoint };
        let mut rejection = Rejection::new(kind, self.0.name.clone());
        if let Some(first) = out.iter().map(|(_, until)| *until).min() {
            rejection = rejection.with_retry_after(first.saturating_duration_since(now));
        }
        if let Some(error) = snapshot.all.iter().rev().find_map(|endpoint| endpoint.last_error()) {
            rejection = rejection.with_cause(error);
        }
        self.hear(None, &Event::Rejected(&rejection));
        rejection
    }

    fn current(&self, now: Instant) -> arc_swap::Guard<Arc<Snapshot>> {
        let snapshot = self.0.snapshot.load();
        if snapshot.recheck.is_none_or(|at| now < at) {
            return snapshot;
        }
        drop(snapshot);
        self.refresh(now);
        self.0.snapshot.load()
    }

    /// Makes a new snapshot: something about an endpoint changed.
    pub(crate) fn refresh(&self, now: Instant) {
        let mut returned = Vec::new();
        let members = lock(&self.0.members);
        if let Some(outlier) = &self.0.config.outlier {
            returned.extend(members.order.iter().filter(|endpoint| endpoint.release(outlier, now)).cloned());
        }
        self.publish(&members, now);
        drop(members);
        for endpoint in returned {
            self.hear(Some(&endpoint), &Event::Returned);
        }
    }

    fn publish(&self, members: &Members, now: Instant) {
        let mut snapshot = Snapshot { all: members.order.clone(), version: members.version, ..Snapshot::default() };
        snapshot.by_id.clone_from(&snapshot.all);
        snapshot.by_id.sort_unstable_by_key(|endpoint| endpoint.id());
        for endpoint in &members.order {
            match endpoint.unusable(now) {
                None => snapshot.usable.push(endpoint.clone()),
                Some((_, until)) => {
                    snapshot.recheck = Some(snapshot.recheck.map_or(until, |earlier| earlier.min(until)));
                }
            }
        }
        self.0.snapshot.store(Arc::new(snapshot));
    }

    /// How long answers of this target take.
    pub(crate) fn typical(&self) -> Duration {
        Duration::from_nanos(self.0.typical.load(Ordering::Relaxed))
    }

    /// Notes how long the answers of an endpoint take that has just answered well.
    pub(crate) fn succeeded(&self, endpoint: &Endpoint) {
        let latency = u64::try_from(endpoint.latency().as_nanos()).unwrap_or(u64::MAX);
        let before = self.0.typical.load(Ordering::Relaxed);
        // Two at once may lose one of the two samples, which an average can bear.
        let after = if before == 0 { latency } else { before - before / 16 + latency / 16 };
        self.0.typical.store(after, Ordering::Relaxed);
    }

    /// Tells the endpoint how a call to it ended.
    pub(crate) fn settle(&self, now: Instant, endpoint: &Arc<Endpoint>, ticket: Option<Ticket>, outcome: Outcome) {
        let changed = match (endpoint.own_breaker(), ticket) {
            (Some(breaker), Some(ticket)) => breaker.leave(now, ticket, outcome),
            _ => None,
        };
        let counted = self.count(now, endpoint, outcome);
        let ejected = matches!(counted, Some(Event::Ejected { .. }));
        // First what has to be, then who wants to know: an observer may panic.
        if ejected || changed.is_some_and(|change| change.to != BreakerState::HalfOpen) {
            self.refresh(now);
        }
        self.tell(endpoint, changed);
        if let Some(event) = counted {
            self.hear(Some(endpoint), &event);
        }
    }

    /// Counts an outcome towards ejection, and ejects the endpoint if it was one failure too many.
    fn count(&self, now: Instant, endpoint: &Endpoint, outcome: Outcome) -> Option<Event<'static>> {
        let config = self.0.config.outlier.as_ref()?;
        if !endpoint.with_ejection(|ejection| ejection.settle(config, now, outcome)) {
            return None;
        }
        // One at a time, so that two streaks that end at once do not eject one endpoint too many.
        let members = lock(&self.0.members);
        let out = members.order.iter().filter(|other| other.with_ejection(|ejection| ejection.is_ejected(now))).count();
        if !may_eject(config, members.order.len(), out) {
            return Some(Event::EjectionOverflow);
        }
        let random = self.0.rng.next();
        Some(Event::Ejected { duration: endpoint.with_ejection(|ejection| ejection.eject(config, now, random)) })
    }

    /// Notes that a connection was made.
    pub(crate) fn connected(&self, now: Instant, endpoint: &Endpoint) {
        if endpoint.connected() {
            self.refresh(now);
        }
        self.hear(Some(endpoint), &Event::Connected);
    }

    /// Notes that no connection could be made: the endpoint is left out until it is worth trying again.
    pub(crate) fn unreachable(
        &self,
        now: Instant,
        endpoint: &Endpoint,
        error: Arc<dyn std::error::Error + Send + Sync>,
    ) {
        endpoint.unreachable(now, self.0.rng.next(), error.clone());
        self.refresh(now);
        self.hear(Some(endpoint), &Event::ConnectFailed { error: &*error });
    }

    fn tell(&self, endpoint: &Endpoint, transition: Option<Transition>) {
        let Some(Transition { from, to }) = transition else { return };
        self.hear(Some(endpoint), &Event::BreakerChanged { from, to });
    }

    pub(crate) fn hear(&self, endpoint: Option<&Endpoint>, event: &Event<'_>) {
        let scope = Scope::new(&self.0.name);
        let scope = endpoint.map_or(scope, |endpoint| scope.at(endpoint.name()));
        self.0.listener.hear(&scope, event);
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("name", &self.0.name)
            .field("endpoints", &self.endpoints())
            .finish_non_exhaustive()
    }
}
