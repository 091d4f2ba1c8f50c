//! Which endpoint a call goes to.

use mainstay::Channel;
use mainstay::balance::Balancing;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use tokio::task::JoinSet;

use crate::kit::*;
use crate::sites::*;

#[tokio::test(start_paused = true)]
async fn round_robin_gives_each_endpoint_its_turn() {
    let sites = [Site::ok().await, Site::ok().await, Site::ok().await];
    let builder = builder(sites.iter().map(|site| site.address)).balancing(Balancing::RoundRobin);
    let mut channel: Channel<Plain> = builder.build().unwrap();
    for _ in 0..30 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    assert_eq!(sites.each_ref().map(Site::hits), [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn p2c_spreads_over_all_endpoints_that_are_alike() {
    let sites = [Site::ok().await, Site::ok().await, Site::ok().await];
    let mut channel: Channel<Plain> = builder(sites.iter().map(|site| site.address)).build().unwrap();
    for _ in 0..300 {
        assert_eq!(ask(&mut channel).await, 0);
    }
    // A fair share is 100, and 50 is seven standard deviations away.
    assert!(sites.iter().all(|site| site.hits() > 50), "{:?}", sites.each_ref().map(Site::hits));
}

/// The counterpart of TN1: half of all calls went to an endpoint that was fifty times slower.
#[tokio::test(start_paused = true)]
async fn p2c_gives_a_slow_endpoint_a_small_share() {
    let fast = Site::start(|_| Act::After(ms(2), grpc_reply(0))).await;
    let slow = Site::start(|_| Act::After(ms(100), grpc_reply(0))).await;
    let channel: Channel<Plain> = builder([fast.address, slow.address]).build().unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let mut channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                assert_eq!(ask(&mut channel).await, 0);
            }
        });
    }
    while let Some(result) = callers.join_next().await {
        result.unwrap();
    }
    assert_eq!(fast.hits() + slow.hits(), 1000);
    assert!(slow.hits() < 100, "{} of 1000 calls went to the slow endpoint", slow.hits());
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for balancing in [Balancing::P2c, Balancing::RoundRobin] {
        let (bad, good) = (Site::start(|_| Act::Reply(trailers_only(14))).await, Site::ok().await);
        let backoff = BackoffConfig { schedule: Schedule::Constant { delay: ms(1) }, jitter: Jitter::None };
        let on = [Condition::Unavailable].into();
        let mut channel: Channel<Plain> = builder([bad.address, good.address])
            .balancing(balancing)
            .outlier(None)
            .breaker(None)
            .retry(RetryConfig { on, backoff, max_attempts: 2, ..RetryConfig::default() })
            .build()
            .unwrap();
        for _ in 0..50 {
            assert_eq!(ask(&mut channel).await, 0, "{balancing:?}");
        }
        assert_eq!(good.hits(), 50);
        assert!(bad.hits() > 0, "it was tried first now and then");
    }
}

/// Calls that follow each other on one thread know nothing of each other.
#[tokio::test(start_paused = true)]
async fn a_call_does_not_avoid_what_the_call_before_has_tried() {
    let sites = [Site::ok().await, Site::ok().await];
    let mut channel: Channel<Plain> = builder(sites.iter().map(|site| site.address)).build().unwrap();
    let mut order = Vec::new();
    for _ in 0..64 {
        let before = sites[0].hits();
        ask(&mut channel).await;
        order.push(sites[0].hits() > before);
    }
    assert!(order.windows(2).any(|pair| pair[0] == pair[1]), "strictly in turn is not at random");
}
