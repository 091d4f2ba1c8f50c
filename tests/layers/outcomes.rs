//! Every row of the table of outcomes, through the layers.

use mainstay::BoxError;
use mainstay::Failure;
use mainstay::Outcome;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::TransportError;
use mainstay::event::BreakerState;
use mainstay::guard::Admit;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::guard::Settle;
use mainstay::layer::ObserveLayer;
use mainstay::outcome::Reach;
use mainstay::policy::BreakerConfig;
use mainstay::policy::BudgetConfig;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;
use mainstay::time::now;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;

/// What a peer does for an attempt to end in this way. Cancelled is the caller's own doing: the peer hangs.
fn act(outcome: Outcome) -> Act {
    match outcome {
        Outcome::Success => Act::Reply(grpc_reply(0)),
        Outcome::Failure(Failure::Overload) => Act::Reply(trailers_only(8)),
        Outcome::Failure(Failure::Server) => Act::Reply(trailers_only(13)),
        Outcome::Failure(Failure::Timeout) => Act::Reply(trailers_only(4)),
        Outcome::Failure(Failure::Protocol) => Act::Reply(grpc_body([])),
        Outcome::Failure(failure) => Act::Error(TransportError::new(failure, Reach::Processed, "gone").into()),
        Outcome::Cancelled => Act::Hang,
        Outcome::Rejected => Act::Error(rejected()),
        other => panic!("{other:?} is new: give it a row"),
    }
}

fn rejected() -> BoxError {
    Rejection::new(RejectionKind::RateLimited, "below".into()).into()
}

const FAILURES: [Failure; 6] =
    [Failure::Connect, Failure::Overload, Failure::Protocol, Failure::Reset, Failure::Server, Failure::Timeout];

fn all() -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Success, Outcome::Cancelled, Outcome::Rejected];
    outcomes.extend(FAILURES.map(Outcome::Failure));
    outcomes
}

async fn end_with<L>(layer: &L, outcome: Outcome)
where
    L: Layer<Peer>,
    L::Service: Service<http::Request<Plain>, Error = BoxError>,
    <L::Service as Service<http::Request<Plain>>>::Response: IntoBody,
{
    let mut service = layer.layer(Peer::new([act(outcome)]));
    let mut future = Box::pin(service.call(grpc_request()));
    if outcome == Outcome::Cancelled {
        assert!(poll_once(future.as_mut()).await.is_pending());
        return;
    }
    if let Ok(response) = future.await {
        response.drain().await;
    }
}

/// Responses of every layer, read to their end.
trait IntoBody {
    fn drain(self) -> impl Future<Output = ()>;
}

impl<R> IntoBody for http::Response<R>
where
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    async fn drain(self) {
        use http_body_util::BodyExt;
        let _ = self.into_body().map_err(Into::into).boxed_unsync().collect().await;
    }
}

