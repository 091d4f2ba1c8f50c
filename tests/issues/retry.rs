//! Retries, budgets and back-off.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::policy::BackoffConfig;
use mainstay::policy::BudgetConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use mainstay::protocol::Replay;
use tower_layer::Layer;

use crate::kit::*;

fn policy(jitter: Jitter, delay: Duration) -> RetryConfig {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay }, jitter };
    RetryConfig { on: [Condition::Unavailable].into(), backoff, max_attempts: 2, ..RetryConfig::default() }
}

/// Retries for a thousand calls of which every other one fails, however often it is tried.
async fn retries(ratio: f64) -> usize {
    let budget = Some(BudgetConfig { ratio, min_per_second: 0, ..BudgetConfig::default() });
    let retry = policy(Jitter::None, Duration::ZERO);
    let retrier = Retrier::new("probe", RetrierConfig { retry, budget, ..RetrierConfig::default() }).unwrap();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let peer = tower::service_fn(move |request: Request<Replay<Plain>>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let code = if request.headers().contains_key("x-fail") { 14 } else { 0 };
        std::future::ready(Ok::<_, std::io::Error>(trailers_only(code)))
    });
    let mut service = retrier.layer().layer(peer);
    for number in 0..1000 {
        let mut request = grpc_request();
        if number % 2 == 1 {
            request.headers_mut().extend(headers(&[("x-fail", "yes")]));
        }
        answer(&mut service, request).await.unwrap();
    }
    attempts.load(Ordering::Relaxed) - 1000
}

/// RB1 and TW1: with half of the calls failing, extra load is the ratio of the successes, whatever the ratio.
#[tokio::test(start_paused = true)]
async fn rb1_tw1_a_budget_is_the_ratio_that_was_set() {
    for (ratio, expected) in [(0.1, 50), (0.2, 100), (0.3, 150), (0.4, 200), (0.6, 300), (0.7, 350), (0.9, 450)] {
        let made = retries(ratio).await;
        assert!(made.abs_diff(expected) <= 1, "{made} retries for 500 successes at {ratio}");
    }
}

/// TW2: the jitter of one maker is not the same for each of its requests.
#[tokio::test(start_paused = true)]
async fn tw2_jitter_differs_between_calls_and_repeats_with_the_seed() {
    let waits = |seed: u64| async move {
        let config = RetrierConfig { retry: policy(Jitter::Full, secs(1)), ..RetrierConfig::default() };
        let retrier = Retrier::seeded("probe", config, seed).unwrap();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let peer = Peer::replies([trailers_only(14), trailers_only(0)]);
            answer(&mut retrier.layer().layer(peer.clone()), grpc_request()).await.unwrap();
            waits.push(peer.got()[1].at);
        }
        waits
    };
    let first = waits(7).await;
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 6, "{first:?}");
    assert_eq!(waits(7).await, first);
    assert_ne!(waits(8).await, first);
}
