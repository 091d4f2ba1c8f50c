//! Bodies that play a script, and what reads them.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

/// What a scripted body does when it is polled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers,
    Pending,
    Error,
}

/// A body that plays a script and then ends.
#[derive(Debug)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// Whether it says so when its end is near, as a body with a length does.
    says_end: bool,
    /// Counts drops of the body.
    pub(crate) drops: Arc<AtomicUsize>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), says_end: false, drops: Arc::default() }
    }

    pub(crate) fn saying_end(mut self) -> Self {
        self.says_end = true;
        self
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Trailers) => {
                self.steps.clear();
                Poll::Ready(Some(Ok(Frame::trailers(trailers()))))
            }
            Some(Step::Error) => {
                self.steps.clear();
                Poll::Ready(Some(Err(Broken)))
            }
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = |step: &Step| if let Step::Data(data) = step { data.len() as u64 } else { 0 };
        if self.says_end { SizeHint::with_exact(self.steps.iter().map(data).sum()) } else { SizeHint::default() }
    }
}

/// What a broken script fails with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the script is broken here")
    }
}

impl Error for Broken {}

pub(crate) fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

/// The trailers that a script sends.
pub(crate) fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// What a reader saw of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Data(Bytes),
    Trailers(HeaderMap),
    Error(String),
    End,
}

/// Polls once, or nothing if the body is not ready.
pub(crate) fn poll<B>(body: &mut B) -> Option<Seen>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    poll_with(body, Waker::noop())
}

pub(crate) fn poll_with<B>(body: &mut B, waker: &Waker) -> Option<Seen>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    match Pin::new(body).poll_frame(&mut Context::from_waker(waker)) {
        Poll::Pending => None,
        Poll::Ready(None) => Some(Seen::End),
        Poll::Ready(Some(Err(error))) => Some(Seen::Error(error.to_string())),
        Poll::Ready(Some(Ok(frame))) => Some(match frame.into_data() {
            Ok(data) => Seen::Data(data),
            Err(frame) => Seen::Trailers(frame.into_trailers().expect("it is not data")),
        }),
    }
}

/// Reads a body to its end or its error, through every time that it is not ready.
pub(crate) fn read<B>(body: &mut B) -> Vec<Seen>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let mut all = Vec::new();
    for _ in 0..10_000 {
        let Some(seen) = poll(body) else { continue };
        let over = matches!(seen, Seen::End | Seen::Error(_));
        all.push(seen);
        if over {
            return all;
        }
    }
    panic!("the body does not end: {all:?}");
}

/// The bytes among what was seen.
pub(crate) fn bytes_of(seen: &[Seen]) -> Vec<u8> {
    let data = |seen: &Seen| if let Seen::Data(data) = seen { data.to_vec() } else { Vec::new() };
    seen.iter().flat_map(data).collect()
}

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicUsize);

impl Bell {
    pub(crate) fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
