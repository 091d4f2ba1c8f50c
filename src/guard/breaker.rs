//! The circuit breaker as a handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::event::BreakerState;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::guard::Admit;
use crate::guard::Listener;
use crate::guard::Settle;
use crate::outcome::Outcome;
use crate::policy;
use crate::policy::BreakerConfig;
use crate::policy::BreakerSnapshot;
use crate::policy::Ticket;
use crate::policy::Transition;
use crate::rng::Rng;
use crate::sync::Mutex;
use crate::sync::lock;
use crate::time::Instant;
use crate::time::now;

/// Stops calling a peer that fails, for a time that grows, and lets a few probes find out when it is back.
///
/// A clone is the same breaker. The rules are in [`policy::Breaker`]; `layer()` makes a tower layer of it.
///
/// Events: [`Event::Rejected`] for each refused call, [`Event::BreakerChanged`] for each change of state.
///
/// # Examples
/// ```
/// use mainstay::guard::Breaker;
/// use mainstay::event::BreakerState;
/// use mainstay::policy::BreakerConfig;
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let payments = Breaker::new("payments", BreakerConfig::default())?;
/// let layer = payments.layer(); // as often as you like: one breaker
/// assert_eq!(payments.state(), BreakerState::Closed);
/// payments.force_open();
/// assert_eq!(payments.state(), BreakerState::ForcedOpen);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    policy: Mutex<policy::Breaker>,
    rng: Rng,
    listener: Listener,
}

impl Breaker {
    /// Makes a closed breaker.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(name: impl Into<Arc<str>>, config: BreakerConfig) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::default(), Rng::unseeded())
    }

    /// Makes a closed breaker that tells `observer` what happens.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn observed(
        name: impl Into<Arc<str>>,
        config: BreakerConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ConfigError> {
        Self::build(name.into(), config, Listener::new(observer), Rng::unseeded())
    }

    pub(crate) fn build(
        name: Arc<str>,
        config: BreakerConfig,
        listener: Listener,
        rng: Rng,
    ) -> Result<Self, ConfigError> {
        let policy = Mutex::new(policy::Breaker::new(config)?);
        Ok(Self(Arc::new(Inner { name, policy, rng, listener })))
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The state at the latest call: an open time that is over shows when the next call asks.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        lock(&self.0.policy).state()
    }

    /// What it knows now: counts, era, since when, until when.
    #[must_use]
    pub fn snapshot(&self) -> BreakerSnapshot {
        lock(&self.0.policy).snapshot(now())
    }

    /// Refuses every call until [`reset`](Self::reset). Done on return.
    pub fn force_open(&self) {
        let transition = lock(&self.0.policy).force_open(now());
        self.tell(transition);
    }

    /// Admits every call, and counts none, until [`reset`](Self::reset). Done on return.
    pub fn force_close(&self) {
        let transition = lock(&self.0.policy).force_close(now());
        self.tell(transition);
    }

    /// Closes it with an empty window. Done on return.
    pub fn reset(&self) {
        let transition = lock(&self.0.policy).reset(now());
        self.tell(transition);
    }

    /// When an open breaker will admit its first probe.
    #[cfg(feature = "client")]
    pub(crate) fn open_until(&self) -> Option<Instant> {
        lock(&self.0.policy).open_until()
    }

    /// Asks for leave to call, without a permit: the caller will [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter(&self, now: Instant) -> (Result<Ticket, Rejection>, Option<Transition>) {
        let (admission, transition) = lock(&self.0.policy).admit(now);
        let admission = admission.map_err(|retry_after| {
            let rejection = Rejection::new(RejectionKind::BreakerOpen, self.0.name.clone());
            // One that is forced open knows no time at which it is worth asking again.
            if retry_after == Duration::MAX { rejection } else { rejection.with_retry_after(retry_after) }
        });
        (admission, transition)
    }

    /// Tells how a call ended that was let in.
    #[inline]
    pub(crate) fn leave(&self, now: Instant, ticket: Ticket, outcome: Outcome) -> Option<Transition> {
        let random = if outcome.is_failure() { self.0.rng.next() } else { 0 };
        lock(&self.0.policy).settle(now, ticket, outcome, random)
    }

    #[inline]
    fn tell(&self, transition: Option<Transition>) {
        let Some(Transition { from, to }) = transition else { return };
        self.0.listener.hear(&Scope::new(&self.0.name), &Event::BreakerChanged { from, to });
    }
}

impl Admit for Breaker {
    type Permit = BreakerPermit;

    #[inline]
    fn admit(&self, now: Instant) -> Result<BreakerPermit, Rejection> {
        let (admission, transition) = self.enter(now);
        // A permit before the observer is told: should that panic, the place of a probe is freed.
        let admission = admission.map(|ticket| BreakerPermit { breaker: self.clone(), ticket: Some(ticket) });
        self.tell(transition);
        if let Err(rejection) = &admission {
            self.0.listener.hear(&Scope::new(&self.0.name), &Event::Rejected(rejection));
        }
        admission
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.0.name).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// A call that a breaker admitted.
#[derive(Debug)]
pub struct BreakerPermit {
    breaker: Breaker,
    ticket: Option<Ticket>,
}

impl Settle for BreakerPermit {
    #[inline]
    fn settle(mut self, now: Instant, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let transition = self.breaker.leave(now, ticket, outcome);
            self.breaker.tell(transition);
        }
    }
}

impl Drop for BreakerPermit {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let transition = self.breaker.leave(now(), ticket, Outcome::Cancelled);
            self.breaker.tell(transition);
        }
    }
}
