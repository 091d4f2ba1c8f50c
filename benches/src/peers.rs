//! The same shapes built from tower and from tower-resilience.

use std::future::Ready;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::Response;
use tower::Layer;
use tower::ServiceBuilder;
use tower::retry::budget::Budget;
use tower::retry::budget::TpsBudget;
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::circuitbreaker::SlidingWindowType;
use tower_resilience::retry::RetryBudgetBuilder;
use tower_resilience::timelimiter::TimeLimiterLayer;

use crate::harness::Case;
use crate::harness::FAILING;
use crate::harness::GRPC;
use crate::harness::GrpcPeer;
use crate::harness::IMMEDIATE;
use crate::harness::PENDING;
use crate::harness::Peer;
use crate::harness::Run;
use crate::harness::fail;
use crate::harness::succeed;
use crate::harness::unary;

const TOWER: &str = "tower";
const RESILIENCE: &str = "tower-resilience";
const VALID: &str = "the settings are in range";
const TIMEOUT: Duration = Duration::from_secs(5);

/// Up to three attempts without a wait, every error repeated, within tower's budget: what its users write by hand.
#[derive(Clone)]
struct ThreeAttempts {
    left: u32,
    budget: Arc<TpsBudget>,
}

fn three_attempts() -> tower::retry::RetryLayer<ThreeAttempts> {
    tower::retry::RetryLayer::new(ThreeAttempts { left: 2, budget: Arc::default() })
}

impl<B: Clone, R, E> tower::retry::Policy<Request<B>, Response<R>, E> for ThreeAttempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<B>, result: &mut Result<Response<R>, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

/// tower has no breaker.
macro_rules! tower_stack {
    ($peer:expr) => {
        ServiceBuilder::new().timeout(TIMEOUT).layer(three_attempts()).concurrency_limit(100).service($peer)
    };
}

macro_rules! resilience_retry {
    ($peer:expr) => {
        tower_resilience::retry::RetryLayer::builder()
            .max_attempts(3)
            .budget(RetryBudgetBuilder::new().token_bucket().build().expect(VALID))
            .build()
            .layer($peer)
    };
}

macro_rules! resilience_stack {
    ($peer:expr) => {{
        let limit = BulkheadLayer::builder().max_concurrent_calls(100).build().expect(VALID).layer($peer);
        let breaker = CircuitBreakerLayer::builder().build().expect(VALID).layer(limit);
        let retry = resilience_retry!(breaker);
        TimeLimiterLayer::builder().timeout_duration(TIMEOUT).build().layer(retry)
    }};
}

pub fn cases() -> Vec<Case> {
    let mut cases = tower_cases();
    cases.extend(resilience_cases());
    cases
}

fn tower_cases() -> Vec<Case> {
    let case =
        |group, variant: &str, baseline, make: fn() -> Run| Case::new(group, TOWER, variant, Some(baseline), make);
    vec![
        case("retry", "tps-budget", IMMEDIATE, || succeed(three_attempts().layer(Peer::Immediate))),
        case("timeout", "", IMMEDIATE, || succeed(ServiceBuilder::new().timeout(TIMEOUT).service(Peer::Immediate))),
        case("timeout", "pending-once", PENDING, || {
            succeed(ServiceBuilder::new().timeout(TIMEOUT).service(Peer::PendingOnce))
        }),
        case("concurrency", "", IMMEDIATE, || {
            succeed(ServiceBuilder::new().concurrency_limit(100).service(Peer::Immediate))
        }),
        case("stack", "timeout+retry+limit", IMMEDIATE, || succeed(tower_stack!(Peer::Immediate))),
        case("stack", "timeout+retry+limit/pending-once", PENDING, || succeed(tower_stack!(Peer::PendingOnce))),
        case("grpc-unary", "timeout+retry+limit", GRPC, || unary(tower_stack!(GrpcPeer))),
    ]
}

fn resilience_cases() -> Vec<Case> {
    let case =
        |group, variant: &str, baseline, make: fn() -> Run| Case::new(group, RESILIENCE, variant, Some(baseline), make);
    vec![
        case("breaker-closed", "count-window", IMMEDIATE, || {
            succeed(CircuitBreakerLayer::builder().build().expect(VALID).layer(Peer::Immediate))
        }),
        case("breaker-closed", "time-window", IMMEDIATE, || {
            succeed(time_window(Duration::from_secs(10)).layer(Peer::Immediate))
        }),
        case("breaker-open", "reject", FAILING, || {
            let layer = CircuitBreakerLayer::builder()
                .sliding_window_size(4)
                .wait_duration_in_open(Duration::from_secs(3600))
                .build()
                .expect(VALID);
            fail(layer.layer(Peer::Failing))
        }),
        case("retry", "token-budget", IMMEDIATE, || succeed(resilience_retry!(Peer::Immediate))),
        case("timeout", "", IMMEDIATE, || {
            succeed(TimeLimiterLayer::builder().timeout_duration(TIMEOUT).build().layer(Peer::Immediate))
        }),
        case("timeout", "pending-once", PENDING, || {
            succeed(TimeLimiterLayer::builder().timeout_duration(TIMEOUT).build().layer(Peer::PendingOnce))
        }),
        case("concurrency", "bulkhead", IMMEDIATE, || {
            succeed(BulkheadLayer::builder().max_concurrent_calls(100).build().expect(VALID).layer(Peer::Immediate))
        }),
        case("stack", "timeout+retry+breaker+limit", IMMEDIATE, || succeed(resilience_stack!(Peer::Immediate))),
        case("stack", "timeout+retry+breaker+limit/pending-once", PENDING, || {
            succeed(resilience_stack!(Peer::PendingOnce))
        }),
        case("grpc-unary", "timeout+retry+breaker+limit", GRPC, || unary(resilience_stack!(GrpcPeer))),
    ]
}

pub fn time_window(period: Duration) -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(period)
        .build()
        .expect(VALID)
}
