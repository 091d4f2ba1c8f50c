//! What the layers of one call tell each other, without an allocation and without threading a value through requests.
//!
//! A layer that knows something about the call (its deadline, the number of the attempt) enters a [`CallContext`] each
//! time it polls what is inside it; layers below read it with [`current`]. What layers below write into the
//! [`Record`] (the endpoint that was picked, why there was no other attempt) is there for the layers above when the
//! poll returns. So a client that is called inside a server's handler sees the deadline of the server's call.
//!
//! Rejected: request extensions, which cost two to three allocations a call and do not reach the calls that a handler
//! makes.
//!
//! A task that is spawned does not inherit the context: that detaches it. Wrap its future in
//! [`CallContext::scope`] to keep it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use pin_project_lite::pin_project;

use crate::error::RejectionKind;
use crate::event::Stop;
use crate::outcome::Failure;
use crate::time::Instant;

/// What is known of the call that is being polled on this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CallContext {
    /// When the call must be over. Layers may bring it forward, never put it off.
    pub deadline: Option<Instant>,
    /// When the head of the running attempt's answer must be there.
    pub attempt_deadline: Option<Instant>,
    /// The number of the attempt that is running; the first is 1. 0 where nothing retries.
    pub attempt: u32,
    /// What has happened to the call so far.
    pub record: Record,
}

/// What has happened to a call so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// How many attempts were started, transparent ones included.
    pub attempts: u32,
    /// The endpoints that were tried, the latest last.
    pub tried: Tried,
    /// How the latest attempt failed, if it got no answer.
    pub failure: Option<Failure>,
    /// Whether the peer reset the stream of the latest attempt; else what broke was its connection.
    pub reset: bool,
    /// Who of our own layers refused the call or an attempt of it.
    pub rejected: Option<RejectionKind>,
    /// Why there was no other attempt after one that failed.
    pub stop: Option<Stop>,
}

/// The identities of the endpoints that a call has tried, as many as fit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tried {
    ids: [u32; Self::CAPACITY],
    len: u8,
}

impl Tried {
    /// Five attempts is the most that gRPC allows (A6), so four others to avoid.
    const CAPACITY: usize = 4;

    /// Adds an endpoint; when there is no room, the oldest is forgotten.
    pub fn push(&mut self, id: u32) {
        if usize::from(self.len) == Self::CAPACITY {
            self.ids.rotate_left(1);
            self.len -= 1;
        }
        self.ids[usize::from(self.len)] = id;
        self.len += 1;
    }

    /// Tells whether an endpoint was tried.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.ids[..usize::from(self.len)].contains(&id)
    }

    /// The endpoint that was tried last.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.ids[..usize::from(self.len)].last().copied()
    }

    /// Tells whether none was tried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The context of the call that is being polled on this thread; outside of calls, an empty one.
#[must_use]
#[inline]
pub fn current() -> CallContext {
    CURRENT.get().unwrap_or_default()
}

/// Writes into the record of the call that is being polled on this thread. Outside of calls there is none to keep.
#[inline]
pub fn record(write: impl FnOnce(&mut Record)) {
    if let Some(mut context) = CURRENT.get() {
        write(&mut context.record);
        CURRENT.set(Some(context));
    }
}

impl CallContext {
    /// The current context with a deadline that is no later than `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// Runs `f` in this context, and keeps what it wrote into the record, for this context and the one around it.
    #[inline]
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let _entered = self.entered();
        f()
    }

    /// Enters this context until the guard is dropped. For calls whose requests and futures a closure would copy.
    #[inline]
    pub(crate) fn entered(&mut self) -> Entered<'_> {
        let around = CURRENT.replace(Some(*self));
        Entered { inside: self, around }
    }

    /// Makes a future that runs in this context wherever it is polled.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { context: self, future }
    }
}

/// A context that is entered; left when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    inside: &'a mut CallContext,
    /// Nothing outside of calls.
    around: Option<CallContext>,
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        let record = current().record;
        self.inside.record = record;
        // Outside of calls nothing is kept: the next call on this thread has nothing to do with this one.
        CURRENT.set(self.around.map(|around| CallContext { record, ..around }));
    }
}

pin_project! {
    /// A future that runs in a context of its own. Made by [`CallContext::scope`].
    #[derive(Debug)]
    pub struct Scoped<F> {
        context: CallContext,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.context.enter(|| this.future.poll(cx))
    }
}

thread_local! {
    static CURRENT: Cell<Option<CallContext>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_below_is_seen_above_and_the_deadline_is_not() {
        let mut outer = CallContext::default();
        outer.enter(|| {
            let mut inner = current().with_deadline(crate::time::now());
            inner.enter(|| record(|record| record.attempts += 1));
            assert_eq!(current().record.attempts, 1);
            assert_eq!(current().deadline, None);
        });
        assert_eq!(outer.record.attempts, 1);
    }

    #[test]
    fn outside_of_calls_nothing_is_kept() {
        CallContext::default().enter(|| record(|record| record.tried.push(1)));
        record(|record| record.attempts = 9);
        assert_eq!(current(), CallContext::default());
    }

    #[test]
    fn a_panic_leaves_the_context_of_the_caller() {
        let mut context = CallContext { attempt: 7, ..CallContext::default() };
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.enter(|| panic!("inside"))));
        assert_eq!(current().attempt, 0);
    }

    #[test]
    fn tried_forgets_the_oldest() {
        let mut tried = Tried::default();
        for id in 1..=6 {
            tried.push(id);
        }
        assert!(!tried.contains(2) && tried.contains(3));
        assert_eq!(tried.last(), Some(6));
    }
}
