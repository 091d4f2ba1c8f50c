//! The concurrency limit as a handle.

use std::fmt;
use std::sync::Arc;

use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::guard::Admit;
use crate::guard::Listener;
use crate::guard::Settle;
use crate::outcome::Outcome;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering;
use crate::time::Instant;

/// Lets no more than so many calls run at once, and refuses the others at once.
///
/// A clone is the same bulkhead; `layer()` makes a tower layer of it. The limit can change while calls run: a lower one
/// lets them finish and admits nobody until enough have.
///
/// Events: [`Event::Rejected`] for each refused call.
///
/// # Examples
/// ```
/// use mainstay::guard::Bulkhead;
///
/// let db = Bulkhead::new("db", 25);
/// let layer = db.layer();
/// db.resize(10);
/// assert_eq!((db.limit(), db.in_flight()), (10, 0));
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    limit: AtomicU32,
    in_flight: AtomicU32,
    listener: Listener,
}

impl Bulkhead {
    /// Makes a bulkhead that admits up to `limit` calls at once. 0 admits none.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limit: u32) -> Self {
        Self::build(name.into(), limit, Listener::default())
    }

    /// Makes a bulkhead that tells `observer` what happens.
    #[must_use]
    pub fn observed(name: impl Into<Arc<str>>, limit: u32, observer: Arc<dyn Observer>) -> Self {
        Self::build(name.into(), limit, Listener::new(observer))
    }

    pub(crate) fn build(name: Arc<str>, limit: u32, listener: Listener) -> Self {
        Self(Arc::new(Inner { name, limit: AtomicU32::new(limit), in_flight: AtomicU32::new(0), listener }))
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many calls may run at once.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// How many calls run now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Changes how many calls may run at once, from the next call on.
    pub fn resize(&self, limit: u32) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }
}

impl Admit for Bulkhead {
    type Permit = BulkheadPermit;

    #[inline]
    fn admit(&self, _now: Instant) -> Result<BulkheadPermit, Rejection> {
        let limit = self.limit();
        // Nothing else is read or written under the count, so no order between memory locations is needed.
        let taken = self
            .0
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_flight| (in_flight < limit).then(|| in_flight + 1));
        if taken.is_ok() {
            return Ok(BulkheadPermit(self.clone()));
        }
        let rejection = Rejection::new(RejectionKind::Overloaded, self.0.name.clone());
        self.0.listener.hear(&Scope::new(&self.0.name), &Event::Rejected(&rejection));
        Err(rejection)
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.0.name)
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// A call that a bulkhead admitted. Frees its place when it is dropped.
#[derive(Debug)]
pub struct BulkheadPermit(Bulkhead);

impl Settle for BulkheadPermit {
    #[inline]
    fn settle(self, _now: Instant, _outcome: Outcome) {}
}

impl Drop for BulkheadPermit {
    #[inline]
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