/// Column "breaker": a rate counts every failure, a run all but overloads; the others count nothing.
#[tokio::test(start_paused = true)]
async fn the_breaker_column_holds() {
    let run = BreakerConfig { consecutive: Some(2), failure_rate: None, ..BreakerConfig::default() };
    let rate = BreakerConfig { min_calls: 2, failure_rate: Some(1.0), ..BreakerConfig::default() };
    for outcome in all() {
        let (run, rate) = (Breaker::new("run", run).unwrap(), Breaker::new("rate", rate).unwrap());
        for _ in 0..2 {
            end_with(&run.layer(), outcome).await;
            end_with(&rate.layer(), outcome).await;
        }
        let fails = outcome.is_failure();
        let in_a_run = fails && outcome != Outcome::Failure(Failure::Overload);
        assert_eq!(run.state() == BreakerState::Open, in_a_run, "{outcome:?} in a run");
        assert_eq!(rate.state() == BreakerState::Open, fails, "{outcome:?} in a rate");
        let counted = matches!(outcome, Outcome::Success | Outcome::Failure(_));
        assert_eq!(rate.snapshot().calls, if counted { 2 } else { 0 }, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_resets_a_run_and_an_overload_does_not() {
    let config = BreakerConfig { consecutive: Some(2), failure_rate: None, ..BreakerConfig::default() };
    for (between, open) in [(Outcome::Success, false), (Outcome::Failure(Failure::Overload), true)] {
        let breaker = Breaker::new("run", config).unwrap();
        for outcome in [Outcome::Failure(Failure::Server), between, Outcome::Failure(Failure::Server)] {
            end_with(&breaker.layer(), outcome).await;
        }
        assert_eq!(breaker.state() == BreakerState::Open, open, "{between:?}");
    }
}

/// Column "breaker", half open: cancelled and rejected free the probe and decide nothing.
#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_frees_its_place() {
    let config = BreakerConfig { consecutive: Some(1), half_open_permits: 1, ..BreakerConfig::default() };
    for outcome in [Outcome::Cancelled, Outcome::Rejected] {
        let breaker = Breaker::new("probe", config).unwrap();
        end_with(&breaker.layer(), Outcome::Failure(Failure::Server)).await;
        tokio::time::advance(secs(5)).await;
        end_with(&breaker.layer(), outcome).await;
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.probes_in_flight), (BreakerState::HalfOpen, 0), "{outcome:?}");
        end_with(&breaker.layer(), Outcome::Success).await;
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

/// Column "limiter": whatever happens, the place is free afterwards.
#[tokio::test(start_paused = true)]
async fn the_bulkhead_column_holds() {
    let bulkhead = Bulkhead::new("one", 1);
    for outcome in all() {
        end_with(&bulkhead.layer(), outcome).await;
        assert_eq!(bulkhead.in_flight(), 0, "{outcome:?}");
    }
}

/// Columns "retry" and "budget".
#[tokio::test(start_paused = true)]
async fn the_retry_and_budget_columns_hold() {
    let on = [Condition::Reset, Condition::ResourceExhausted, Condition::Internal, Condition::DeadlineExceeded];
    let on = on.into_iter().chain([Condition::Unknown]).collect();
    let config = RetrierConfig {
        retry: RetryConfig { on, max_attempts: 2, ..RetryConfig::default() },
        budget: Some(BudgetConfig { ratio: 1.0, min_per_second: 1, ..BudgetConfig::default() }),
        max_retries: u32::MAX,
    };
    for outcome in all() {
        let retrier = Retrier::new("retrier", config.clone()).unwrap();
        let before = retrier.balance(now()).unwrap();
        let peer = Peer::new([act(outcome), act(outcome)]);
        let mut service = retrier.layer().layer(peer.clone());
        if outcome == Outcome::Cancelled {
            drop(tokio::time::timeout(secs(1), answer(&mut service, grpc_request())).await);
        } else {
            drop(answer(&mut service, grpc_request()).await);
        }
        let change = i128::from(retrier.balance(now()).unwrap()) - i128::from(before);
        let (calls, expected) = match outcome {
            Outcome::Success => (1, 1),
            Outcome::Failure(_) => (2, -1),
            _ => (1, 0),
        };
        assert_eq!((peer.calls(), change), (calls, expected), "{outcome:?}");
        assert_eq!(retrier.running(), 0, "{outcome:?}");
    }
}

/// The retry honours the pushback of an overload, and a request that is not safe is not repeated.
#[tokio::test(start_paused = true)]
async fn an_overload_is_repeated_after_its_pushback_and_other_failures_if_safe() {
    let retry = RetryConfig { on: [Condition::GatewayError].into(), ..RetryConfig::default() };
    let retrier = Retrier::new("retrier", RetrierConfig { retry, ..RetrierConfig::default() }).unwrap();
    let peer = Peer::replies([with(http_reply(503, "no"), &[("retry-after", "2")]), http_reply(200, "yes")]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), get()).await.unwrap().0, 200);
    assert_eq!(peer.got()[1].at, secs(2));
    let peer = Peer::replies([http_reply(502, "no"), http_reply(200, "yes")]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), post()).await.unwrap().0, 502);
    assert_eq!(peer.calls(), 1);
}

/// Column "metrics": the word for each outcome, and by whom a call was rejected.
#[tokio::test(start_paused = true)]
async fn the_observer_column_holds() {
    for outcome in all() {
        let recorder = Recorder::default();
        let layer = ObserveLayer::calls("calls", recorder.observer());
        end_with(&layer, outcome).await;
        let lines = recorder.take();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].starts_with(&format!("ended call {}", outcome.as_str())), "{lines:?}");
    }
    let recorder = Recorder::default();
    let bulkhead = Bulkhead::observed("db", 0, recorder.observer());
    assert!(bulkhead.admit(now()).is_err());
    assert_eq!(recorder.take(), ["rejected overloaded by db"]);
}

/// A permit that is dropped without being settled counts as cancelled.
#[tokio::test(start_paused = true)]
async fn a_permit_that_is_dropped_is_cancelled() {
    let config = BreakerConfig { consecutive: Some(1), ..BreakerConfig::default() };
    let breaker = Breaker::new("drop", config).unwrap();
    drop(breaker.admit(now()).unwrap());
    assert_eq!(breaker.snapshot().calls, 0);
    breaker.admit(now()).unwrap().settle(now(), Outcome::Failure(Failure::Reset));
    assert_eq!(breaker.state(), BreakerState::Open);
}
