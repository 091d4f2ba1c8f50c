//! The observer through its layer: one end for each start, calls and attempts apart.

use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::ObserveLayer;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use tower::ServiceBuilder;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

fn retrier(on: Condition) -> Retrier {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: ms(10) }, jitter: Jitter::None };
    let retry = RetryConfig { on: [on].into(), backoff, ..RetryConfig::default() };
    Retrier::new("retrier", RetrierConfig { retry, ..RetrierConfig::default() }).expect("it is valid")
}

#[tokio::test(start_paused = true)]
async fn a_call_and_its_attempts_are_told_apart_and_each_ends_once() {
    let recorder = Recorder::default();
    let mut service = ServiceBuilder::new()
        .layer(ObserveLayer::calls("orders", recorder.observer()))
        .layer(retrier(Condition::Unavailable).layer())
        .layer(ObserveLayer::attempts("orders", recorder.observer()))
        .service(Peer::new([
            Act::After(ms(5), trailers_only(14)),
            Act::After(ms(5), trailers_only(14)),
            Act::After(ms(5), grpc_reply(0)),
        ]));
    answer(&mut service, grpc_request()).await.unwrap();
    let lines = [
        "started call",
        "started attempt 1",
        "ended attempt 1 server grpc 14 5ms",
        "started attempt 2",
        "ended attempt 2 server grpc 14 5ms",
        "started attempt 3",
        "ended attempt 3 success grpc 0 5ms",
        "ended call success grpc 0 35ms",
    ];
    assert_eq!(recorder.take(), lines);
}

/// An answer that is not handed on ends when that is decided, not when the next attempt has replaced it.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_body_nobody_reads_ends_before_the_wait() {
    let recorder = Recorder::default();
    let mut service = ServiceBuilder::new()
        .layer(retrier(Condition::GatewayError).layer())
        .layer(ObserveLayer::attempts("orders", recorder.observer()))
        .service(Peer::new([Act::Reply(http_reply(502, "bad gateway")), Act::Reply(http_reply(200, "yes"))]));
    answer(&mut service, get()).await.unwrap();
    let lines = [
        "started attempt 1",
        "ended attempt 1 server http 502 0ns",
        "started attempt 2",
        "ended attempt 2 success http 200 0ns",
    ];
    assert_eq!(recorder.take(), lines);
}

#[tokio::test(start_paused = true)]
async fn every_way_of_ending_is_told_once() {
    let recorder = Recorder::default();
    let peer = Peer::new([
        Act::Error("broken".into()),
        Act::Hang,
        Act::Reply(grpc_body([Step::Data("one"), Step::Hang])),
        Act::Reply(grpc_body([Step::Error("broken off".into())])),
    ]);
    let mut service = ObserveLayer::calls("orders", recorder.observer()).layer(peer);
    call(&mut service, grpc_request()).await.expect_err("it fails");
    drop(service.call(grpc_request()));
    drop(call(&mut service, grpc_request()).await.unwrap());
    read(call(&mut service, grpc_request()).await.unwrap()).await.expect_err("it breaks off");
    let lines = [
        "started call",
        "ended call reset none 0ns",
        "started call",
        "ended call cancelled none 0ns",
        "started call",
        "ended call cancelled none 0ns",
        "started call",
        "ended call reset http 200 0ns",
    ];
    assert_eq!(recorder.take(), lines);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_and_one_out_of_time_are_told_as_that() {
    let recorder = Recorder::default();
    let mut service = ServiceBuilder::new()
        .layer(ObserveLayer::calls("orders", recorder.observer()))
        .layer(DeadlineLayer::new(ms(50)))
        .layer(Bulkhead::new("one", 1).layer())
        .service(Peer::new([]));
    let mut running = Box::pin(service.call(grpc_request()));
    call(&mut service, grpc_request()).await.expect_err("refused");
    assert!(poll_once(running.as_mut()).await.is_pending());
    running.await.expect_err("out of time");
    let lines = ["started call", "started call", "ended call rejected none 0ns", "ended call timeout none 50ms"];
    assert_eq!(recorder.take(), lines);
}
