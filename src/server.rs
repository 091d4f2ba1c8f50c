//! The layer that a tonic or axum server adds in one line.

use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use crate::event::Observer;
use crate::guard::Bulkhead;
use crate::guard::Listener;
use crate::layer::CatchPanic;
use crate::layer::CatchPanicLayer;
use crate::layer::Deadline;
use crate::layer::DeadlineLayer;
use crate::layer::Guard;
use crate::layer::Observe;
use crate::layer::ObserveLayer;
use crate::layer::Respond;
use crate::layer::RespondLayer;

/// Makes the layer for a server: answers instead of errors, events, deadlines, panics to statuses.
///
/// In this order, outermost first: [`RespondLayer`] (nothing above sees an error), [`ObserveLayer`] (every call,
/// refused ones too), [`DeadlineLayer::server`] (the caller's `grpc-timeout`, which clients called inside a handler
/// inherit), the concurrency limit if one is set, and [`CatchPanicLayer`] next to the handler.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let layer = mainstay::server();
/// let bounded = mainstay::server().timeout(Duration::from_secs(30)).max_concurrent(512);
/// # let _ = (layer, bounded);
/// ```
#[must_use]
pub fn server() -> ServerLayer {
    ServerLayer {
        name: "server".into(),
        listener: Listener::default(),
        deadline: DeadlineLayer::server(),
        limit: Bulkhead::new("server", u32::MAX),
    }
}

/// The layer for a server. Made by [`server`].
#[derive(Clone, Debug)]
pub struct ServerLayer {
    name: Arc<str>,
    listener: Listener,
    deadline: DeadlineLayer,
    limit: Bulkhead,
}

/// A service behind the layers for a server.
pub type Served<S> = Respond<Observe<Deadline<Guard<CatchPanic<S>, Bulkhead>>>>;

impl ServerLayer {
    /// Sets the longest time that a call may take, whatever its caller says. Default: as long as the caller gives it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = self.deadline.timeout(timeout);
        self
    }

    /// Sets how many calls run at once; others are refused at once. Default: no bound.
    #[must_use]
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.limit = Bulkhead::build(self.name.clone(), calls, self.listener.clone());
        self
    }

    /// Tells `observer` of every call, and of those that are refused.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.listener = Listener::new(observer);
        let calls = self.limit.limit();
        self.max_concurrent(calls)
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = Served<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let inner = CatchPanicLayer.layer(inner);
        let inner = self.limit.layer().layer(inner);
        let inner = self.deadline.layer(inner);
        let inner = ObserveLayer::heard(self.name.clone(), self.listener.clone(), true).layer(inner);
        RespondLayer::new().layer(inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Request;
    use http::Response;
    use tower_service::Service;

    use super::*;
    use crate::error::BoxError;
    use crate::event::Event;
    use crate::event::Scope;
    use crate::outcome::Failure;
    use crate::outcome::Outcome;
    use crate::sync::lock;

    #[tokio::test]
    async fn a_handler_that_panics_is_told_as_a_failure_of_the_server() {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let heard = outcomes.clone();
        let layer = server().observer(Arc::new(move |_: &Scope<'_>, event: &Event<'_>| {
            if let Event::Ended { outcome, .. } = event {
                lock(&heard).push(*outcome);
            }
        }));
        let handler = tower::service_fn(|_: Request<String>| async {
            if true {
                panic!("no luck")
            }
            Ok::<Response<String>, BoxError>(Response::default())
        });

        let response = layer.layer(handler).call(Request::default()).await.expect("it never fails");
        assert_eq!(response.status(), 500);
        assert_eq!(*lock(&outcomes), [Outcome::Failure(Failure::Server)]);
    }
}
