//! What the attempts of one call share: the caller's body, the frames that are kept, and the lock around both.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;

use crate::error::BoxError;
use crate::sync::Mutex;
use crate::sync::MutexGuard;
use crate::sync::lock;

/// What the attempts of one call share.
///
/// It needs a lock, the only one of this room: the body of an attempt lives in a connection's task, and the one who
/// decides about another attempt in the caller's.
#[derive(Debug)]
pub(super) struct Call<B> {
    pub(super) source: Source<B>,
    pub(super) kept: Kept,
    limit: usize,
    pub(super) committed: bool,
    /// The number of the latest attempt. Those before are replaced.
    pub(super) attempt: u32,
    /// Whether the latest attempt's body still exists.
    pub(super) running: bool,
    /// Of the latest attempt, if it waits.
    pub(super) waker: Option<Waker>,
}

/// The caller's body.
#[derive(Debug)]
pub(super) enum Source<B> {
    Here(B),
    /// An attempt is polling it, outside of the lock.
    Lent,
    Ended,
    /// The error is there if the attempt that got it was replaced meanwhile.
    Failed(Option<BoxError>),
}

/// The frames that are kept, and the latest attempt's cursor.
///
/// The first lies in place: most calls of gRPC have one.
#[derive(Debug, Default)]
pub(super) struct Kept {
    first: Option<Bytes>,
    more: Vec<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    /// The bytes that are kept.
    pub(super) bytes: usize,
    /// How many frames the latest attempt has taken, and how many of the bytes that are kept were in them.
    next: usize,
    pub(super) sent: usize,
}

pub(super) enum Step<B> {
    Yield(Poll<Option<Result<Frame<Bytes>, BoxError>>>),
    Fail(BoxError),
    Own(B),
}

pub(super) fn poll_attempt<B>(shared: &Mutex<Call<B>>, number: u32, cx: &mut Context<'_>) -> Step<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut call = lock(shared);
    if call.attempt != number {
        return Step::Fail(Replaced.into());
    }
    let committed = call.committed;
    if let Some(frame) = call.kept.take_next(committed) {
        return Step::Yield(Poll::Ready(Some(Ok(frame))));
    }
    let body = match std::mem::replace(&mut call.source, Source::Ended) {
        Source::Here(body) if committed => return Step::Own(body),
        Source::Here(body) => body,
        Source::Ended => return Step::Yield(Poll::Ready(None)),
        Source::Failed(Some(error)) => {
            call.source = Source::Failed(None);
            return Step::Fail(error);
        }
        Source::Failed(None) => {
            call.source = Source::Failed(None);
            return Step::Yield(Poll::Ready(None));
        }
        // An attempt that was replaced is in the middle of a poll. It will wake us when it has given the body back.
        Source::Lent => {
            call.source = Source::Lent;
            call.wait(cx);
            return Step::Yield(Poll::Pending);
        }
    };
    call.source = Source::Lent;
    drop(call);

    let mut loan = Loan { shared, body: Some(body) };
    let next = loan.poll(cx);
    let body = loan.body.take();
    let next = next.map(|frame| frame.map(|frame| frame.map_err(Into::into)));
    let ended = match &next {
        Poll::Pending => false,
        Poll::Ready(None | Some(Err(_))) => true,
        Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || body.as_ref().is_none_or(Body::is_end_stream),
    };

    let mut call = lock(shared);
    let finished = match body {
        Some(body) if !ended => {
            call.source = Source::Here(body);
            None
        }
        finished => {
            call.source = Source::Ended;
            finished
        }
    };
    let (step, waker) = call.accept(number, next, cx);
    let freed = if call.committed && !call.running { call.commit() } else { None };
    drop(call);
    // Foreign code, which must not run under the lock.
    drop((finished, freed));
    if let Some(waker) = waker {
        waker.wake();
    }
    step
}

