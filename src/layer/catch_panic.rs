//! Turns a panic of a handler into an error.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use http::Request;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;

/// Turns a panic of the inner service, in `call` or in its future, into the error [`Panicked`].
///
/// Without it a panic ends the connection, and the other calls on it. What the service had under its locks may be
/// half-done; that is for the service to guard against.
///
/// # Examples
/// ```
/// use mainstay::layer::CatchPanicLayer;
///
/// let layer = CatchPanicLayer;
/// # let _ = layer;
/// ```
///
/// Under [`RespondLayer`](crate::layer::RespondLayer), the caller gets 500 or INTERNAL:
/// ```
/// use mainstay::layer::{CatchPanicLayer, RespondLayer};
/// use tower::{ServiceBuilder, service_fn};
///
/// async fn broken(_: http::Request<String>) -> Result<http::Response<String>, std::io::Error> {
///     panic!("no luck")
/// }
///
/// let service = ServiceBuilder::new().layer(RespondLayer::new()).layer(CatchPanicLayer).service(service_fn(broken));
/// # let _ = service;
/// ```
///
/// # Cancel safety
/// Dropping the future drops the inner one.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic { inner }
    }
}

/// A service whose panics are errors. Made by [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let (inner, panicked) = match called {
            Ok(inner) => (Some(inner), None),
            Err(payload) => (None, Some(Panicked::new(&*payload))),
        };
        CatchPanicFuture { inner, panicked }
    }
}

pin_project! {
    /// The future of a call whose panic is an error.
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
        panicked: Option<Panicked>,
    }
}

impl<F, T, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(panicked) = this.panicked.take() {
            return Poll::Ready(Err(panicked.into()));
        }
        let inner = this.inner.as_mut().as_pin_mut().expect("polled once more after it was ready");
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(polled) => polled.map_err(Into::into),
            Err(payload) => {
                this.inner.set(None);
                Poll::Ready(Err(Panicked::new(&*payload).into()))
            }
        }
    }
}

/// A handler panicked. Says with which words in its `Debug` form only: they are not meant for callers.
#[derive(Clone, Debug)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self { message: text.unwrap_or("no message").to_owned() }
    }

    /// What the handler panicked with.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the handler panicked")
    }
}

impl Error for Panicked {}
