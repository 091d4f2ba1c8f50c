//! Deadlines: how long a call, or one attempt at it, may take.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use http::HeaderMap;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tower_layer::Layer;
use tower_service::Service;

use crate::context;
use crate::context::CallContext;
use crate::error::BoxError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::policy::deadline::deadline_after;
use crate::policy::deadline::earliest;
use crate::policy::deadline::is_past;
use crate::policy::deadline::remaining;
use crate::protocol::grpc_timeout;
use crate::protocol::grpc_timeout::GRPC_TIMEOUT;
use crate::protocol::headers::is_grpc;
use crate::time::Instant;
use crate::time::now;

/// Ends calls that take too long, and tells the layers below by when they must be done.
///
/// The deadline of a call is the earliest of: the timeout set here, the `grpc-timeout` of its request, and the
/// deadline of the call around it (a client that is called inside a server's handler inherits the server's). It covers
/// the response's body too. Layers below read it from [`context::current`]; a retry never sleeps into it.
///
/// On expiry the inner future or body is dropped, which resets the stream, and the caller gets a [`Rejection`] of kind
/// [`DeadlineExceeded`](RejectionKind::DeadlineExceeded). A call whose deadline has already passed never reaches the
/// inner service (gRPC deadlines; spec cases DL-03, DL-17).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use mainstay::layer::DeadlineLayer;
///
/// let client = DeadlineLayer::new(Duration::from_secs(2)); // writes the time that is left into `grpc-timeout`
/// let server = DeadlineLayer::server(); // obeys the `grpc-timeout` of its callers
/// # let _ = (client, server);
/// ```
///
/// A server that bounds callers who name no deadline:
/// ```
/// use std::time::Duration;
/// use mainstay::layer::DeadlineLayer;
///
/// let server = DeadlineLayer::server().timeout(Duration::from_secs(30));
/// # let _ = server;
/// ```
///
/// # Cancel safety
/// Dropping the future or the body drops the inner one and the timer; nothing is left behind.
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    name: Arc<str>,
    timeout: Option<Duration>,
    role: Role,
}

/// Whose time is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// A call to a peer, which is told the time that is left.
    Client,
    /// A call from a peer.
    Server,
}

impl DeadlineLayer {
    /// Bounds calls to a peer, and tells the peer of a gRPC call in `grpc-timeout` how much time is left.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self::with(Some(timeout), Role::Client)
    }

    /// Bounds calls to a peer only by `grpc-timeout` and by the call around them.
    #[must_use]
    pub fn inherited() -> Self {
        Self::with(None, Role::Client)
    }

    /// Bounds calls from peers by their `grpc-timeout`. A malformed one is refused, not ignored.
    #[must_use]
    pub fn server() -> Self {
        Self::with(None, Role::Server)
    }

    fn with(timeout: Option<Duration>, role: Role) -> Self {
        Self { name: "deadline".into(), timeout, role }
    }

    /// Sets the longest time that a call may take. [`Duration::MAX`] sets no bound.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the name that rejections carry. Default: `deadline`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    fn rejection(&self, kind: RejectionKind) -> Rejection {
        Rejection::new(kind, self.name.clone())
    }

    fn budget<B>(&self, now: Instant, request: &mut Request<B>) -> Result<CallContext, RejectionKind> {
        let mut context = context::current();
        let own = self.timeout.and_then(|timeout| deadline_after(now, timeout));
        let grpc = is_grpc(request.headers());
        let asked = match grpc {
            true => grpc_timeout::from_headers(request.headers()).map_err(|_| RejectionKind::DeadlineMalformed)?,
            false => None,
        };
        let asked = asked.map(|timeout| (timeout, deadline_after(now, timeout)));
        context.deadline = earliest(context.deadline, own);
        let header_stands = matches!(asked, Some((_, at)) if earliest(context.deadline, at) == at);
        context.deadline = earliest(context.deadline, asked.and_then(|(_, at)| at));
        if context.deadline.is_some_and(|deadline| is_past(now, deadline)) {
            return Err(RejectionKind::DeadlineExceeded);
        }
        if let (true, Role::Client, Some(deadline), false) = (grpc, self.role, context.deadline, header_stands) {
            write_timeout(request.headers_mut(), remaining(now, deadline));
        }
        Ok(context)
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner, layer: self.clone() }
    }
}

