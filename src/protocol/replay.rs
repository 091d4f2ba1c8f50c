//! A request body that can be sent again.
//!
//! The first attempt streams the caller's body through and keeps what it has passed on, up to a limit; the next attempt
//! sends what was kept and goes on where that ends. Beyond the limit everything kept is let go, the running attempt
//! streams on, and there is no other.
//!
//! ```text
//! caller's body -> [ kept frames ]-> attempt 2 (its own cursor)
//!                  ^ attempt 1 has read up to here when it fails
//! ```
//!
//! An attempt outlives its failure: a connection may hold its body until it has noticed that the stream was reset. So
//! the caller's body belongs to no attempt. It lies in the shared state, is lent to the attempt that polls it, and an
//! attempt that was replaced gets an error instead, by which its connection lets go of it.
//!
//! # Examples
//! ```
//! # use http_body_util::{BodyExt, Full};
//! # use mainstay::protocol::Replay;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), mainstay::BoxError> {
//! let order = Full::from("two espressos");
//! let (first, replayer) = Replay::new(order, 64 * 1024);
//! first.collect().await?;
//!
//! let second = replayer.again().expect("the order is smaller than the limit");
//! assert_eq!(second.collect().await?.to_bytes(), "two espressos");
//! # Ok(()) }
//! ```
//!
//! Rejected: a body that the attempt owns and hands back in `Drop`. The next attempt would wait for the connection of
//! the one before.

mod call;

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

use self::call::Call;
use self::call::Source;
use self::call::Step;
use self::call::poll_attempt;
use self::call::unlock_and_wake;
use crate::error::BoxError;
use crate::sync::Arc;
use crate::sync::Mutex;
use crate::sync::lock;

/// The body of one attempt.
///
/// A data frame that is kept is shared, not copied. Errors are boxed; beside those of the caller's body there is one of
/// its own, for an attempt that goes on after [`Replayer::again`] has replaced it.
///
/// # Cancel safety
/// An attempt may be dropped at any time. What it has taken from the caller's body is kept for the next one.
#[derive(Debug)]
pub struct Replay<B> {
    inner: Inner<B>,
}

/// Makes the bodies of further attempts. Dropping it is [`commit`](Self::commit).
#[derive(Debug)]
pub struct Replayer<B> {
    /// Nothing for a body that was empty from the start.
    call: Option<Arc<Mutex<Call<B>>>>,
}

impl<B> Replay<B> {
    /// The body of an only attempt: nothing is kept and nothing is allocated.
    pub fn once(body: B) -> Self {
        Self { inner: Inner::Once(body) }
    }
}

impl<B: Body> Replay<B> {
    /// Makes the body of the first attempt, and what makes those of the others. At most `limit` bytes of data are kept.
    ///
    /// Allocates once, and nothing for a body that is empty.
    pub fn new(body: B, limit: usize) -> (Self, Replayer<B>) {
        if body.is_end_stream() {
            return (Self { inner: Inner::Done }, Replayer { call: None });
        }
        let call = Arc::new(Mutex::new(Call::new(body, limit)));
        (Self { inner: Inner::Attempt(Arc::clone(&call), 1) }, Replayer { call: Some(call) })
    }
}

impl<B> Replayer<B> {
    /// Makes the body of the next attempt, which replaces the one before. Nothing if [`can_replay`](Self::can_replay)
    /// is false.
    #[must_use]
    pub fn again(&self) -> Option<Replay<B>> {
        let Some(shared) = &self.call else { return Some(Replay { inner: Inner::Done }) };
        let mut call = lock(shared);
        if call.committed {
            return None;
        }
        call.attempt += 1;
        call.running = true;
        call.kept.rewind();
        let number = call.attempt;
        unlock_and_wake(call);
        Some(Replay { inner: Inner::Attempt(Arc::clone(shared), number) })
    }

    /// Lets the running attempt stream on without keeping anything, and frees what it has sent. There is no other
    /// attempt after this, unless the body is empty.
    pub fn commit(&self) {
        let Some(shared) = &self.call else { return };
        let mut call = lock(shared);
        let freed = call.commit();
        drop(call);
        drop(freed);
    }

    /// Tells whether another attempt can be made: all of the body so far is kept, and it has not failed. True until
    /// then, also while an attempt runs.
    #[must_use]
    pub fn can_replay(&self) -> bool {
        self.call.as_ref().is_none_or(|call| !lock(call).committed)
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.call.as_ref().map_or(0, |call| lock(call).kept.bytes)
    }
}

impl<B> Drop for Replayer<B> {
    fn drop(&mut self) {
        self.commit();
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        let Inner::Attempt(shared, number) = &self.inner else { return };
        let mut call = lock(shared);
        if call.attempt != *number {
            return;
        }
        call.running = false;
        let waker = call.waker.take();
        let freed = if call.committed { call.commit() } else { None };
        drop(call);
        drop((waker, freed));
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let (shared, number) = match &mut this.inner {
            Inner::Done => return Poll::Ready(None),
            Inner::Once(body) => return Pin::new(body).poll_frame(cx).map_err(Into::into),
            Inner::Attempt(shared, number) => (shared, *number),
        };
        match poll_attempt(shared, number, cx) {
            Step::Yield(next) => next,
            Step::Fail(error) => {
                this.inner = Inner::Done;
                Poll::Ready(Some(Err(error)))
            }
            // Committed, and all that was kept is sent: from here on the attempt owns the body, and nothing is locked.
            Step::Own(body) => {
                this.inner = Inner::Once(body);
                Pin::new(this).poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Done => true,
            Inner::Once(body) => body.is_end_stream(),
            Inner::Attempt(shared, number) => {
                let call = lock(shared);
                let ended = match &call.source {
                    Source::Ended => true,
                    Source::Here(body) => body.is_end_stream(),
                    Source::Lent | Source::Failed(_) => false,
                };
                ended && call.attempt == *number && call.kept.is_sent()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Done => SizeHint::with_exact(0),
            Inner::Once(body) => body.size_hint(),
            Inner::Attempt(shared, number) => {
                let call = lock(shared);
                let rest = match &call.source {
                    _ if call.attempt != *number => return SizeHint::default(),
                    Source::Here(body) => body.size_hint(),
                    Source::Ended => SizeHint::with_exact(0),
                    Source::Lent | Source::Failed(_) => SizeHint::default(),
                };
                let kept = (call.kept.bytes - call.kept.sent) as u64;
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(kept));
                }
                hint
            }
        }
    }
}

#[derive(Debug)]
enum Inner<B> {
    Once(B),
    Attempt(Arc<Mutex<Call<B>>>, u32),
    Done,
}
