//! Endpoints that fail are left out for a while: envoy's cases, through a channel.

use mainstay::Channel;
use mainstay::balance::Balancing;
use mainstay::balance::Unusable;
use mainstay::event::BreakerState;
use mainstay::policy::BackoffConfig;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::OpenFor;
use mainstay::policy::OutlierConfig;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use mainstay::time::now;

use crate::kit::*;
use crate::sites::*;

/// Endpoints in turn, ejection as it is by default, no breaker.
fn channel(sites: &[&Site], outlier: OutlierConfig) -> (Channel<Plain>, Recorder) {
    let recorder = Recorder::default();
    let channel = builder(sites.iter().map(|site| site.address))
        .balancing(Balancing::RoundRobin)
        .breaker(None)
        .outlier(Some(outlier))
        .observer(recorder.observer())
        .build()
        .expect("it is valid");
    (channel, recorder)
}

async fn healthy(count: usize) -> Vec<Site> {
    let mut sites = Vec::new();
    for _ in 0..count {
        sites.push(Site::ok().await);
    }
    sites
}

/// Rounds of calls until the endpoint was called `hits` times.
async fn until(channel: &mut Channel<Plain>, site: &Site, hits: usize) {
    for _ in 0..1000 {
        if site.hits() >= hits {
            return;
        }
        ask(channel).await;
    }
    panic!("{} hits", site.hits());
}

#[tokio::test(start_paused = true)]
async fn envoy_od_1_a_success_starts_the_count_anew() {
    let a = Site::start(|n| Act::Reply(if n == 4 { grpc_reply(0) } else { trailers_only(13) })).await;
    let others = healthy(9).await;
    let sites: Vec<_> = std::iter::once(&a).chain(&others).collect();
    let (mut channel, recorder) = channel(&sites, OutlierConfig::default());
    until(&mut channel, &a, 9).await;
    assert_eq!(recorder.count("ejected"), 0);
    until(&mut channel, &a, 10).await;
    assert_eq!(recorder.count(&format!("ejected {}", a.address)), 1);
    assert_eq!(channel.balancer().usable(now()), 9);
    for _ in 0..50 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!(a.hits(), 10, "nobody calls it now");
}

