//! Circuit breakers.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use mainstay::Failure;
use mainstay::Outcome;
use mainstay::event::BreakerState;
use mainstay::guard::Admit;
use mainstay::guard::Breaker;
use mainstay::guard::Settle;
use mainstay::policy::BreakerConfig;
use mainstay::policy::WindowConfig;
use mainstay::time::now;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

const FAILURE: Outcome = Outcome::Failure(Failure::Server);

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new("probe", config).expect("it is valid")
}

fn touchy(permits: u32) -> Breaker {
    breaker(BreakerConfig { consecutive: Some(1), half_open_permits: permits, ..BreakerConfig::default() })
}

fn end(breaker: &Breaker, outcome: Outcome) {
    breaker.admit(now()).expect("it admits").settle(now(), outcome);
}

async fn half_open(breaker: &Breaker) {
    end(breaker, FAILURE);
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::advance(secs(5)).await;
}

/// CB1: failures that open it must not grow with the successes of the past.
#[tokio::test(start_paused = true)]
async fn cb1_windows_slide() {
    for before in [0, 100, 100_000] {
        for window in [WindowConfig::Count(100), WindowConfig::default()] {
            let breaker = breaker(BreakerConfig { window, ..BreakerConfig::default() });
            (0..before).for_each(|_| end(&breaker, Outcome::Success));
            tokio::time::advance(secs(11)).await;
            let mut failures = 0;
            while breaker.state() == BreakerState::Closed && failures < 1000 {
                end(&breaker, FAILURE);
                failures += 1;
            }
            assert!(failures <= 100, "{failures} failures after {before} successes in {window:?}");
        }
    }
}

/// CB2: a hung backend behind somebody else's timeout.
#[tokio::test(start_paused = true)]
async fn cb2_cancelled_calls_are_counted_if_the_caller_waited_long_enough() {
    let breaker = breaker(BreakerConfig::default());
    let mut service = breaker.layer().cancelled_after(ms(2)).layer(Peer::new([]));
    for _ in 0..20 {
        let outer = tokio::time::timeout(ms(2), call(&mut service, get()));
        assert!(outer.await.is_err(), "somebody else's timeout");
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

/// CB3: a success from before the trip closes nothing.
#[tokio::test(start_paused = true)]
async fn cb3_a_stale_success_does_not_close_a_half_open_breaker() {
    let breaker = touchy(1);
    let stale = breaker.admit(now()).unwrap();
    half_open(&breaker).await;
    let probe = breaker.admit(now()).unwrap();
    stale.settle(now(), Outcome::Success);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    probe.settle(now(), FAILURE);
    assert_eq!(breaker.state(), BreakerState::Open);
}

/// CB4: a failure from before the trip opens nothing.
#[tokio::test(start_paused = true)]
async fn cb4_a_stale_failure_does_not_open_it_again() {
    let breaker = touchy(2);
    let stale = breaker.admit(now()).unwrap();
    half_open(&breaker).await;
    end(&breaker, Outcome::Success);
    stale.settle(now(), FAILURE);
    assert_ne!(breaker.state(), BreakerState::Open);
    end(&breaker, Outcome::Success);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// CB5: probes that outlast the window still decide.
#[tokio::test(start_paused = true)]
async fn cb5_slow_probes_are_not_forgotten_by_a_window_over_time() {
    let window = WindowConfig::Time { period: ms(100), buckets: 10 };
    let config = BreakerConfig { window, consecutive: Some(1), half_open_permits: 3, ..BreakerConfig::default() };
    let breaker = breaker(config);
    half_open(&breaker).await;
    for _ in 0..3 {
        if breaker.state() != BreakerState::Closed {
            let probe = breaker.admit(now()).unwrap();
            tokio::time::advance(secs(1)).await;
            probe.settle(now(), Outcome::Success);
        }
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// CB6: settings under which it would never recover, or never open.
#[test]
fn cb6_settings_that_cannot_work_are_refused() {
    let wrong = [
        (BreakerConfig { half_open_permits: 0, ..BreakerConfig::default() }, "half_open_permits"),
        (BreakerConfig { min_calls: 0, ..BreakerConfig::default() }, "min_calls"),
        (BreakerConfig { failure_rate: Some(0.0), ..BreakerConfig::default() }, "failure_rate"),
        (BreakerConfig { failure_rate: None, ..BreakerConfig::default() }, "failure_rate"),
        (BreakerConfig { consecutive: Some(0), ..BreakerConfig::default() }, "consecutive"),
    ];
    for (config, field) in wrong {
        assert_eq!(Breaker::new("wrong", config).expect_err(field).field(), field);
    }
}

/// CB7: its clock is the one that tests can stop.
#[tokio::test(start_paused = true)]
async fn cb7_a_paused_clock_moves_it() {
    let breaker = touchy(1);
    end(&breaker, FAILURE);
    assert!(breaker.admit(now()).is_err());
    tokio::time::advance(secs(3600)).await;
    assert!(breaker.admit(now()).is_ok());
}

/// CB9: the least number of calls is a setting that has an effect.
#[tokio::test(start_paused = true)]
async fn cb9_it_opens_at_the_least_number_of_calls() {
    let breaker = breaker(BreakerConfig { min_calls: 5, ..BreakerConfig::default() });
    for expected in [BreakerState::Closed; 4].into_iter().chain([BreakerState::Open]) {
        end(&breaker, FAILURE);
        assert_eq!(breaker.state(), expected);
    }
}

/// CB11: of a thousand callers at once, as many as there are permits reach the backend.
#[tokio::test(start_paused = true)]
async fn cb11_half_open_it_admits_its_permits_and_no_more() {
    let breaker = touchy(5);
    half_open(&breaker).await;
    let admitted: Vec<_> = (0..1000).filter_map(|_| breaker.admit(now()).ok()).collect();
    assert_eq!(admitted.len(), 5);
}

/// CB12: one handle, one breaker.
#[tokio::test(start_paused = true)]
async fn cb12_a_layer_applied_twice_shares_its_state() {
    let breaker = touchy(1);
    let layer = breaker.layer();
    let mut first = layer.layer(Peer::replies([trailers_only(14)]));
    let mut second = layer.layer(Peer::new([]));
    answer(&mut first, grpc_request()).await.unwrap();
    assert!(call(&mut second, grpc_request()).await.is_err());
}

/// CB14: failures that come as a response.
#[tokio::test(start_paused = true)]
async fn cb14_a_grpc_status_or_an_http_503_in_a_response_counts() {
    let replies = [|| grpc_reply(14), || trailers_only(14), || http_reply(503, "no")];
    for (reply, request) in replies.into_iter().zip([grpc_request, grpc_request, get]) {
        let breaker = breaker(BreakerConfig::default());
        let mut service = breaker.layer().layer(Peer::replies((0..20).map(|_| reply())));
        for _ in 0..20 {
            answer(&mut service, request()).await.unwrap();
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}

/// CB15: a probe that panics has failed.
#[tokio::test(start_paused = true)]
async fn cb15_a_probe_that_panics_opens_it_again() {
    let breaker = touchy(1);
    half_open(&breaker).await;
    let mut service = breaker.layer().layer(Peer::new([Act::Panic]));
    let mut probe = Box::pin(service.call(get()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(catch_unwind(AssertUnwindSafe(|| probe.as_mut().poll(&mut cx))).is_err());
    assert_eq!((breaker.state(), breaker.snapshot().era), (BreakerState::Open, 3));
}
