//! Tells an observer of every call, or of every attempt.

use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use http::Request;
use http::Response;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::context;
use crate::error::BoxError;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::event::Span;
use crate::guard::Listener;
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

/// Tells an observer when a call starts and how it ended.
///
/// [`Event::Started`] fires in `call`; [`Event::Ended`] fires once for each of them: when the body of the response has
/// ended, when the call failed, or when its future or body was dropped.
///
/// # Examples
/// Outside of a retry, calls:
/// ```
/// use std::sync::Arc;
/// use mainstay::layer::ObserveLayer;
/// use mainstay::{Event, Scope};
///
/// let layer = ObserveLayer::calls("orders", Arc::new(|scope: &Scope<'_>, event: &Event<'_>| {
///     println!("{}: {event:?}", scope.name);
/// }));
/// # let _ = layer;
/// ```
/// Inside of a retry, attempts, which carry their number:
/// ```
/// use std::sync::Arc;
/// use mainstay::layer::ObserveLayer;
/// use mainstay::{Event, Scope};
///
/// let layer = ObserveLayer::attempts("orders", Arc::new(|_: &Scope<'_>, _: &Event<'_>| {}));
/// # let _ = layer;
/// ```
///
/// # Cancel safety
/// A dropped future or body ends its call as cancelled, or as a timeout if the deadline has passed.
#[derive(Clone)]
pub struct ObserveLayer(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    listener: Listener,
    whole: bool,
}

impl ObserveLayer {
    /// Observes calls. Belongs outside of a retry.
    #[must_use]
    pub fn calls(name: impl Into<Arc<str>>, observer: Arc<dyn Observer>) -> Self {
        Self::heard(name.into(), Listener::new(observer), true)
    }

    /// Observes attempts. Belongs inside of a retry.
    #[must_use]
    pub fn attempts(name: impl Into<Arc<str>>, observer: Arc<dyn Observer>) -> Self {
        Self::heard(name.into(), Listener::new(observer), false)
    }

    pub(crate) fn heard(name: Arc<str>, listener: Listener, whole: bool) -> Self {
        Self(Arc::new(Inner { name, listener, whole }))
    }

    fn span(&self) -> Span {
        match self.0.whole {
            true => Span::Call,
            false => Span::Attempt { number: context::current().attempt.max(1) },
        }
    }
}

impl fmt::Debug for ObserveLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveLayer").field("name", &self.0.name).field("whole", &self.0.whole).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observe { inner, layer: self.clone() }
    }
}

/// A service whose calls are observed. Made by [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Response = Response<Tracked<R, Watch<Told>>>;
    type Error = BoxError;
    type Future = Watched<S::Future, Told>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (started, span) = (now(), self.layer.span());
        let told = Told { layer: self.layer.clone(), span, started };
        told.layer.0.listener.hear(&Scope::new(&told.layer.0.name), &Event::Started { span });
        let judge = Auto.judge(request.method(), request.uri(), request.headers());
        let watch = Watch::new(told, judge, Hold::End);
        Watched::new(watch, || self.inner.call(request))
    }
}

/// An observer that waits for the end of a call.
#[derive(Debug)]
pub struct Told {
    layer: ObserveLayer,
    span: Span,
    started: Instant,
}

impl Finish for Told {
    fn finish(self, now: Instant, ending: &Ending) {
        let latency = now.saturating_duration_since(self.started);
        let event = Event::Ended { span: self.span, outcome: ending.outcome, answer: ending.answer, latency };
        self.layer.0.listener.hear(&Scope::new(&self.layer.0.name), &event);
    }
}