/// A service whose calls have a deadline. Made by [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, B, R> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Response = Response<DeadlineBody<R>>;
    type Error = BoxError;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.budget(now(), &mut request) {
            Ok(mut context) => {
                let entered = context.entered();
                let inner = self.inner.call(request);
                drop(entered);
                DeadlineFuture {
                    inner: Some(inner),
                    context,
                    timer: Timer::default(),
                    layer: self.layer.clone(),
                    refused: None,
                }
            }
            Err(kind) => {
                context::record(|record| record.rejected = Some(kind));
                DeadlineFuture {
                    inner: None,
                    context: context::current(),
                    timer: Timer::default(),
                    layer: self.layer.clone(),
                    refused: Some(kind),
                }
            }
        }
    }
}

/// Tells the peer how much time is left. Nothing is left in no header: such a call is not sent.
pub(crate) fn write_timeout(headers: &mut HeaderMap, left: Duration) {
    if let Some(value) = grpc_timeout::encode(left) {
        headers.insert(&GRPC_TIMEOUT, value.into());
    }
}

pin_project! {
    /// A timer that is set the first time that something has to wait: many calls never need one.
    #[derive(Debug, Default)]
    pub(crate) struct Timer {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer {
    pub(crate) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        let mut sleep = self.as_mut().project().sleep;
        if sleep.is_none() {
            sleep.set(Some(sleep_until(at)));
        }
        match sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

pin_project! {
    /// The future of a call with a deadline.
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        context: CallContext,
        #[pin]
        timer: Timer,
        layer: DeadlineLayer,
        refused: Option<RejectionKind>,
    }
}

impl<F, R, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: Into<BoxError>,
{
    type Output = Result<Response<DeadlineBody<R>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(kind) = this.refused.take() {
            return Poll::Ready(Err(this.layer.rejection(kind).into()));
        }
        let inner = this.inner.as_mut().as_pin_mut().expect("polled once more after it was ready");
        let entered = this.context.entered();
        let polled = inner.poll(cx);
        drop(entered);
        if let Poll::Ready(result) = polled {
            let (deadline, name) = (this.context.deadline, &this.layer.name);
            return Poll::Ready(match result {
                Ok(response) => Ok(response.map(|body| DeadlineBody::new(body, deadline, name))),
                Err(error) => Err(error.into()),
            });
        }
        if this.timer.poll(cx, this.context.deadline).is_pending() {
            return Poll::Pending;
        }
        this.context.enter(|| this.inner.set(None));
        context::record(|record| record.rejected = Some(RejectionKind::DeadlineExceeded));
        Poll::Ready(Err(this.layer.rejection(RejectionKind::DeadlineExceeded).into()))
    }
}

pin_project! {
    /// A response body that ends with an error at its deadline.
    #[derive(Debug)]
    pub struct DeadlineBody<B> {
        #[pin]
        inner: Option<B>,
        deadline: Option<Instant>,
        name: Arc<str>,
        // Boxed, and only for a body that has to wait, so that a body can be moved as others can.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> DeadlineBody<B> {
    fn new(body: B, deadline: Option<Instant>, name: &Arc<str>) -> Self {
        Self { inner: Some(body), deadline, name: name.clone(), timer: None }
    }
}

impl<B> Body for DeadlineBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = inner.poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(deadline) = *this.deadline else { return Poll::Pending };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(timer.as_mut().poll(cx));
        this.inner.set(None);
        Poll::Ready(Some(Err(Rejection::new(RejectionKind::DeadlineExceeded, this.name.clone()).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
