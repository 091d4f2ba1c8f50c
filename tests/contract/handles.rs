//! Points 2, 4, 5, 7 and 10: refusals, shared state, calling again, observers that panic, errors through a stack.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use mainstay::BoxError;
use mainstay::Event;
use mainstay::Failure;
use mainstay::Observer;
use mainstay::Outcome;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::Scope;
use mainstay::event::BreakerState;
use mainstay::guard::Admit;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::guard::Settle;
use mainstay::layer::CatchPanicLayer;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::ObserveLayer;
use mainstay::layer::RespondLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;
use mainstay::protocol::Replay;
use mainstay::time::now;
use tower::ServiceBuilder;
use tower_layer::Layer;
use tower_service::Service;
use tower_test::mock;

use crate::Errors;
use crate::kit::*;
use crate::refused;

pub(crate) async fn passes_rejections<S, R, B>(
    mut service: S,
    mut handle: mock::Handle<Request<B>, Reply>,
    errors: Errors,
) where
    S: Service<Request<Plain>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into).expect("it is ready");
    let future = service.call(grpc_request());
    let (_, send) = handle.next_request().await.expect("it reached the inner service");
    send.send_error(refused());
    match (errors, future.await) {
        (Errors::Passed, Err(error)) => {
            let error = error.into();
            let rejection = rejection(&error);
            assert_eq!((rejection.kind(), rejection.by()), (RejectionKind::BreakerOpen, "below"));
            assert_eq!(rejection.retry_after(), Some(secs(3)));
        }
        (Errors::Answered, Ok(response)) => {
            assert_eq!(grpc_status(response.headers()), Some(14));
            assert_eq!(response.headers()["grpc-retry-pushback-ms"], "3000");
        }
        (_, Ok(response)) => panic!("answered {:?}", response.headers()),
        (_, Err(error)) => panic!("failed with {:?}", error.into()),
    }
}

/// Calls a service that refuses: at once, and without the inner service.
async fn is_refused<S, R, B>(mut service: S, mut handle: mock::Handle<Request<B>, Reply>, kind: RejectionKind)
where
    S: Service<Request<Plain>, Response = Response<R>, Error = BoxError>,
{
    refuses(&mut service, request_without_time(), kind).await;
    assert!(poll_once(pin!(handle.next_request())).await.is_pending(), "a refused call costs no inner call");
}

async fn refuses<S, R>(service: &mut S, request: Request<Plain>, kind: RejectionKind)
where
    S: Service<Request<Plain>, Response = Response<R>, Error = BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.expect("it is ready");
    let Poll::Ready(result) = poll_once(pin!(service.call(request))).await else {
        panic!("a refusal is there at once");
    };
    let Err(error) = result else { panic!("a refusal") };
    assert_eq!(rejection(&error).kind(), kind);
}

