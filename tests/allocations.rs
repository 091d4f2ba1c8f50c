//! An admitted call costs no allocation: the promise of every layer, for a request and an answer without a body.
//!
//! Without the test harness, whose threads would be counted too.

use std::alloc::System;
use std::convert::Infallible;
use std::future::Future;
use std::future::Ready;
use std::future::poll_fn;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Empty;
use mainstay::Event;
use mainstay::Scope;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::CatchPanicLayer;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::ObserveLayer;
use mainstay::layer::RespondLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;
use mainstay::policy::WindowConfig;
use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::Region;
use stats_alloc::StatsAlloc;
use tower::Layer;
use tower::Service;
use tower::ServiceBuilder;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Answers at once. Not an async block, which would have no name.
#[derive(Clone, Copy)]
struct Peer;

impl<B> Service<Request<B>> for Peer {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a timer needs nothing");
    let _context = runtime.enter();
    let breaker = |config| Breaker::new("peer", config).expect("the settings are in range");
    let count = BreakerConfig { window: WindowConfig::Count(100), ..BreakerConfig::default() };
    let retry = RetryConfig { on: [Condition::Unavailable].into_iter().collect(), ..RetryConfig::default() };
    let retrier = Retrier::new("peer", RetrierConfig { retry, ..RetrierConfig::default() }).expect("in range");
    let observer = Arc::new(|_: &Scope<'_>, _: &Event<'_>| {});
    let timeout = Duration::from_secs(5);

    check("a breaker over a time", breaker(BreakerConfig::default()).layer().layer(Peer));
    check("a breaker over a number of calls", breaker(count).layer().layer(Peer));
    check("a bulkhead", Bulkhead::new("peer", 10).layer().layer(Peer));
    check("a deadline", DeadlineLayer::new(timeout).layer(Peer));
    check("an attempt's timeout", TimeoutLayer::new(timeout).layer(Peer));
    check("a retry", retrier.layer().layer(Peer));
    check("a retry that looks at trailers", retrier.layer().peek_trailers().layer(Peer));
    check("observed calls", ObserveLayer::calls("peer", observer.clone()).layer(Peer));
    check("observed attempts", ObserveLayer::attempts("peer", observer.clone()).layer(Peer));
    check("answers for errors", RespondLayer::new().layer(Peer));
    check("answers for panics", CatchPanicLayer.layer(Peer));
    check("the layer for a server", mainstay::server().timeout(timeout).max_concurrent(10).layer(Peer));
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(ObserveLayer::calls("peer", observer.clone()))
        .layer(DeadlineLayer::new(timeout))
        .layer(retrier.layer())
        .layer(ObserveLayer::attempts("peer", observer))
        .layer(breaker(BreakerConfig::default()).layer())
        .layer(Bulkhead::new("peer", 10).layer())
        .layer(TimeoutLayer::new(timeout))
        .service(Peer);
    check("all of a client's layers", stack);
    assert_ne!(allocations(|| drop(Box::new(1))), 0, "the allocator counts");
}

fn check<S, R>(what: &str, mut service: S)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<R>>,
{
    let mut call = || {
        assert!(now_or_never(poll_fn(|cx| service.poll_ready(cx))).is_ok(), "{what}: not ready");
        assert!(now_or_never(service.call(Request::new(Empty::new()))).is_ok(), "{what}: failed");
    };
    // Thread-local state is made by the first call.
    call();
    let count = allocations(|| (0..100).for_each(|_| call()));
    assert_eq!(count, 0, "{what}: allocations in 100 calls");
    println!("no allocation: {what}");
}

fn allocations(run: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    run();
    let change = region.change();
    change.allocations + change.reallocations
}

fn now_or_never<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing has to wait"),
    }
}
