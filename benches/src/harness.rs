//! The trivial services that every contender wraps, and how a call is driven without an executor.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body_util::Empty;
use http_body_util::Full;
use tower::Service;

/// Makes so many calls.
pub type Run = Box<dyn FnMut(u64)>;

/// One row of the table.
pub struct Case {
    pub group: &'static str,
    pub contender: &'static str,
    pub variant: String,
    /// The row of group `baseline` that the call costs without any layer, if that means something here.
    pub baseline: Option<&'static str>,
    /// How many endpoints or calls it is about, where the cost should not depend on that.
    pub size: Option<u64>,
    /// Sets up what is measured. Runs inside of a tokio runtime's context.
    pub make: Box<dyn Fn() -> Run>,
}

impl Case {
    pub fn new(
        group: &'static str,
        contender: &'static str,
        variant: impl Into<String>,
        baseline: Option<&'static str>,
        make: impl Fn() -> Run + 'static,
    ) -> Self {
        Self { group, contender, variant: variant.into(), baseline, size: None, make: Box::new(make) }
    }

    pub fn sized(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    pub fn id(&self) -> String {
        match self.size {
            Some(size) => format!("{}/{size}", self.shape()),
            None => self.shape(),
        }
    }

    /// The name without the size.
    pub fn shape(&self) -> String {
        let Self { group, contender, variant, .. } = self;
        if variant.is_empty() { format!("{group}/{contender}") } else { format!("{group}/{contender}/{variant}") }
    }
}

pub const IMMEDIATE: &str = "baseline/none/immediate";
pub const PENDING: &str = "baseline/none/pending-once";
pub const FAILING: &str = "baseline/none/failing";
pub const GRPC: &str = "baseline/none/grpc";

/// What an error of the trivial service says.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

/// Answers as its kind says, without looking at the request.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// At once, as no network does.
    Immediate,
    /// When it is polled for the second time, as every network call does, so that timers are set and dropped.
    PendingOnce,
    /// At once, with an error.
    Failing,
}

impl<B> Service<Request<B>> for Peer {
    type Response = Response<Empty<Bytes>>;
    type Error = Broken;
    type Future = PeerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> PeerFuture {
        drop(black_box(request));
        PeerFuture { peer: *self, polled: false }
    }
}

/// The same for requests of one type, which tower's discovery has to know.
#[derive(Clone, Copy, Debug)]
pub struct Unasked(pub Peer);

impl Service<Request<Empty<Bytes>>> for Unasked {
    type Response = Response<Empty<Bytes>>;
    type Error = Broken;
    type Future = PeerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> PeerFuture {
        self.0.call(request)
    }
}

pub struct PeerFuture {
    peer: Peer,
    polled: bool,
}

impl Future for PeerFuture {
    type Output = Result<Response<Empty<Bytes>>, Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match black_box(self.peer) {
            Peer::Failing => Poll::Ready(Err(Broken)),
            Peer::PendingOnce if !self.polled => {
                self.polled = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Peer::Immediate | Peer::PendingOnce => Poll::Ready(Ok(Response::new(Empty::new()))),
        }
    }
}

/// A unary gRPC server: reads the request's body to its end, answers one message and trailers.
#[derive(Clone, Copy, Debug)]
pub struct GrpcPeer;

impl<B: Body + Unpin> Service<Request<B>> for GrpcPeer {
    type Response = Response<Unary>;
    type Error = Broken;
    type Future = GrpcFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        GrpcFuture { body: request.into_body() }
    }
}

pub struct GrpcFuture<B> {
    body: B,
}

impl<B: Body + Unpin> Future for GrpcFuture<B> {
    type Output = Result<Response<Unary>, Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if frame.is_none() {
                let mut response = Response::new(Unary::Message);
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                return Poll::Ready(Ok(response));
            }
        }
        Poll::Pending
    }
}

/// The body of a unary answer.
pub enum Unary {
    Message,
    Trailers,
    Over,
}

impl Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (next, frame) = match *self {
            Self::Message => (Self::Trailers, Frame::data(Bytes::from_static(&MESSAGE))),
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                (Self::Over, Frame::trailers(trailers))
            }
            Self::Over => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Over)
    }
}

static MESSAGE: [u8; 1024] = [0; 1024];

fn empty_request() -> Request<Empty<Bytes>> {
    Request::new(Empty::new())
}

/// What a generated client sends: POST, a path, five headers, one message.
fn grpc_request() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(&MESSAGE)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("/mainstay.demo.v1.Greeter/SayHello");
    let headers = request.headers_mut();
    headers.reserve(5);
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "bench"),
        ("grpc-accept-encoding", "identity"),
        ("x-request-id", "00000000-0000-0000-0000-000000000000"),
    ] {
        headers.insert(http::HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    request
}

/// Calls that must succeed.
pub fn succeed<S, R, E>(mut service: S) -> Run
where
    S: Service<Request<Empty<Bytes>>, Response = Response<R>, Error = E> + 'static,
    R: Body + 'static,
{
    Box::new(move |calls| {
        for _ in 0..calls {
            assert!(one(&mut service, empty_request()).is_ok(), "a call failed that should not");
        }
    })
}

/// Calls that must fail.
pub fn fail<S, R, E>(mut service: S) -> Run
where
    S: Service<Request<Empty<Bytes>>, Response = Response<R>, Error = E> + 'static,
    R: Body + 'static,
{
    Box::new(move |calls| {
        for _ in 0..calls {
            assert!(one(&mut service, empty_request()).is_err(), "a call succeeded that should not");
        }
    })
}

/// Unary gRPC calls that must succeed, read to their trailers.
pub fn unary<S, R, E>(mut service: S) -> Run
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = E> + 'static,
    R: Body + 'static,
{
    Box::new(move |calls| {
        for _ in 0..calls {
            assert!(one(&mut service, grpc_request()).is_ok(), "a call failed that should not");
        }
    })
}

/// One call: ready, call, result, and the response's body to its end.
#[inline]
fn one<S, Q, R>(service: &mut S, request: Request<Q>) -> Result<(), ()>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
{
    finish(pin!(std::future::poll_fn(|cx| service.poll_ready(cx)))).map_err(drop)?;
    // Pinned where it is made: a copy of the future would be counted as the layers' cost.
    let response = finish(pin!(service.call(request))).map_err(drop)?;
    let mut body = pin!(response.into_body());
    while !black_box(&body).is_end_stream() {
        if finish(pin!(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)))).is_none() {
            break;
        }
    }
    Ok(())
}

/// Polls a future on this thread until it is ready. Every future here makes progress each time.
#[inline]
fn finish<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

pub fn baselines() -> Vec<Case> {
    vec![
        Case::new("baseline", "none", "immediate", None, || succeed(Peer::Immediate)),
        Case::new("baseline", "none", "pending-once", None, || succeed(Peer::PendingOnce)),
        Case::new("baseline", "none", "failing", None, || fail(Peer::Failing)),
        Case::new("baseline", "none", "grpc", None, || unary(GrpcPeer)),
    ]
}
