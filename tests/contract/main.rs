//! The contract of every layer, as `mainstay::layer` prints it, run over every layer.
//!
//! The inner service is `tower_test::mock`, which panics when it is called without having been ready (spec case P1).

#[path = "../layers/kit.rs"]
mod kit;

mod endings;
mod handles;
mod readiness;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use mainstay::BoxError;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::CatchPanicLayer;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::GuardLayer;
use mainstay::layer::ObserveLayer;
use mainstay::layer::RespondLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use mainstay::protocol::Replay;
use tower_layer::Layer;
use tower_service::Service;
use tower_test::mock;

use kit::*;

/// What a layer does with an error of the inner service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Errors {
    Passed,
    Answered,
}

/// Runs every check over one layer: its name, how it is made, the request body that it hands down, and what it does
/// with errors.
macro_rules! contract {
    ($name:ident, $layer:expr, $body:ty, $errors:expr) => {
        mod $name {
            use super::*;

            type Inner = mock::Mock<Request<$body>, Reply>;
            type Counted = <GuardLayer<Ledger> as Layer<Inner>>::Service;

            #[tokio::test(start_paused = true)]
            async fn ready_asks_the_inner_service_and_reserves_nothing() {
                let ledger = Ledger::default();
                let (inner, handle) = mock::pair::<Request<$body>, Reply>();
                let service = $layer.layer(GuardLayer::new(ledger.clone()).layer(inner));
                readiness::asks_the_inner_service(service, handle, &ledger, $errors).await;
            }

            #[tokio::test(start_paused = true)]
            async fn a_clone_copies_no_readiness() {
                let (inner, handle) = mock::pair::<Request<$body>, Reply>();
                readiness::is_not_cloned($layer.layer(inner), handle).await;
            }

            #[tokio::test(start_paused = true)]
            async fn every_ending_is_settled_exactly_once_below_and_above() {
                for way in endings::ALL {
                    let (below, above) = (Ledger::default(), Ledger::default());
                    let (inner, handle) = mock::pair::<Request<$body>, Reply>();
                    let counted: Counted = GuardLayer::new(below.clone()).layer(inner);
                    let service = GuardLayer::new(above.clone()).layer($layer.layer(counted));
                    endings::run(way, service, handle, $errors).await;
                    assert_eq!(below.only(), way.outcome(), "{way:?}");
                    assert_eq!(below.admitted(), 1, "{way:?}");
                    let seen = above.only();
                    if $errors == Errors::Passed || !way.is_error() {
                        assert_eq!(seen, way.outcome(), "{way:?}, seen from above");
                    }
                }
            }

            #[tokio::test(start_paused = true)]
            async fn no_task_is_spawned_and_a_drop_leaves_nothing() {
                let peer = Peer::new([]);
                endings::leaves_nothing($layer.layer(peer.clone()), &peer).await;
            }

            #[tokio::test(start_paused = true)]
            async fn a_rejection_from_below_is_found_or_answered() {
                let (inner, handle) = mock::pair::<Request<$body>, Reply>();
                handles::passes_rejections($layer.layer(inner), handle, $errors).await;
            }

            /// Spec case P9.
            #[test]
            fn everything_is_send_and_static() {
                fn check<S, R>(_: &S)
                where
                    S: Service<Request<Plain>, Response = Response<R>> + Clone + Send + 'static,
                    S::Future: Send + 'static,
                    R: Body<Data = Bytes> + Send + 'static,
                {
                }
                let (inner, _handle) = mock::pair::<Request<$body>, Reply>();
                check(&$layer.layer(inner));
            }
        }
    };
}

contract!(guard, GuardLayer::new(Ledger::default()), Plain, Errors::Passed);
contract!(breaker, a_breaker().layer(), Plain, Errors::Passed);
contract!(bulkhead, Bulkhead::new("bulkhead", 1).layer(), Plain, Errors::Passed);
contract!(client_deadline, DeadlineLayer::new(secs(1)), Plain, Errors::Passed);
contract!(server_deadline, DeadlineLayer::server(), Plain, Errors::Passed);
contract!(timeout, TimeoutLayer::new(secs(1)), Plain, Errors::Passed);
contract!(retry, a_retrier().layer(), Replay<Plain>, Errors::Passed);
contract!(peeking_retry, a_retrier().layer().peek_trailers(), Replay<Plain>, Errors::Passed);
contract!(observe_calls, ObserveLayer::calls("calls", Recorder::default().observer()), Plain, Errors::Passed);
contract!(observe_attempts, ObserveLayer::attempts("tries", Recorder::default().observer()), Plain, Errors::Passed);
contract!(respond, RespondLayer::new(), Plain, Errors::Answered);
contract!(catch_panic, CatchPanicLayer, Plain, Errors::Passed);
contract!(server, mainstay::server().timeout(secs(1)).max_concurrent(1), Plain, Errors::Answered);

fn a_breaker() -> Breaker {
    Breaker::new("breaker", BreakerConfig::default()).expect("the defaults are valid")
}

fn a_retrier() -> Retrier {
    Retrier::new("retrier", RetrierConfig::default()).expect("the defaults are valid")
}

fn refused() -> BoxError {
    Rejection::new(RejectionKind::BreakerOpen, "below".into()).with_retry_after(secs(3)).into()
}
