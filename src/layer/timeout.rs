//! How long one attempt may take to answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::context;
use crate::context::CallContext;
use crate::error::BoxError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::layer::deadline::Timer;
use crate::policy::deadline::deadline_after;
use crate::time::now;

/// Ends attempts whose response head does not come in time. Belongs inside of a retry.
///
/// The time runs from `call` to the head of the response; what the body does is the deadline's business
/// ([`DeadlineLayer`](crate::layer::DeadlineLayer)). On expiry the inner future is dropped, which resets the stream,
/// and the caller gets a [`Rejection`] of kind [`DeadlineExceeded`](RejectionKind::DeadlineExceeded), which a judge
/// takes as a timeout of the peer: a retry may repeat it, a breaker counts it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use mainstay::layer::TimeoutLayer;
///
/// let layer = TimeoutLayer::new(Duration::from_millis(500));
/// # let _ = layer;
/// ```
///
/// A stack whose attempts have a bound, but here none is set:
/// ```
/// use std::time::Duration;
/// use mainstay::layer::TimeoutLayer;
///
/// let layer = TimeoutLayer::new(Duration::MAX).named("orders");
/// # let _ = layer;
/// ```
///
/// # Cancel safety
/// Dropping the future drops the inner one and the timer.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    name: Arc<str>,
    timeout: Duration,
}

impl TimeoutLayer {
    /// Sets the longest time to the head of the response. [`Duration::MAX`] sets no bound.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { name: "attempt timeout".into(), timeout }
    }

    /// Sets the name that rejections carry. Default: `attempt timeout`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout { inner, layer: self.clone() }
    }
}

/// A service whose attempts have a bound. Made by [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    layer: TimeoutLayer,
}

impl<S, B, R> Service<Request<B>> for Timeout<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut context = context::current();
        context.attempt_deadline = deadline_after(now(), self.layer.timeout);
        let entered = context.entered();
        let inner = self.inner.call(request);
        drop(entered);
        TimeoutFuture { inner: Some(inner), context, timer: Timer::default(), name: self.layer.name.clone() }
    }
}

pin_project! {
    /// The future of an attempt that has a bound.
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        #[pin]
        inner: Option<F>,
        context: CallContext,
        #[pin]
        timer: Timer,
        name: Arc<str>,
    }
}

impl<F, R, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut().expect("polled once more after it was ready");
        let entered = this.context.entered();
        let polled = inner.poll(cx);
        drop(entered);
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map_err(Into::into));
        }
        if this.timer.poll(cx, this.context.attempt_deadline).is_pending() {
            return Poll::Pending;
        }
        this.context.enter(|| this.inner.set(None));
        Poll::Ready(Err(Rejection::new(RejectionKind::DeadlineExceeded, this.name.clone()).into()))
    }
}
