//! Connections: made by the calls that need them, not made too often, closed when nobody needs them.

use std::error::Error;

use mainstay::BoxError;
use mainstay::Channel;
use mainstay::RejectionKind;
use mainstay::balance::Balance;
use mainstay::balance::Balancer;
use mainstay::balance::BalancerConfig;
use mainstay::balance::ConnectConfig;
use mainstay::balance::Discovery;
use mainstay::balance::Target;
use mainstay::balance::Unusable;
use mainstay::time::now;
use tokio::runtime::Handle;

use crate::kit::*;
use crate::sites::*;

fn target(site: &Site) -> Target {
    Target { name: site.address.to_string().into(), addresses: vec![site.address] }
}

#[tokio::test(start_paused = true)]
async fn one_dead_endpoint_of_three_costs_no_call_though_there_is_no_retry_policy() {
    let ((gone, _kept), sites) = (nobody(), [Site::ok().await, Site::ok().await]);
    let mut channel: Channel<Plain> = builder([gone, sites[0].address, sites[1].address]).build().unwrap();
    for _ in 0..200 {
        assert_eq!(ask(&mut channel).await, 0);
        tokio::time::advance(ms(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refuses_is_unreachable_and_the_last_error_is_kept() {
    let (gone, _kept) = nobody();
    let balancer = Balancer::new("orders", BalancerConfig::default()).unwrap();
    let _updater = Discovery::fixed(vec![gone.to_string().parse().unwrap()]).start(&balancer).unwrap();
    let mut balance: Balance<Plain> = Balance::new(balancer.clone(), ConnectConfig::default());
    let error = call(&mut balance, grpc_request()).await.expect_err("nobody is there");
    let transport = mainstay::TransportError::find(&*error).expect("an error of the transport");
    assert_eq!(transport.failure(), mainstay::Failure::Connect);
    assert_eq!(transport.reach(), mainstay::outcome::Reach::NotSent);
    let (why, _) = balancer.endpoints()[0].unusable(now()).expect("it is out");
    assert_eq!((why, balancer.usable(now())), (Unusable::Unreachable, 0));

    let error: BoxError = call(&mut balance, grpc_request()).await.expect_err("nobody is left");
    let refused = rejection(&error);
    assert_eq!((refused.kind(), refused.by()), (RejectionKind::NoEndpoint, "orders"));
    assert!(refused.retry_after().is_some_and(|after| after <= ms(120)), "{:?}", refused.retry_after());
    let cause = refused.source().expect("the last connection error").to_string();
    assert!(cause.contains(&gone.to_string()) && cause.contains("refused"), "{cause}");
    assert_eq!(balancer.endpoints()[0].in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_endpoints_are_all_dead_says_so() {
    let ((one, _kept), (other, _kept_too)) = (nobody(), nobody());
    let mut channel: Channel<Plain> = builder([one, other]).build().unwrap();
    for _ in 0..3 {
        let response = call(&mut channel, grpc_request()).await.unwrap();
        assert_eq!(grpc_status(response.headers()), Some(14));
        let message = response.headers()["grpc-message"].to_str().unwrap();
        assert!(message.contains("refused"), "{message}");
    }
}

/// The counterpart of TN3: ten thousand connects a second against a port where nobody listens.
#[tokio::test(start_paused = true)]
async fn a_port_that_refuses_is_asked_no_more_than_a_few_times_a_minute() {
    let (gone, _kept) = nobody();
    let recorder = Recorder::default();
    let mut channel: Channel<Plain> = builder([gone]).observer(recorder.observer()).outlier(None).build().unwrap();
    let began = now();
    let mut calls = 0;
    while now().duration_since(began) < secs(60) {
        assert_eq!(ask(&mut channel).await, 14);
        calls += 1;
        tokio::time::advance(ms(50)).await;
    }
    let connects = recorder.count("connect failed");
    assert!((5..=25).contains(&connects), "{connects} connects for {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_all_calls_and_is_made_once() {
    let site = Site::start(|_| Act::After(ms(5), grpc_reply(0))).await;
    let recorder = Recorder::default();
    let channel: Channel<Plain> = builder([site.address]).observer(recorder.observer()).build().unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut channel = channel.clone();
        callers.spawn(async move { ask(&mut channel).await });
    }
    while let Some(status) = callers.join_next().await {
        assert_eq!(status.unwrap(), 0);
    }
    assert_eq!((site.connections(), recorder.count("connected")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn connections_to_endpoints_that_are_gone_are_closed() {
    let (stays, goes) = (Site::ok().await, Site::ok().await);
    let mut channel: Channel<Plain> =
        builder([stays.address, goes.address]).balancing(mainstay::balance::Balancing::RoundRobin).build().unwrap();
    for _ in 0..4 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!((stays.connections(), goes.connections()), (1, 1));
    channel.balancer().update(now(), &[target(&stays)]).unwrap();
    for _ in 0..4 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    eventually("the connection is closed", || goes.connections() == 0).await;
    assert_eq!((stays.connections(), stays.hits(), goes.hits()), (1, 6, 2));
}

#[tokio::test(start_paused = true)]
async fn grpc_cn_14_a_channel_that_is_dropped_leaves_no_task_and_no_connection() {
    let site = Site::ok().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut channel: Channel<Plain> = builder([site.address]).build().unwrap();
    assert_eq!(ask(&mut channel).await, 0);
    assert_eq!(site.connections(), 1);
    let clone = channel.clone();
    drop(channel);
    assert_eq!(site.connections(), 1, "a clone keeps it");
    drop(clone);
    eventually("everything is gone", || site.connections() == 0 && tasks() == before).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_for_the_first_endpoints() {
    let balancer = Balancer::new("orders", BalancerConfig::default()).unwrap();
    let balance: Balance<Plain> = Balance::new(balancer.clone(), ConnectConfig::default());
    let mut service = tower_layer::Layer::layer(&mainstay::layer::DeadlineLayer::new(ms(300)), balance);
    let error = call(&mut service, grpc_request()).await.expect_err("nobody is known");
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    let site = Site::ok().await;
    let mut waiting = Box::pin(answer(&mut service, grpc_request()));
    assert!(poll_once(waiting.as_mut()).await.is_pending());
    balancer.update(now(), &[target(&site)]).unwrap();
    assert_eq!(waiting.await.unwrap(), (200, Some(0)), "who waited is served");
}
