//! Our layers.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay::Event;
use mainstay::Observer;
use mainstay::Scope;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::ObserveLayer;
use mainstay::layer::RespondLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Condition;
use mainstay::policy::OpenFor;
use mainstay::policy::RetryConfig;
use mainstay::policy::WindowConfig;
use tower::Layer;

use crate::harness::Case;
use crate::harness::FAILING;
use crate::harness::GRPC;
use crate::harness::GrpcPeer;
use crate::harness::IMMEDIATE;
use crate::harness::PENDING;
use crate::harness::Peer;
use crate::harness::fail;
use crate::harness::succeed;
use crate::harness::unary;

const OURS: &str = "mainstay";
const VALID: &str = "the settings are in range";

/// Counts what it hears.
struct Counter(AtomicU64);

impl Observer for Counter {
    fn on_event(&self, _: &Scope<'_>, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new("peer", config).expect(VALID)
}

/// Opens at five failures in a row, whatever their share.
fn consecutive() -> BreakerConfig {
    BreakerConfig { failure_rate: None, consecutive: Some(5), ..BreakerConfig::default() }
}

/// Retries, with a budget, what a client may want repeated.
fn retrier() -> Retrier {
    let on = [Condition::Unavailable, Condition::GatewayError].into_iter().collect();
    let retry = RetryConfig { on, ..RetryConfig::default() };
    Retrier::new("peer", RetrierConfig { retry, ..RetrierConfig::default() }).expect(VALID)
}

/// Timeout, retry, breaker and limit, in canonical order. Events are on: every handle asks for its listener.
macro_rules! stack {
    ($peer:expr) => {
        tower::ServiceBuilder::new()
            .layer(DeadlineLayer::new(Duration::from_secs(5)))
            .layer(retrier().layer())
            .layer(breaker(BreakerConfig::default()).layer())
            .layer(Bulkhead::new("peer", 100).layer())
            .service($peer)
    };
}

pub fn cases() -> Vec<Case> {
    let case = |group, variant: &str, baseline, make: fn() -> crate::harness::Run| {
        Case::new(group, OURS, variant, Some(baseline), make)
    };
    vec![
        case("breaker-closed", "consecutive", IMMEDIATE, || {
            succeed(breaker(consecutive()).layer().layer(Peer::Immediate))
        }),
        case("breaker-closed", "count-window", IMMEDIATE, || {
            let config = BreakerConfig { window: WindowConfig::Count(100), ..BreakerConfig::default() };
            succeed(breaker(config).layer().layer(Peer::Immediate))
        }),
        case("breaker-closed", "time-window", IMMEDIATE, || {
            succeed(breaker(BreakerConfig::default()).layer().layer(Peer::Immediate))
        }),
        case("breaker-open", "reject", FAILING, || {
            let hour = Duration::from_secs(3600);
            let open_for = OpenFor { start: hour, max: hour, ..OpenFor::default() };
            let breaker = breaker(BreakerConfig { open_for, ..consecutive() });
            fail(breaker.layer().layer(Peer::Failing))
        }),
        case("retry", "budget", IMMEDIATE, || succeed(retrier().layer().layer(Peer::Immediate))),
        case("timeout", "deadline", IMMEDIATE, || {
            succeed(DeadlineLayer::new(Duration::from_secs(5)).layer(Peer::Immediate))
        }),
        case("timeout", "deadline/pending-once", PENDING, || {
            succeed(DeadlineLayer::new(Duration::from_secs(5)).layer(Peer::PendingOnce))
        }),
        case("timeout", "attempt", IMMEDIATE, || {
            succeed(TimeoutLayer::new(Duration::from_secs(5)).layer(Peer::Immediate))
        }),
        case("timeout", "attempt/pending-once", PENDING, || {
            succeed(TimeoutLayer::new(Duration::from_secs(5)).layer(Peer::PendingOnce))
        }),
        case("concurrency", "bulkhead", IMMEDIATE, || {
            succeed(Bulkhead::new("peer", 100).layer().layer(Peer::Immediate))
        }),
        case("observe", "an-observer-that-ignores", IMMEDIATE, || {
            let nobody = Arc::new(|_: &Scope<'_>, _: &Event<'_>| {});
            succeed(ObserveLayer::calls("peer", nobody).layer(Peer::Immediate))
        }),
        case("observe", "a-counting-observer", IMMEDIATE, || {
            succeed(ObserveLayer::calls("peer", Arc::new(Counter(AtomicU64::new(0)))).layer(Peer::Immediate))
        }),
        case("respond", "", IMMEDIATE, || succeed(RespondLayer::new().layer(Peer::Immediate))),
        case("server", "respond+observe+deadline+limit+panics", IMMEDIATE, || {
            succeed(mainstay::server().max_concurrent(100).layer(Peer::Immediate))
        }),
        case("stack", "timeout+retry+breaker+limit", IMMEDIATE, || succeed(stack!(Peer::Immediate))),
        case("stack", "timeout+retry+breaker+limit/pending-once", PENDING, || succeed(stack!(Peer::PendingOnce))),
        case("stack", "timeout+retry+breaker+limit/observed", IMMEDIATE, || {
            let counter = Arc::new(Counter(AtomicU64::new(0)));
            let stack = tower::ServiceBuilder::new()
                .layer(ObserveLayer::calls("peer", counter.clone()))
                .layer(DeadlineLayer::new(Duration::from_secs(5)))
                .layer(retrier().layer())
                .layer(ObserveLayer::attempts("peer", counter.clone()))
                .layer(Breaker::observed("peer", BreakerConfig::default(), counter.clone()).expect(VALID).layer())
                .layer(Bulkhead::observed("peer", 100, counter).layer())
                .service(Peer::Immediate);
            succeed(stack)
        }),
        case("grpc-unary", "retry", GRPC, || unary(retrier().layer().layer(GrpcPeer))),
        case("grpc-unary", "timeout+breaker+limit", GRPC, || {
            let stack = tower::ServiceBuilder::new()
                .layer(DeadlineLayer::new(Duration::from_secs(5)))
                .layer(breaker(BreakerConfig::default()).layer())
                .layer(Bulkhead::new("peer", 100).layer())
                .service(GrpcPeer);
            unary(stack)
        }),
        case("grpc-unary", "timeout+retry+breaker+limit", GRPC, || unary(stack!(GrpcPeer))),
    ]
}
