//! Balancing and transport. Further counterparts are in `tests/balance`: TN1 and TN3 by name.

use mainstay::Channel;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::RespondLayer;
use mainstay::policy::OutlierConfig;
use mainstay::time::now;
use tower_layer::Layer;

use crate::kit::*;
use crate::sites::*;

/// TW5: an endpoint that fails at once must not look quick.
#[tokio::test(start_paused = true)]
async fn tw5_fast_failures_draw_no_more_than_a_fair_share() {
    let bad = Site::failing().await;
    let mut sites = Vec::new();
    for _ in 0..9 {
        sites.push(Site::start(|_| Act::After(ms(5), grpc_reply(0))).await);
    }
    let addresses = std::iter::once(&bad).chain(&sites).map(|site| site.address);
    let never = None::<OutlierConfig>;
    let channel: Channel<Plain> = builder(addresses).outlier(never).breaker(None).build().unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                ask(&mut channel).await;
            }
        });
    }
    while let Some(result) = callers.join_next().await {
        result.unwrap();
    }
    assert!(bad.hits() <= 100, "{} of 1000 calls went to the one of ten that fails at once", bad.hits());
}

/// TN2: one dead endpoint of two.
#[tokio::test(start_paused = true)]
async fn tn2_a_dead_endpoint_fails_no_call() {
    let ((gone, _kept), alive) = (nobody(), Site::ok().await);
    let mut channel: Channel<Plain> = builder([gone, alive.address]).build().unwrap();
    for _ in 0..1000 {
        assert_eq!(ask(&mut channel).await, 0);
        tokio::time::advance(ms(2)).await;
    }
}

/// TN4, TN5 and TN7: a deadline bounds a stream too, on both sides, and says what it is.
#[tokio::test(start_paused = true)]
async fn tn4_tn5_tn7_a_deadline_ends_a_stream_as_deadline_exceeded() {
    let endless = || grpc_body((0..100).flat_map(|_| [Step::Wait(ms(100)), Step::Data("tick ")]));
    for layer in [DeadlineLayer::new(ms(350)), DeadlineLayer::server().timeout(ms(350))] {
        let began = now();
        let mut service = RespondLayer::new().layer(layer.layer(Peer::replies([endless()])));
        assert_eq!(answer(&mut service, grpc_request()).await.unwrap(), (200, Some(4)));
        assert_eq!(now().duration_since(began), ms(350));
    }
}