impl<B> Call<B> {
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self {
            source: Source::Here(body),
            kept: Kept::default(),
            limit,
            committed: false,
            attempt: 1,
            running: true,
            waker: None,
        }
    }

    /// Takes in what an attempt got from the caller's body. Returns the waker of the latest attempt if it is another.
    fn accept(
        &mut self,
        number: u32,
        next: Poll<Option<Result<Frame<Bytes>, BoxError>>>,
        cx: &Context<'_>,
    ) -> (Step<B>, Option<Waker>) {
        let replaced = self.attempt != number;
        let step = match next {
            Poll::Pending if !replaced => {
                self.wait(cx);
                Step::Yield(Poll::Pending)
            }
            Poll::Ready(None) if !replaced => Step::Yield(Poll::Ready(None)),
            Poll::Ready(Some(Ok(frame))) => {
                self.keep(&frame, replaced);
                if replaced { Step::Fail(Replaced.into()) } else { Step::Yield(Poll::Ready(Some(Ok(frame)))) }
            }
            Poll::Ready(Some(Err(error))) if replaced => {
                self.fail(Some(error));
                Step::Fail(Replaced.into())
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(None);
                Step::Fail(error)
            }
            Poll::Pending | Poll::Ready(None) => Step::Fail(Replaced.into()),
        };
        (step, if replaced { self.waker.take() } else { None })
    }

    /// Keeps a frame that the latest attempt has passed on, or, if `ahead`, has yet to take.
    fn keep(&mut self, frame: &Frame<Bytes>, ahead: bool) {
        let len = frame.data_ref().map_or(0, Bytes::len);
        if !self.committed && self.kept.bytes.saturating_add(len) > self.limit {
            self.committed = true;
            self.kept.release();
        }
        if self.committed && !ahead {
            return;
        }
        self.kept.push(frame);
        if !ahead {
            self.kept.skip_to_end();
        }
    }

    /// The caller's body failed: there is no other attempt, and the latest one fails when it comes to here.
    fn fail(&mut self, error: Option<BoxError>) {
        self.source = Source::Failed(error);
        self.committed = true;
        self.kept.release();
    }

    /// Ends the keeping. Returns the caller's body if nobody will read it any more.
    pub(super) fn commit(&mut self) -> Option<Source<B>> {
        self.committed = true;
        if self.running {
            self.kept.release();
            return None;
        }
        self.kept = Kept::default();
        match self.source {
            Source::Lent => None,
            _ => Some(std::mem::replace(&mut self.source, Source::Ended)),
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}

impl Kept {
    fn frames(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Tells whether the latest attempt has taken all that is kept.
    pub(super) fn is_sent(&self) -> bool {
        self.next >= self.frames() + usize::from(self.trailers.is_some())
    }

    /// Keeps a frame behind the others. One without data is not worth it.
    fn push(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(Box::new(trailers.clone()));
        }
        let Some(data) = frame.data_ref().filter(|data| !data.is_empty()) else { return };
        self.bytes += data.len();
        match self.first {
            None => self.first = Some(data.clone()),
            Some(_) => self.more.push(data.clone()),
        }
    }

    pub(super) fn rewind(&mut self) {
        (self.next, self.sent) = (0, 0);
    }

    fn skip_to_end(&mut self) {
        self.next = self.frames() + usize::from(self.trailers.is_some());
        self.sent = self.bytes;
    }

    /// The next frame for the latest attempt; once `committed`, it is let go.
    fn take_next(&mut self, committed: bool) -> Option<Frame<Bytes>> {
        if self.is_sent() {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let slot = match index {
            0 => self.first.as_mut(),
            _ => self.more.get_mut(index - 1),
        };
        let frame = match slot {
            Some(data) => {
                self.sent += data.len();
                Frame::data(data.clone())
            }
            None => Frame::trailers(HeaderMap::clone(self.trailers.as_ref()?)),
        };
        if committed {
            self.release();
        }
        Some(frame)
    }

    /// Lets go of what the latest attempt has taken.
    fn release(&mut self) {
        self.bytes -= self.sent;
        self.sent = 0;
        if self.is_sent() {
            *self = Self::default();
            return;
        }
        // Emptied and not removed, so that the cursor stays right.
        for data in self.first.iter_mut().chain(&mut self.more).take(self.next) {
            *data = Bytes::new();
        }
    }
}

/// The caller's body in the hands of one attempt.
///
/// If its poll panics, the others must not wait for it for ever.
struct Loan<'a, B> {
    shared: &'a Mutex<Call<B>>,
    body: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin> Loan<'_, B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }
}

impl<B> Drop for Loan<'_, B> {
    fn drop(&mut self) {
        if self.body.is_none() {
            return;
        }
        let mut call = lock(self.shared);
        call.fail(Some(Panicked.into()));
        unlock_and_wake(call);
    }
}

pub(super) fn unlock_and_wake<B>(mut call: MutexGuard<'_, Call<B>>) {
    let waker = call.waker.take();
    drop(call);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The error of an attempt that another one has replaced.
#[derive(Debug)]
struct Replaced;

/// The error of an attempt after one before has panicked in the caller's body.
#[derive(Debug)]
struct Panicked;

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another attempt has taken over the request body")
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body panicked")
    }
}

impl Error for Replaced {}
impl Error for Panicked {}
