//! Layers by hand: a `ServiceBuilder` stack around any tower service, and the handles that read and control it.
//!
//! ```text
//! cargo run --example compose
//! ```
//!
//! Needs no feature. The peer here is a function; a hyper client or another stack would do as well.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http::Response;
use http::StatusCode;
use tower::Service;
use tower::ServiceBuilder;
use tower::ServiceExt;
use tower::service_fn;

use mainstay::BoxError;
use mainstay::Event;
use mainstay::Rejection;
use mainstay::Scope;
use mainstay::guard::Breaker;
use mainstay::guard::Bulkhead;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BreakerConfig;
use mainstay::policy::BudgetConfig;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;

/// A peer whose mood can be changed, and which counts what reaches it.
#[derive(Default)]
struct Peer {
    mood: AtomicU8,
    visits: AtomicUsize,
}

const WELL: u8 = 0;
const FAILS_EVERY_OTHER_CALL: u8 = 1;
const DOWN: u8 = 2;
const HANGS: u8 = 3;

impl Peer {
    fn change(&self, mood: u8, what: &str) {
        self.mood.store(mood, Ordering::Relaxed);
        println!("\n{what}");
    }

    async fn answer(&self) -> Result<Response<String>, BoxError> {
        let visit = self.visits.fetch_add(1, Ordering::Relaxed);
        let failed = match self.mood.load(Ordering::Relaxed) {
            WELL => false,
            FAILS_EVERY_OTHER_CALL => visit.is_multiple_of(2),
            DOWN => true,
            _ => std::future::pending().await,
        };
        let mut response = Response::new("hello".to_owned());
        if failed {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        Ok(response)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let observer = Arc::new(|scope: &Scope<'_>, event: &Event<'_>| match event {
        Event::BreakerChanged { from, to } => println!("    event: breaker `{}` went from {from} to {to}", scope.name),
        Event::RetryDenied { stop, .. } => println!("    event: no other attempt at `{}`: {stop}", scope.name),
        _ => {}
    });

    // State lives in handles. They are cheap to clone, and their layers share it.
    let retry = RetryConfig { on: [Condition::GatewayError].into_iter().collect(), ..RetryConfig::default() };
    let budget = BudgetConfig { min_per_second: 10, ..BudgetConfig::default() };
    let config = RetrierConfig { retry, budget: Some(budget), ..RetrierConfig::default() };
    let retrier = Retrier::observed("peer", config, observer.clone())?;
    let config = BreakerConfig { failure_rate: Some(0.8), min_calls: 10, ..BreakerConfig::default() };
    let breaker = Breaker::observed("peer", config, observer)?;
    let bulkhead = Bulkhead::new("peer", 64);

    let peer = Arc::new(Peer::default());
    let visited = peer.clone();
    let mut client = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_millis(300))) // the whole call, waits between attempts included
        .layer(retrier.layer()) // what is inside happens once for each attempt
        .layer(breaker.layer())
        .layer(bulkhead.layer())
        .layer(TimeoutLayer::new(Duration::from_millis(100))) // one attempt
        .service(service_fn(move |_| {
            let peer = visited.clone();
            async move { peer.answer().await }
        }));

    peer.change(FAILS_EVERY_OTHER_CALL, "the peer fails every other call: retries save them");
    for _ in 0..3 {
        println!("  {}", call(&mut client).await);
    }
    println!("  retries left in the budget: {:?}", retrier.balance(mainstay::time::now()));

    peer.change(DOWN, "the peer is down: the breaker opens, and the peer is left alone");
    for _ in 0..6 {
        println!("  {}", call(&mut client).await);
    }
    let snapshot = breaker.snapshot();
    println!("  breaker: {}, {} calls failed in its window of {}", snapshot.state, snapshot.failures, snapshot.calls);
    let before = peer.visits.load(Ordering::Relaxed);
    println!("  {}", call(&mut client).await);
    println!("  calls that reached the peer meanwhile: {}", peer.visits.load(Ordering::Relaxed) - before);

    peer.change(WELL, "the peer is well again, and an operator does not wait for the breaker to find out");
    breaker.reset();
    println!("  {}", call(&mut client).await);

    peer.change(HANGS, "the peer hangs: each attempt ends in time, and so does the call");
    println!("  {}", call(&mut client).await);

    peer.change(WELL, "an operator closes the bulkhead, then opens it");
    bulkhead.resize(0);
    println!("  {}", call(&mut client).await);
    bulkhead.resize(64);
    println!("  {}", call(&mut client).await);
    Ok(())
}

async fn call<S, B>(client: &mut S) -> String
where
    S: Service<Request<String>, Response = Response<B>, Error = BoxError>,
{
    let request = Request::get("http://peer/").body(String::new()).expect("the address is valid");
    let result = match client.ready().await {
        Ok(client) => client.call(request).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(response) => format!("answered: {}", response.status()),
        Err(error) => match Rejection::find(&*error) {
            Some(rejection) => format!("refused by a layer of ours: {rejection}"),
            None => format!("failed: {error}"),
        },
    }
}
