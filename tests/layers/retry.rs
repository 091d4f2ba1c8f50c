//! The retry through its layer: the rules for every protocol.

use std::time::Duration;

use http::Method;
use mainstay::BoxError;
use mainstay::Failure;
use mainstay::TransportError;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::DeadlineLayer;
use mainstay::outcome::Reach;
use mainstay::policy::BackoffConfig;
use mainstay::policy::BreakerConfig;
use mainstay::policy::BudgetConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use mainstay::time::now;
use tower::ServiceBuilder;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

/// Repeats what gateways say, with waits of exactly 10 ms.
pub(crate) fn config() -> RetryConfig {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: ms(10) }, jitter: Jitter::None };
    let on = [Condition::GatewayError, Condition::Unavailable].into();
    RetryConfig { on, backoff, ..RetryConfig::default() }
}

pub(crate) fn retrier(retry: RetryConfig) -> (Retrier, Recorder) {
    let recorder = Recorder::default();
    let config = RetrierConfig { retry, ..RetrierConfig::default() };
    (Retrier::observed("retrier", config, recorder.observer()).expect("it is valid"), recorder)
}

fn unsent() -> BoxError {
    TransportError::new(Failure::Reset, Reach::NotSent, "closed before").into()
}

fn refused() -> BoxError {
    TransportError::new(Failure::Reset, Reach::Unprocessed, "goaway").into()
}

#[tokio::test(start_paused = true)]
async fn resilience_r1_two_failures_and_a_success_are_a_success() {
    let (retrier, recorder) = retrier(config());
    let peer = Peer::replies([http_reply(503, "a"), http_reply(502, "b"), http_reply(200, "c")]);
    let mut service = retrier.layer().layer(peer.clone());
    let response = call(&mut service, get()).await.unwrap();
    assert_eq!(read(response).await.unwrap().0, "c");
    assert_eq!(peer.got().iter().map(|got| got.at).collect::<Vec<_>>(), [ms(0), ms(10), ms(20)]);
    assert_eq!(recorder.take(), ["scheduled 1 overload policy 10ms", "scheduled 2 server policy 10ms"]);
}

#[tokio::test(start_paused = true)]
async fn resilience_r2_a_post_is_not_repeated() {
    let (retrier, recorder) = retrier(config());
    let peer = Peer::replies([http_reply(503, "no")]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), post()).await.unwrap().0, 503);
    assert_eq!((peer.calls(), recorder.take()), (1, vec!["denied 1 overload not_idempotent".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn resilience_r3_a_post_whose_route_allows_it_is_repeated() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([http_reply(503, "no"), http_reply(200, "yes")]);
    let mut service = retrier.layer().also(Method::POST).layer(peer.clone());
    assert_eq!(answer(&mut service, post()).await.unwrap().0, 200);
    assert_eq!(peer.got()[1].body, "question");
}

#[tokio::test(start_paused = true)]
async fn resilience_r4_the_wait_that_the_peer_asks_for_is_kept() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([with(http_reply(503, ""), &[("retry-after", "1")]), http_reply(200, "")]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), get()).await.unwrap().0, 200);
    assert_eq!(peer.got()[1].at, secs(1));
}

