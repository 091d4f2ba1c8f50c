//! The one tower adapter for every guard.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Request;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::context;
use crate::error::BoxError;
use crate::error::Rejection;
use crate::guard::Admit;
use crate::guard::Breaker;
use crate::guard::Bulkhead;
use crate::guard::Settle;
use crate::layer::watch::Finish;
use crate::layer::watch::Hold;
use crate::layer::watch::Watch;
use crate::layer::watch::Watched;
use crate::outcome::Ending;
use crate::protocol::Auto;
use crate::protocol::Classify;
use crate::protocol::Tracked;
use crate::time::Instant;
use crate::time::now;

/// Puts a guard in front of a service: asks it who may start, and tells it how each call ended.
///
/// Made by a guard's `layer()`. A call is admitted in `call`; a refused one never reaches the service, and its future
/// is ready at once with the guard's [`Rejection`]. An admitted one is judged by [`Auto`], or by what
/// [`classify`](Self::classify) sets, when the body of its response ends.
///
/// # Examples
/// ```
/// use mainstay::guard::Breaker;
/// use mainstay::policy::BreakerConfig;
/// use tower::{ServiceBuilder, service_fn};
///
/// async fn peer(_: http::Request<String>) -> Result<http::Response<String>, std::io::Error> {
///     Ok(http::Response::new("hello".to_owned()))
/// }
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let breaker = Breaker::new("peer", BreakerConfig::default())?;
/// let client = ServiceBuilder::new().layer(breaker.layer()).service(service_fn(peer));
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// A breaker that hears of callers who give up on a hung peer, and lets go at the head of the response:
/// ```
/// use std::time::Duration;
/// use mainstay::guard::Breaker;
/// use mainstay::layer::Hold;
/// use mainstay::policy::BreakerConfig;
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let breaker = Breaker::new("peer", BreakerConfig::default())?;
/// let layer = breaker.layer().cancelled_after(Duration::from_secs(1)).hold(Hold::Head);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// A future or body that is dropped settles its permit as cancelled. Once the call's deadline, or the time set by
/// [`cancelled_after`](Self::cancelled_after), has passed, it settles as a timeout instead: the caller gave up because
/// the peer was too slow.
#[derive(Clone, Debug)]
pub struct GuardLayer<A, C = Auto> {
    guard: A,
    classify: C,
    hold: Hold,
    cancelled_after: Option<Duration>,
}

impl<A: Admit> GuardLayer<A> {
    /// Makes a layer of a guard.
    #[must_use]
    pub fn new(guard: A) -> Self {
        Self { guard, classify: Auto, hold: Hold::End, cancelled_after: None }
    }
}

impl<A, C> GuardLayer<A, C> {
    /// Judges responses in another way.
    #[must_use]
    pub fn classify<D: Classify>(self, classify: D) -> GuardLayer<A, D> {
        GuardLayer { guard: self.guard, classify, hold: self.hold, cancelled_after: self.cancelled_after }
    }

    /// Sets how long the permit is held. Default: to the end of the body.
    #[must_use]
    pub fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// Counts callers who give up after this long as timeouts. Default: only those whose deadline has passed.
    #[must_use]
    pub fn cancelled_after(mut self, after: Duration) -> Self {
        self.cancelled_after = Some(after);
        self
    }
}

impl<S, A: Clone, C: Clone> Layer<S> for GuardLayer<A, C> {
    type Service = Guard<S, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { inner, layer: self.clone() }
    }
}

/// A service behind a guard. Made by [`GuardLayer`].
#[derive(Clone, Debug)]
pub struct Guard<S, A, C = Auto> {
    inner: S,
    layer: GuardLayer<A, C>,
}

impl<S, A, C, B, R> Service<Request<B>> for Guard<S, A, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    A: Admit,
    C: Classify,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Response = Response<Tracked<R, Watch<Held<A::Permit>>>>;
    type Error = BoxError;
    type Future = GuardFuture<S::Future, A::Permit>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let started = now();
        let permit = match self.layer.guard.admit(started) {
            Ok(permit) => permit,
            Err(rejection) => return GuardFuture::refused(rejection),
        };
        let judge = self.layer.classify.judge(request.method(), request.uri(), request.headers());
        let patience = self.layer.cancelled_after.and_then(|after| started.checked_add(after));
        let watch = Watch::new(Held { permit, patience }, judge, self.layer.hold);
        GuardFuture { state: State::Calling { inner: Watched::new(watch, || self.inner.call(request)) } }
    }
}

/// A permit that waits for the end of its call.
#[derive(Debug)]
pub struct Held<P> {
    permit: P,
    patience: Option<Instant>,
}

impl<P: Settle> Finish for Held<P> {
    fn patience(&self) -> Option<Instant> {
        self.patience
    }

    fn finish(self, now: Instant, ending: &Ending) {
        self.permit.settle(now, ending.outcome);
    }
}

pin_project! {
    /// The future of a guarded call.
    #[derive(Debug)]
    pub struct GuardFuture<F, P: Settle> {
        #[pin]
        state: State<F, P>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F, P: Settle> {
        Refused { rejection: Option<Rejection> },
        Calling { #[pin] inner: Watched<F, Held<P>> },
    }
}

impl<F, P: Settle> GuardFuture<F, P> {
    fn refused(rejection: Rejection) -> Self {
        context::record(|record| record.rejected = Some(rejection.kind()));
        Self { state: State::Refused { rejection: Some(rejection) } }
    }
}

impl<F, P, R, E> Future for GuardFuture<F, P>
where
    F: Future<Output = Result<Response<R>, E>>,
    P: Settle,
    R: Body,
    R::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    type Output = Result<Response<Tracked<R, Watch<Held<P>>>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Calling { inner } => inner.poll(cx),
            StateProjection::Refused { rejection } => {
                Poll::Ready(Err(rejection.take().expect("polled once more after it was ready").into()))
            }
        }
    }
}

impl Breaker {
    /// Makes a tower layer of this breaker. Every layer made of it shares its state.
    #[must_use]
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}

impl Bulkhead {
    /// Makes a tower layer of this bulkhead. Every layer made of it shares its state.
    #[must_use]
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}
