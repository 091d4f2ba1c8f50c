//! The bulkhead through its layer.

use mainstay::RejectionKind;
use mainstay::guard::Bulkhead;
use mainstay::layer::Hold;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

#[tokio::test(start_paused = true)]
async fn resilience_k1_one_more_than_the_limit_is_refused() {
    let bulkhead = Bulkhead::new("db", 25);
    let mut service = bulkhead.layer().layer(Peer::new([]));
    let running: Vec<_> = (0..25).map(|_| service.call(grpc_request())).collect();
    let error = call(&mut service, grpc_request()).await.expect_err("the 26th");
    let rejection = rejection(&error);
    assert_eq!((rejection.kind(), rejection.by(), rejection.retry_after()), (RejectionKind::Overloaded, "db", None));
    drop(running);
    assert_eq!(bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn resilience_k4_the_end_of_the_body_frees_the_place() {
    let bulkhead = Bulkhead::new("db", 1);
    let mut service = bulkhead.layer().layer(Peer::replies([grpc_reply(0), grpc_reply(0), http_reply(204, "")]));
    let response = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!(bulkhead.in_flight(), 1);
    read(response).await.unwrap();
    assert_eq!(bulkhead.in_flight(), 0);
    let response = call(&mut service, grpc_request()).await.unwrap();
    drop(response);
    assert_eq!(bulkhead.in_flight(), 0, "a dropped body frees it too");
    let response = call(&mut service, get()).await.unwrap();
    assert_eq!(bulkhead.in_flight(), 0, "an empty body is over with its head");
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_that_holds_to_the_head_is_free_while_the_body_comes() {
    let bulkhead = Bulkhead::new("db", 1);
    let mut service = bulkhead.layer().hold(Hold::Head).layer(Peer::replies([grpc_reply(0)]));
    let response = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!(bulkhead.in_flight(), 0);
    drop(response);
    assert_eq!(bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn resilience_k5_a_lower_limit_lets_calls_finish_and_admits_nobody_until_enough_have() {
    let bulkhead = Bulkhead::new("db", 10);
    let mut service = bulkhead.layer().layer(Peer::new([]));
    let mut running: Vec<_> = (0..8).map(|_| service.call(grpc_request())).collect();
    bulkhead.resize(5);
    assert_eq!((bulkhead.limit(), bulkhead.in_flight()), (5, 8));
    for left in [8, 7, 6, 5] {
        running.truncate(left);
        assert!(call(&mut service, grpc_request()).await.is_err(), "{left} running");
    }
    running.truncate(4);
    let admitted = service.call(grpc_request());
    assert_eq!(bulkhead.in_flight(), 5);
    drop((running, admitted));
    assert_eq!(bulkhead.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn resilience_k6_ten_thousand_drops_leave_every_place_free() {
    let bulkhead = Bulkhead::new("db", 100);
    let mut service = bulkhead.layer().layer(Peer::new((0..10_000).map(|_| Act::Reply(grpc_reply(0)))));
    for round in 0..10_000 {
        let mut future = Box::pin(service.call(grpc_request()));
        if round % 3 == 0 {
            continue;
        }
        let std::task::Poll::Ready(response) = poll_once(future.as_mut()).await else { panic!("it answers at once") };
        if round % 3 == 1 {
            drop(response);
        }
    }
    assert_eq!(bulkhead.in_flight(), 0);
    let all: Vec<_> = (0..100).map(|_| service.call(grpc_request())).collect();
    assert_eq!(bulkhead.in_flight(), 100);
    drop(all);
}