#[tokio::test(start_paused = true)]
async fn envoy_od_2_one_endpoint_may_always_be_ejected() {
    let (a, others) = (Site::failing().await, healthy(2).await);
    let (mut channel, recorder) = channel(&[&a, &others[0], &others[1]], OutlierConfig::default());
    until(&mut channel, &a, 5).await;
    assert_eq!((recorder.count("ejected"), recorder.count("overflow")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn envoy_od_3_no_more_endpoints_are_ejected_than_may_be() {
    let (a, b) = (Site::failing().await, Site::start(|n| Act::Reply(trailers_only(if n < 20 { 0 } else { 13 }))).await);
    let others = healthy(8).await;
    let sites: Vec<_> = [&a, &b].into_iter().chain(&others).collect();
    let (mut channel, recorder) = channel(&sites, OutlierConfig::default());
    until(&mut channel, &b, 25).await;
    assert_eq!(recorder.count(&format!("ejected {}", a.address)), 1);
    assert_eq!(recorder.count(&format!("overflow {}", b.address)), 1);
    assert_eq!(channel.balancer().usable(now()), 9);
}

#[tokio::test(start_paused = true)]
async fn envoy_od_7_connections_that_are_refused_count() {
    let ((gone, _kept), others) = (nobody(), healthy(2).await);
    let recorder = Recorder::default();
    let mut channel: Channel<Plain> = builder([gone, others[0].address, others[1].address])
        .balancing(Balancing::RoundRobin)
        .breaker(None)
        .observer(recorder.observer())
        .build()
        .unwrap();
    for _ in 0..5 {
        assert_eq!(recorder.count("ejected"), 0);
        for _ in 0..3 {
            assert_eq!(ask(&mut channel).await, 0, "no caller sees it");
        }
        tokio::time::advance(secs(6)).await;
    }
    assert_eq!(recorder.count(&format!("connect failed {gone}")), 5);
    assert_eq!(recorder.count(&format!("ejected {gone}")), 1);
}

#[tokio::test(start_paused = true)]
async fn envoy_od_12_od_13_failing_statuses_count_in_the_head_and_in_trailers() {
    for reply in [|| trailers_only(14), || grpc_reply(14)] {
        let (a, other) = (Site::start(move |_| Act::Reply(reply())).await, Site::ok().await);
        let (mut channel, recorder) = channel(&[&a, &other], OutlierConfig::default());
        until(&mut channel, &a, 5).await;
        assert_eq!(recorder.count("ejected"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn envoy_od_16_failures_that_a_retry_hides_count() {
    let (a, b) = (Site::start(|_| Act::Reply(trailers_only(14))).await, Site::ok().await);
    let recorder = Recorder::default();
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: ms(1) }, jitter: Jitter::None };
    let mut channel: Channel<Plain> = builder([a.address, b.address])
        .balancing(Balancing::RoundRobin)
        .breaker(None)
        .retry(RetryConfig { on: [Condition::Unavailable].into(), backoff, ..RetryConfig::default() })
        .observer(recorder.observer())
        .build()
        .unwrap();
    for _ in 0..30 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!((a.hits(), recorder.count(&format!("ejected {}", a.address))), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn envoy_od_17_the_last_endpoint_is_never_ejected() {
    let sites = [Site::failing().await, Site::failing().await, Site::failing().await];
    let outlier = OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::default() };
    let (mut channel, recorder) = channel(&[&sites[0], &sites[1], &sites[2]], outlier);
    for _ in 0..60 {
        assert_eq!(ask(&mut channel).await, 13, "it is called, and not refused");
    }
    assert_eq!((recorder.count("ejected"), channel.balancer().usable(now())), (2, 1));
    assert!(recorder.count("overflow") > 0);
}

#[tokio::test(start_paused = true)]
async fn an_ejected_endpoint_returns_at_its_time() {
    let a = Site::start(|n| Act::Reply(if n < 5 { trailers_only(13) } else { grpc_reply(0) })).await;
    let other = Site::ok().await;
    let outlier = OutlierConfig { ejection_jitter: 0.0, ..OutlierConfig::default() };
    let (mut channel, recorder) = channel(&[&a, &other], outlier);
    until(&mut channel, &a, 5).await;
    let back = now() + secs(30);
    let endpoint = &channel.balancer().endpoints()[0];
    let (why, until_when) = endpoint.unusable(now()).expect("it is out");
    assert_eq!(why, Unusable::Ejected);
    assert!(until_when <= back);
    tokio::time::advance(until_when - now() - ms(1)).await;
    for _ in 0..4 {
        ask(&mut channel).await;
    }
    assert_eq!((a.hits(), recorder.count("returned")), (5, 0));
    tokio::time::advance(ms(1)).await;
    for _ in 0..4 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!((a.hits(), recorder.count(&format!("returned {}", a.address))), (7, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_leaves_its_endpoint_out_and_probes_it_later() {
    let a = Site::start(|n| Act::Reply(if n < 3 { trailers_only(13) } else { grpc_reply(0) })).await;
    let other = Site::ok().await;
    let recorder = Recorder::default();
    let breaker = BreakerConfig { consecutive: Some(3), half_open_permits: 1, ..BreakerConfig::default() };
    let mut channel: Channel<Plain> = builder([a.address, other.address])
        .balancing(Balancing::RoundRobin)
        .outlier(None)
        .breaker(Some(breaker))
        .observer(recorder.observer())
        .build()
        .unwrap();
    until(&mut channel, &a, 3).await;
    let endpoint = channel.balancer().endpoints()[0].clone();
    assert_eq!(endpoint.breaker(), Some(BreakerState::Open));
    assert_eq!(endpoint.unusable(now()).map(|(why, _)| why), Some(Unusable::BreakerOpen));
    for _ in 0..20 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!(a.hits(), 3, "nobody calls it now");
    tokio::time::advance(secs(5)).await;
    for _ in 0..4 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!(endpoint.breaker(), Some(BreakerState::Closed));
    assert_eq!(recorder.count("breaker"), 3, "open, half open, closed");
}

/// A breaker that is busy with its probe does not cost a call that another endpoint would take, though its endpoint
/// is the less loaded one. Real time, none of which is waited for.
#[tokio::test]
async fn a_busy_probe_costs_no_call() {
    for balancing in [Balancing::RoundRobin, Balancing::P2c] {
        let a = Site::start(|n| if n == 0 { Act::Reply(trailers_only(13)) } else { Act::Hang }).await;
        let other = Site::ok().await;
        let open_for = OpenFor { start: ms(1), max: ms(1), ..OpenFor::default() };
        let breaker =
            BreakerConfig { consecutive: Some(1), half_open_permits: 1, open_for, ..BreakerConfig::default() };
        let mut channel: Channel<Plain> = builder([a.address, other.address])
            .balancing(balancing)
            .outlier(None)
            .breaker(Some(breaker))
            .build()
            .unwrap();
        until(&mut channel, &a, 1).await;
        let endpoint = channel.balancer().endpoints()[0].clone();
        let mut calls = tokio::task::JoinSet::new();
        while endpoint.breaker() != Some(BreakerState::HalfOpen) {
            let mut channel = channel.clone();
            calls.spawn(async move { ask(&mut channel).await });
            tokio::task::yield_now().await;
        }
        // All of them pick before the first is answered, so that the other endpoint has by far the higher load.
        for _ in 0..50 {
            let mut channel = channel.clone();
            calls.spawn(async move { ask(&mut channel).await });
        }
        while calls.len() > 1 {
            assert_eq!(calls.join_next().await.unwrap().unwrap(), 0, "{balancing:?}");
        }
        assert_eq!((endpoint.breaker(), a.hits()), (Some(BreakerState::HalfOpen), 2), "the probe hangs");
    }
}
