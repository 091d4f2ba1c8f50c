//! The breaker through its layer.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use mainstay::RejectionKind;
use mainstay::event::BreakerState;
use mainstay::guard::Breaker;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::Hold;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

/// Opens at the first failure, with one probe.
fn touchy() -> Breaker {
    let config = BreakerConfig { consecutive: Some(1), half_open_permits: 1, ..BreakerConfig::default() };
    Breaker::new("touchy", config).expect("it is valid")
}

/// Opens it, and waits until it will probe.
async fn trip(breaker: &Breaker) {
    let mut service = breaker.layer().layer(Peer::replies([trailers_only(14)]));
    answer(&mut service, grpc_request()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::advance(secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn resilience_b12_a_dropped_probe_gives_its_place_back() {
    let breaker = touchy();
    trip(&breaker).await;
    let mut service = breaker.layer().layer(Peer::new([Act::Hang, Act::Reply(grpc_reply(0))]));
    let probe = service.call(grpc_request());
    let refused = call(&mut service, grpc_request()).await.expect_err("the place is taken");
    assert_eq!(rejection(&refused).kind(), RejectionKind::BreakerOpen);
    drop(probe);
    answer(&mut service, grpc_request()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn resilience_b13_a_hanging_probe_loses_its_place_and_its_voice() {
    let breaker = touchy();
    trip(&breaker).await;
    let script = [Act::After(secs(40), grpc_reply(0)), Act::Hang, Act::Hang];
    let mut service = breaker.layer().layer(Peer::new(script));
    let mut late = Box::pin(answer_of(service.call(grpc_request())));
    assert!(poll_once(late.as_mut()).await.is_pending());
    tokio::time::advance(secs(30)).await;
    let _second = service.call(grpc_request());
    tokio::time::advance(secs(10)).await;
    late.await;
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.late_results), (BreakerState::HalfOpen, 1));
}

async fn answer_of<R, E>(future: impl Future<Output = Result<http::Response<R>, E>>)
where
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<mainstay::BoxError>,
    E: std::fmt::Debug,
{
    use http_body_util::BodyExt;
    let _ = future.await.expect("a response").into_body().map_err(Into::into).boxed_unsync().collect().await;
}

#[tokio::test(start_paused = true)]
async fn resilience_b14_what_was_admitted_before_the_trip_decides_nothing_after_it() {
    for late in [0, 14] {
        let breaker = touchy();
        let mut early = breaker.layer().layer(Peer::new([Act::After(secs(6), grpc_reply(late))]));
        let mut early = Box::pin(answer_of(early.call(grpc_request())));
        assert!(poll_once(early.as_mut()).await.is_pending());
        trip(&breaker).await;
        let mut service = breaker.layer().layer(Peer::new([]));
        let _probe = service.call(grpc_request());
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        early.await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "grpc {late}");
        assert_eq!(breaker.snapshot().late_results, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn resilience_b21_a_panic_inside_is_a_failure() {
    let breaker = touchy();
    let mut service = breaker.layer().layer(Peer::new([Act::Panic]));
    let mut future = Box::pin(service.call(grpc_request()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))).is_err());
    drop(future);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn resilience_b21_a_panic_in_call_is_a_failure_too() {
    let breaker = touchy();
    let broken = tower::service_fn(|_: http::Request<Plain>| -> std::future::Ready<Result<Reply, std::io::Error>> {
        panic!("before there is a future")
    });
    let mut service = breaker.layer().layer(broken);
    assert!(catch_unwind(AssertUnwindSafe(|| service.call(grpc_request()))).is_err());
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn resilience_b22_a_stream_dropped_half_way_is_cancelled() {
    use http_body_util::BodyExt;
    let breaker = touchy();
    let mut service = breaker.layer().layer(Peer::replies([grpc_reply(14)]));
    let mut response = call(&mut service, grpc_request()).await.unwrap();
    assert!(response.body_mut().frame().await.is_some());
    drop(response);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn resilience_b23_failing_trailers_count_though_the_http_status_is_200() {
    let breaker = touchy();
    let mut service = breaker.layer().layer(Peer::replies([grpc_reply(14)]));
    let response = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!((response.status().as_u16(), breaker.state()), (200, BreakerState::Closed));
    read(response).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_its_deadline_is_a_timeout() {
    let breaker = touchy();
    let mut service = DeadlineLayer::new(secs(1)).layer(breaker.layer().layer(Peer::new([])));
    let error = call(&mut service, grpc_request()).await.expect_err("it hangs");
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_its_deadline_is_cancelled() {
    let breaker = touchy();
    let mut service = DeadlineLayer::new(secs(1)).layer(breaker.layer().layer(Peer::new([])));
    let mut future = Box::pin(service.call(grpc_request()));
    assert!(poll_once(future.as_mut()).await.is_pending());
    tokio::time::advance(ms(999)).await;
    drop(future);
    assert_eq!((breaker.state(), breaker.snapshot().calls), (BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_body_dropped_after_the_deadline_is_a_timeout() {
    let breaker = touchy();
    let peer = Peer::replies([grpc_body([Step::Data("one"), Step::Hang])]);
    let mut service = DeadlineLayer::new(secs(1)).layer(breaker.layer().layer(peer));
    let response = call(&mut service, grpc_request()).await.unwrap();
    let error = read(response).await.expect_err("it hangs");
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_runs_into_its_timeout_counts_from_both_sides() {
    let (inside, outside) = (touchy(), touchy());
    let stack = TimeoutLayer::new(secs(1)).layer(inside.layer().layer(Peer::new([])));
    let mut service = outside.layer().layer(stack);
    call(&mut service, grpc_request()).await.expect_err("it hangs");
    assert_eq!((inside.state(), outside.state()), (BreakerState::Open, BreakerState::Open));
}

#[tokio::test(start_paused = true)]
async fn after_the_head_an_attempt_timeout_says_nothing_about_a_dropped_body() {
    let breaker = touchy();
    let peer = Peer::replies([grpc_body([Step::Data("one"), Step::Hang])]);
    let mut service = TimeoutLayer::new(secs(1)).layer(breaker.layer().layer(peer));
    let response = call(&mut service, grpc_request()).await.unwrap();
    tokio::time::advance(secs(2)).await;
    drop(response);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn cancelled_after_counts_callers_who_gave_up_on_a_hung_peer() {
    for (waited, state) in [(ms(99), BreakerState::Closed), (ms(100), BreakerState::Open)] {
        let breaker = touchy();
        let mut service = breaker.layer().cancelled_after(ms(100)).layer(Peer::new([]));
        let future = service.call(grpc_request());
        tokio::time::advance(waited).await;
        drop(future);
        assert_eq!(breaker.state(), state, "after {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_holds_to_the_head_judges_the_head() {
    let breaker = touchy();
    let layer = breaker.layer().hold(Hold::Head);
    let ok = call(&mut layer.layer(Peer::replies([grpc_reply(14)])), grpc_request()).await.unwrap();
    assert_eq!((breaker.snapshot().calls, breaker.state()), (1, BreakerState::Closed));
    read(ok).await.unwrap();
    assert_eq!((breaker.snapshot().calls, breaker.state()), (1, BreakerState::Closed), "the trailers come too late");
    let failed = call(&mut layer.layer(Peer::replies([http_reply(500, "text")])), get()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Open);
    drop(failed);
}

#[tokio::test(start_paused = true)]
async fn changes_and_refusals_are_told() {
    let recorder = Recorder::default();
    let config = BreakerConfig { consecutive: Some(1), half_open_permits: 1, ..BreakerConfig::default() };
    let breaker = Breaker::observed("told", config, recorder.observer()).unwrap();
    trip(&breaker).await;
    let mut service = breaker.layer().layer(Peer::new([Act::Reply(grpc_reply(0))]));
    answer(&mut service, grpc_request()).await.unwrap();
    breaker.force_open();
    call(&mut service, grpc_request()).await.expect_err("it is forced open");
    breaker.reset();
    breaker.force_close();
    let lines = [
        "breaker closed -> open",
        "breaker open -> half_open",
        "breaker half_open -> closed",
        "breaker closed -> forced_open",
        "rejected breaker_open by told",
        "breaker forced_open -> closed",
        "breaker closed -> forced_closed",
    ];
    assert_eq!(recorder.take(), lines);
}