fn request_without_time() -> Request<Plain> {
    let mut request = grpc_request();
    request.headers_mut().extend(headers(&[("grpc-timeout", "0n")]));
    request
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_costs_no_inner_call() {
    let breaker = crate::a_breaker();
    breaker.force_open();
    let (inner, handle) = mock::pair::<Request<Plain>, Reply>();
    is_refused(breaker.layer().layer(inner), handle, RejectionKind::BreakerOpen).await;

    let (inner, handle) = mock::pair::<Request<Plain>, Reply>();
    is_refused(Bulkhead::new("none", 0).layer().layer(inner), handle, RejectionKind::Overloaded).await;

    for layer in [DeadlineLayer::new(secs(1)), DeadlineLayer::inherited(), DeadlineLayer::server()] {
        let (inner, handle) = mock::pair::<Request<Plain>, Reply>();
        is_refused(layer.layer(inner), handle, RejectionKind::DeadlineExceeded).await;
    }
    // Through a stack of the others.
    let (inner, handle) = mock::pair::<Request<Replay<Plain>>, Reply>();
    let stack = ServiceBuilder::new()
        .layer(ObserveLayer::calls("calls", Recorder::default().observer()))
        .layer(TimeoutLayer::new(secs(1)))
        .layer(crate::a_retrier().layer())
        .layer(CatchPanicLayer)
        .layer(Bulkhead::new("none", 0).layer())
        .service(inner);
    is_refused(stack, handle, RejectionKind::Overloaded).await;
}

#[tokio::test(start_paused = true)]
async fn layers_made_of_one_handle_share_its_state() {
    let bulkhead = Bulkhead::new("one", 1);
    let (first, second) = (Peer::new([]), Peer::new([]));
    let (mut first, mut second) = (bulkhead.layer().layer(first), bulkhead.clone().layer().layer(second));
    let running = first.call(grpc_request());
    refuses(&mut second, grpc_request(), RejectionKind::Overloaded).await;
    refuses(&mut first.clone(), grpc_request(), RejectionKind::Overloaded).await;
    drop(running);
    assert_eq!(bulkhead.in_flight(), 0);
    drop(second.call(grpc_request()));

    let config = BreakerConfig { consecutive: Some(1), ..BreakerConfig::default() };
    let breaker = Breaker::new("one", config).unwrap();
    let mut first = breaker.layer().layer(Peer::replies([grpc_reply(14)]));
    let mut second = breaker.layer().layer(Peer::new([]));
    assert_eq!(answer(&mut first, grpc_request()).await.unwrap(), (200, Some(14)));
    assert_eq!(breaker.state(), BreakerState::Open);
    refuses(&mut second, grpc_request(), RejectionKind::BreakerOpen).await;
    refuses(&mut first.clone(), grpc_request(), RejectionKind::BreakerOpen).await;

    // One server layer for two services: one limit.
    let server = mainstay::server().max_concurrent(1);
    let (mut first, mut second) = (server.layer(Peer::new([])), server.layer(Peer::replies([grpc_reply(0)])));
    let running = first.call(grpc_request());
    assert_eq!(answer(&mut second, grpc_request()).await.unwrap(), (200, Some(8)));
    drop(running);
    assert_eq!(answer(&mut second, grpc_request()).await.unwrap(), (200, Some(0)));
}

/// Point 5; resilience R15. The mock panics if the service that is called is not the one that was ready.
#[tokio::test(start_paused = true)]
async fn a_layer_that_calls_again_waits_for_the_service_to_be_ready_anew() {
    let retry = RetryConfig { on: [Condition::Unavailable].into(), ..RetryConfig::default() };
    let retrier = Retrier::new("again", RetrierConfig { retry, ..RetrierConfig::default() }).unwrap();
    let (inner, mut handle) = mock::pair::<Request<Replay<Plain>>, Reply>();
    let mut service = retrier.layer().layer(inner);
    handle.allow(1);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let mut future = pin!(service.call(grpc_request()));
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(trailers_only(14));
    assert!(poll_once(future.as_mut()).await.is_pending());
    tokio::time::advance(secs(1)).await;
    assert!(poll_once(future.as_mut()).await.is_pending());
    assert!(poll_once(pin!(handle.next_request())).await.is_pending(), "the inner service is not ready");
    handle.allow(1);
    assert!(poll_once(future.as_mut()).await.is_pending());
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(grpc_reply(0));
    assert_eq!(future.await.unwrap().status(), 200);
}

/// An observer that panics once it is told to.
#[derive(Clone, Default)]
struct Bomb(Arc<AtomicBool>);

impl Bomb {
    fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Observer for Bomb {
    fn on_event(&self, _: &Scope<'_>, event: &Event<'_>) {
        assert!(!self.0.swap(false, Ordering::Relaxed), "the observer panics at {event:?}");
    }
}

fn panics<R>(f: impl FnOnce() -> R) {
    assert!(catch_unwind(AssertUnwindSafe(f)).is_err(), "the panic reaches whoever polled");
}

/// Point 7, for a breaker: neither an admission nor a settlement is lost.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_poisons_no_breaker() {
    let bomb = Bomb::default();
    let config = BreakerConfig { consecutive: Some(1), half_open_permits: 1, ..BreakerConfig::default() };
    let breaker = Breaker::observed("bomb", config, Arc::new(bomb.clone())).unwrap();
    let permit = breaker.admit(now()).unwrap();
    bomb.arm();
    panics(|| permit.settle(now(), Outcome::Failure(Failure::Server)));
    assert_eq!(breaker.state(), BreakerState::Open, "the failure was counted before");
    bomb.arm();
    panics(|| breaker.admit(now()));
    tokio::time::advance(secs(60)).await;
    bomb.arm();
    panics(|| breaker.admit(now()));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let probe = breaker.admit(now()).expect("the place of the probe that panicked is free");
    bomb.arm();
    panics(|| probe.settle(now(), Outcome::Success));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_poisons_no_bulkhead_retrier_or_call() {
    let bomb = Bomb::default();
    let bulkhead = Bulkhead::observed("bomb", 1, Arc::new(bomb.clone()));
    let permit = bulkhead.admit(now()).unwrap();
    bomb.arm();
    panics(|| bulkhead.admit(now()));
    drop(permit);
    assert_eq!(bulkhead.in_flight(), 0);
    assert!(bulkhead.admit(now()).is_ok());

    let retry = RetryConfig { on: [Condition::Unavailable].into(), ..RetryConfig::default() };
    let config = RetrierConfig { retry, max_retries: 1, ..RetrierConfig::default() };
    let retrier = Retrier::observed("bomb", config, Arc::new(bomb.clone())).unwrap();
    let peer = Peer::replies([trailers_only(14), trailers_only(14), grpc_reply(0)]);
    let mut service = retrier.layer().layer(peer.clone());
    bomb.arm();
    let mut future = Box::pin(service.call(grpc_request()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    panics(|| future.as_mut().poll(&mut cx));
    drop(future);
    assert_eq!(retrier.running(), 0, "the place of a retry that was never made is free");
    assert_eq!(answer(&mut service, grpc_request()).await.unwrap(), (200, Some(0)));

    let bulkhead = Bulkhead::new("held", 1);
    let layers = (ObserveLayer::calls("bomb", Arc::new(bomb.clone())), bulkhead.layer());
    let mut service = layers.0.layer(layers.1.layer(Peer::replies([grpc_reply(0), grpc_reply(0), grpc_reply(0)])));
    bomb.arm();
    panics(|| service.call(grpc_request()));
    let future = service.call(grpc_request());
    bomb.arm();
    panics(|| drop(future));
    assert_eq!(bulkhead.in_flight(), 0, "what is inside is dropped all the same");
    assert_eq!(answer(&mut service, grpc_request()).await.unwrap(), (200, Some(0)));
}

/// Point 10: through every layer that passes errors on, and through errors of others around it.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_found_through_any_stack() {
    let (inner, mut handle) = mock::pair::<Request<Replay<Plain>>, Reply>();
    let mut stack = ServiceBuilder::new()
        .map_err(|error: BoxError| -> BoxError { Box::new(Around(error)) })
        .layer(ObserveLayer::calls("calls", Recorder::default().observer()))
        .layer(DeadlineLayer::new(secs(1)))
        .layer(crate::a_retrier().layer())
        .layer(crate::a_breaker().layer())
        .layer(Bulkhead::new("bulkhead", 9).layer())
        .layer(TimeoutLayer::new(secs(1)))
        .layer(CatchPanicLayer)
        .service(inner);
    poll_fn(|cx| stack.poll_ready(cx)).await.unwrap();
    let future = stack.call(grpc_request());
    let (_, send) = handle.next_request().await.unwrap();
    send.send_error(refused());
    let Err(error) = future.await else { panic!("it was refused") };
    assert_eq!(Rejection::find(&*error).map(Rejection::by), Some("below"));

    let mut answered = RespondLayer::new().layer(stack);
    poll_fn(|cx| answered.poll_ready(cx)).await.unwrap();
    let future = answered.call(grpc_request());
    let (_, send) = handle.next_request().await.unwrap();
    send.send_error(refused());
    let Ok(response) = future.await;
    assert_eq!(grpc_status(response.headers()), Some(14));
}

#[derive(Debug)]
struct Around(BoxError);

impl std::fmt::Display for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("somebody else's layer")
    }
}

impl std::error::Error for Around {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
