//! Handles: a policy behind a lock, with a name and an observer.
//!
//! State lives in the handle, not in the layer. Make one [`Breaker`] for a target, then call its `layer()` as often as
//! there are stacks; all of them share it, and the handle stays yours to read and to control.
//!
//! What a guard hears at the end of a call is an [`Outcome`]; how each of them takes it:
//!
//! | | breaker | bulkhead | retrier | budget |
//! |---|---|---|---|---|
//! | `Success` | counts, resets a run | release | stop | deposit |
//! | `Failure(Overload)` | counts in the rate, not in a run | release | again, after the pushback | withdraw |
//! | other `Failure` | counts | release | again if safe | withdraw |
//! | `Cancelled` | frees the probe only | release | stop | - |
//! | `Rejected` | frees the probe only | release | stop | - |

mod breaker;
mod bulkhead;
mod retrier;

use std::fmt;
use std::sync::Arc;

pub use breaker::Breaker;
pub use breaker::BreakerPermit;
pub use bulkhead::Bulkhead;
pub use bulkhead::BulkheadPermit;
pub use retrier::Retrier;
pub use retrier::RetrierConfig;
pub use retrier::RetryPermit;

use crate::error::Rejection;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::outcome::Outcome;
use crate::time::Instant;

/// Decides who may start.
///
/// One tower adapter, `layer::GuardLayer`, serves every implementation.
pub trait Admit: Clone + Send + Sync + 'static {
    /// What an admitted call holds until it ends.
    type Permit: Settle;

    /// Admits a call that starts `now`.
    ///
    /// # Errors
    /// The rejection to hand to the caller.
    fn admit(&self, now: Instant) -> Result<Self::Permit, Rejection>;
}

/// A call that was admitted. Dropped without being settled, it counts as [`Outcome::Cancelled`].
pub trait Settle: Send + 'static {
    /// Tells how the call ended.
    fn settle(self, now: Instant, outcome: Outcome);
}

/// Whoever hears the events of a handle: an observer, or nobody.
#[derive(Clone, Default)]
pub(crate) struct Listener(Option<Arc<dyn Observer>>);

impl Listener {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self(Some(observer))
    }

    #[inline]
    pub(crate) fn is_deaf(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn hear(&self, scope: &Scope<'_>, event: &Event<'_>) {
        if let Some(observer) = &self.0 {
            observer.on_event(scope, event);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_deaf() { "nobody" } else { "an observer" })
    }
}