#[tokio::test(start_paused = true)]
async fn resilience_r5_a_peer_that_wants_no_other_attempt_gets_none() {
    for (reply, request) in [
        (with(trailers_only(14), &[("grpc-retry-pushback-ms", "-1")]), grpc_request()),
        (with(http_reply(503, ""), &[("retry-after", "6")]), get()),
    ] {
        let (retrier, recorder) = retrier(config());
        let peer = Peer::replies([reply]);
        answer(&mut retrier.layer().layer(peer.clone()), request).await.unwrap();
        assert_eq!((peer.calls(), recorder.take()), (1, vec!["denied 1 overload pushed_back".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn resilience_r6_a_wait_that_outlasts_the_deadline_is_not_begun() {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: ms(200) }, jitter: Jitter::None };
    let (retrier, recorder) = retrier(RetryConfig { backoff, ..config() });
    let peer = Peer::new([Act::After(ms(20), http_reply(503, "original"))]);
    let mut service = DeadlineLayer::new(ms(150)).layer(retrier.layer().layer(peer));
    let began = now();
    let response = call(&mut service, get()).await.unwrap();
    assert_eq!((response.status().as_u16(), now().duration_since(began)), (503, ms(20)));
    assert_eq!(read(response).await.unwrap().0, "original");
    assert_eq!(recorder.take(), ["denied 1 overload deadline_too_near"]);
}

#[tokio::test(start_paused = true)]
async fn resilience_r7_an_empty_budget_gives_the_original_error() {
    let recorder = Recorder::default();
    let budget = Some(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    let config = RetrierConfig { retry: config(), budget, ..RetrierConfig::default() };
    let retrier = Retrier::observed("retrier", config, recorder.observer()).unwrap();
    let peer = Peer::replies([http_reply(503, "original")]);
    let response = call(&mut retrier.layer().layer(peer.clone()), get()).await.unwrap();
    assert_eq!(read(response).await.unwrap().0, "original");
    assert_eq!((peer.calls(), recorder.take()), (1, vec!["denied 1 overload budget_spent".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn resilience_r8_a_call_dropped_while_it_waits_makes_no_other_attempt() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([http_reply(503, "no"), http_reply(200, "yes")]);
    let mut service = retrier.layer().layer(peer.clone());
    let mut future = Box::pin(service.call(get()));
    assert!(poll_once(future.as_mut()).await.is_pending());
    assert_eq!(retrier.running(), 1, "it waits in its place");
    drop(future);
    tokio::time::advance(secs(1)).await;
    assert_eq!((peer.calls(), peer.running(), retrier.running()), (1, 0, 0));
}

/// R9 and R13-like: unprocessed once, unsent three times, neither charged nor counted.
#[tokio::test(start_paused = true)]
async fn resilience_r9_what_reached_no_application_is_repeated_even_if_it_is_a_post() {
    let recorder = Recorder::default();
    let budget = Some(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    let config = RetrierConfig { budget, ..RetrierConfig::default() };
    let retrier = Retrier::observed("retrier", config, recorder.observer()).unwrap();
    let peer =
        Peer::new([Act::Error(refused()), Act::Error(unsent()), Act::Error(unsent()), Act::Reply(http_reply(200, ""))]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), post()).await.unwrap().0, 200);
    assert_eq!(peer.calls(), 4);
    assert_eq!(recorder.count("scheduled 1 reset transparent"), 3, "the attempt keeps its number");
    recorder.take();

    let peer = Peer::new((0..9).map(|_| Act::Error(unsent())));
    call(&mut retrier.layer().layer(peer.clone()), post()).await.expect_err("no more than three");
    assert_eq!(peer.calls(), 4);
    let peer = Peer::new((0..9).map(|_| Act::Error(refused())));
    call(&mut retrier.layer().layer(peer.clone()), post()).await.expect_err("no more than one");
    assert_eq!(peer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn resilience_r10_a_body_that_is_too_large_is_sent_once() {
    let (retrier, recorder) = retrier(config());
    for (size, calls) in [(65_536, 2), (65_537, 1)] {
        let peer = Peer::replies([http_reply(503, ""), http_reply(200, "")]);
        let request = http::Request::put("http://peer/").body(Plain::from(vec![7; size])).unwrap();
        answer(&mut retrier.layer().layer(peer.clone()), request).await.unwrap();
        assert_eq!(peer.calls(), calls);
        assert!(peer.got().iter().all(|got| got.body.len() == size));
    }
    assert_eq!(recorder.take(), ["scheduled 1 overload policy 10ms", "denied 1 overload body_too_large"]);
}

#[tokio::test(start_paused = true)]
async fn resilience_r13_the_second_attempt_says_that_there_was_one_before() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([trailers_only(14), grpc_reply(0)]);
    answer(&mut retrier.layer().layer(peer.clone()), grpc_request()).await.unwrap();
    let headers: Vec<_> =
        peer.got().iter().map(|got| got.header("grpc-previous-rpc-attempts").map(str::to_owned)).collect();
    assert_eq!(headers, [None, Some("1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn resilience_r14_a_breaker_that_opens_between_attempts_leaves_the_peers_answer() {
    let (retrier, recorder) = retrier(config());
    let breaker = Breaker::new("peer", BreakerConfig { consecutive: Some(1), ..BreakerConfig::default() }).unwrap();
    for (act, status) in [
        (Act::Reply(with(http_reply(502, "text"), &[("x-from", "peer")])), Some(502)),
        (Act::Error("broken".into()), None),
    ] {
        breaker.reset();
        let peer = Peer::new([act]);
        let stack = retrier.layer().layer(breaker.layer().layer(peer.clone()));
        let result = call(&mut { stack }, get()).await;
        assert_eq!(peer.calls(), 1);
        match (result, status) {
            (Ok(response), Some(status)) => {
                assert_eq!(
                    (response.status().as_u16(), &response.headers()["x-from"]),
                    (status, &"peer".parse().unwrap())
                );
                read(response).await.expect("what is left of the body ends well");
            }
            (Err(error), None) => assert_eq!(error.to_string(), "broken"),
            (other, _) => panic!("{other:?}"),
        }
        assert_eq!(recorder.take()[1..], ["denied 2 rejected rejected"]);
    }
}

/// An answer that waits to be replaced holds no place that the next attempt needs.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_handed_on_frees_its_place_before_the_next_attempt() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([http_reply(503, "a body that nobody reads"), http_reply(200, "yes")]);
    let bulkhead = Bulkhead::new("one", 1);
    let mut service = retrier.layer().layer(bulkhead.layer().layer(peer.clone()));
    assert_eq!(answer(&mut service, get()).await.unwrap().0, 200);
    assert_eq!((peer.calls(), bulkhead.in_flight()), (2, 0));
}

/// R18-like: an answer that is no failure of the peer, but one that the policy names.
#[tokio::test(start_paused = true)]
async fn resilience_r18_a_status_that_the_policy_names_is_repeated_whatever_its_body() {
    for (condition, status) in
        [(Condition::Retriable4xx, 409), (Condition::Status(404), 404), (Condition::Status(200), 200)]
    {
        for text in ["", "a body"] {
            let (retrier, recorder) = retrier(RetryConfig { on: [condition].into(), ..config() });
            let peer = Peer::replies([http_reply(status, text), http_reply(202, "")]);
            assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), get()).await.unwrap().0, 202);
            assert_eq!(recorder.take(), ["scheduled 1 success policy 10ms"], "{status} {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn resilience_r19_aborted_is_not_repeated_unless_it_is_named() {
    let (retrier, _) = retrier(config());
    let peer = Peer::replies([trailers_only(10)]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(10)));
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn resilience_r20_one_attempt_never_waits() {
    let (retrier, recorder) = retrier(RetryConfig { max_attempts: 1, ..config() });
    let began = now();
    let peer = Peer::replies([http_reply(503, "")]);
    answer(&mut retrier.layer().layer(peer), get()).await.unwrap();
    assert_eq!(now().duration_since(began), Duration::ZERO);
    assert_eq!(recorder.take(), ["denied 1 overload attempts_spent"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_the_callers_and_nothing_wraps_it() {
    let (retrier, _) = retrier(config());
    let peer = Peer::new([Act::Error("first".into()), Act::Error("second".into()), Act::Error("third".into())]);
    let error = call(&mut retrier.layer().layer(peer), get()).await.expect_err("all fail");
    assert_eq!(error.to_string(), "third");
}

/// resilience U1 and U6, through the layer: a hundred retries of a fresh budget, and not one more.
#[tokio::test(start_paused = true)]
async fn resilience_u1_u6_without_successes_the_reserve_is_all_there_is() {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: Duration::ZERO }, jitter: Jitter::None };
    let (retrier, _) = retrier(RetryConfig { backoff, ..config() });
    let peer = Peer::replies((0..2000).map(|_| http_reply(503, "")));
    let mut service = retrier.layer().layer(peer.clone());
    for _ in 0..1000 {
        answer(&mut service, get()).await.unwrap();
        tokio::time::advance(ms(1)).await;
    }
    assert_eq!(peer.calls(), 1100);
    assert_eq!(retrier.balance(now()), Some(0));
}

/// resilience U2 and U4: a success pays a fifth of a retry, a failure nothing.
#[tokio::test(start_paused = true)]
async fn resilience_u2_u4_ten_successes_pay_for_two_retries() {
    let budget = Some(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    let config = RetrierConfig { retry: config(), budget, ..RetrierConfig::default() };
    let retrier = Retrier::new("retrier", config).unwrap();
    let ok = (0..10).map(|_| grpc_reply(0));
    let peer = Peer::replies(ok.chain((0..9).map(|_| trailers_only(14))));
    let mut service = retrier.layer().layer(peer.clone());
    for _ in 0..10 {
        answer(&mut service, grpc_request()).await.unwrap();
    }
    assert_eq!(retrier.balance(now()), Some(2));
    answer(&mut service, grpc_request()).await.unwrap();
    assert_eq!(peer.calls(), 13, "three attempts");
    answer(&mut service, grpc_request()).await.unwrap();
    assert_eq!(peer.calls(), 14, "one attempt");
}

/// A stream that fails after its head was handed on deposits nothing, and is told as committed.
#[tokio::test(start_paused = true)]
async fn a_deposit_waits_for_the_end_of_the_body() {
    let recorder = Recorder::default();
    let budget = Some(BudgetConfig { min_per_second: 0, ratio: 1.0, ..BudgetConfig::default() });
    let config = RetrierConfig { retry: config(), budget, ..RetrierConfig::default() };
    let retrier = Retrier::observed("retrier", config, recorder.observer()).unwrap();
    let mut service = retrier.layer().layer(Peer::replies([grpc_reply(0), grpc_reply(14), grpc_reply(0)]));
    let response = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!(retrier.balance(now()), Some(0));
    read(response).await.unwrap();
    assert_eq!(retrier.balance(now()), Some(1));
    answer(&mut service, grpc_request()).await.unwrap();
    drop(call(&mut service, grpc_request()).await.unwrap());
    assert_eq!(retrier.balance(now()), Some(1));
    assert_eq!(recorder.take(), ["denied 1 server committed"]);
}

/// Envoy RE-14: a bound on retries at once, beside the budget.
#[tokio::test(start_paused = true)]
async fn envoy_re_14_no_more_retries_at_once_than_are_allowed() {
    let config = RetrierConfig { retry: config(), max_retries: 3, ..RetrierConfig::default() };
    let retrier = Retrier::new("retrier", config).unwrap();
    let peer = Peer::replies((0..20).map(|_| http_reply(503, "")));
    let mut service = retrier.layer().layer(peer.clone());
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(service.call(get()))).collect();
    let mut waiting = 0;
    for call in &mut calls {
        waiting += usize::from(poll_once(call.as_mut()).await.is_pending());
    }
    assert_eq!((waiting, retrier.running()), (3, 3));
    drop(calls);
    assert_eq!(retrier.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_builder_methods_does_not_matter() {
    let (retrier, _) = retrier(config());
    let one = retrier.layer().also(Method::POST).buffer(1).peek_trailers();
    let other = retrier.layer().peek_trailers().buffer(1).also(Method::POST);
    for layer in [one, other] {
        let peer = Peer::replies([grpc_body([Step::Trailers(trailers(14))]), grpc_reply(0)]);
        let mut service = ServiceBuilder::new().layer(layer).service(peer.clone());
        let request = request(Method::POST, &[("content-type", "application/grpc")], "x");
        assert_eq!(answer(&mut service, request).await.unwrap(), (200, Some(0)));
    }
}
