//! A policy of your own: a token bucket as a guard, and a judge for calls that do not say what they are.
//!
//! ```text
//! cargo run --example custom_policy
//! ```
//!
//! Needs no feature. Whatever implements `Admit` gets the same tower adapter, and with it the same contract, as the
//! guards of the library: refused in `call`, settled exactly once.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http::Uri;
use tower::Service;
use tower::ServiceBuilder;
use tower::ServiceExt;
use tower::service_fn;

use mainstay::BoxError;
use mainstay::Outcome;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::guard::Admit;
use mainstay::guard::Breaker;
use mainstay::guard::Settle;
use mainstay::layer::GuardLayer;
use mainstay::policy::BreakerConfig;
use mainstay::protocol::Auto;
use mainstay::protocol::Classify;
use mainstay::protocol::Judge;
use mainstay::time::Instant;

/// Admits so many calls at once, and then one each time that a token has come back.
///
/// Calls that the caller gave up before there was an answer get their token back.
#[derive(Clone)]
struct TokenBucket(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    size: u32,
    every: Duration,
    state: Mutex<State>,
}

/// The policy: plain data, and the time comes in as an argument.
#[derive(Clone, Copy)]
struct State {
    tokens: u32,
    /// Up to when tokens were counted; nothing before the first call.
    counted: Option<Instant>,
}

impl State {
    fn take(&mut self, now: Instant, size: u32, every: Duration) -> Result<(), Duration> {
        let counted = *self.counted.get_or_insert(now);
        let passed = now.saturating_duration_since(counted);
        let earned = u32::try_from(passed.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(size);
        // What has passed of the next token's time is kept.
        let counted = if self.tokens == size { now } else { counted + every * earned };
        self.counted = Some(counted);
        if self.tokens == 0 {
            return Err((counted + every).saturating_duration_since(now));
        }
        self.tokens -= 1;
        Ok(())
    }
}

impl TokenBucket {
    fn new(name: &str, size: u32, every: Duration) -> Self {
        let state = Mutex::new(State { tokens: size, counted: None });
        Self(Arc::new(Shared { name: name.into(), size, every, state }))
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self) {
        self.with(|state| state.tokens = state.tokens.saturating_add(1).min(self.0.size));
    }
}

impl Admit for TokenBucket {
    type Permit = Token;

    fn admit(&self, now: Instant) -> Result<Token, Rejection> {
        let taken = self.with(|state| state.take(now, self.0.size, self.0.every));
        taken
            .map(|()| Token(Some(self.clone())))
            .map_err(|wait| Rejection::new(RejectionKind::RateLimited, self.0.name.clone()).with_retry_after(wait))
    }
}

/// The token of a call that was admitted. Dropped unsettled, its call was cancelled.
struct Token(Option<TokenBucket>);

impl Settle for Token {
    fn settle(mut self, _now: Instant, outcome: Outcome) {
        let bucket = self.0.take();
        if let (Some(bucket), Outcome::Cancelled) = (bucket, outcome) {
            bucket.put_back();
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(bucket) = self.0.take() {
            bucket.put_back();
        }
    }
}

/// Judges everything under `/rpc.` as gRPC: an old client of ours sends a content-type of its own.
#[derive(Clone)]
struct ByPath;

impl Classify for ByPath {
    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Judge {
        if uri.path().starts_with("/rpc.") { Judge::grpc() } else { Auto.judge(method, uri, headers) }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("a token bucket: three at once, then one each 100 ms");
    let bucket = TokenBucket::new("search", 3, Duration::from_millis(100));
    let mut client = ServiceBuilder::new().layer(GuardLayer::new(bucket)).service(service_fn(peer));
    for _ in 0..4 {
        println!("  {}", call(&mut client).await);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    println!("  150 ms later: {}", call(&mut client).await);

    println!("\nthe peer answers 200 with `grpc-status: 14`; ten calls, then the breaker's state");
    let config = BreakerConfig { min_calls: 10, ..BreakerConfig::default() };
    let (by_default, by_path) = (Breaker::new("by default", config)?, Breaker::new("by path", config)?);
    let mut plain = ServiceBuilder::new().layer(by_default.layer()).service(service_fn(peer));
    let mut judged = ServiceBuilder::new().layer(by_path.layer().classify(ByPath)).service(service_fn(peer));
    for _ in 0..10 {
        call(&mut plain).await;
        call(&mut judged).await;
    }
    println!("  judged by content-type, which says nothing: {}", by_default.state());
    println!("  judged by our own rule: {}", by_path.state());
    Ok(())
}

async fn peer(_: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    response.headers_mut().insert("grpc-status", http::HeaderValue::from_static("14"));
    Ok(response)
}

async fn call<S, B>(client: &mut S) -> String
where
    S: Service<Request<String>, Response = Response<B>, Error = BoxError>,
{
    let request = Request::post("http://peer/rpc.Search/Find").body(String::new()).expect("the address is valid");
    let result = match client.ready().await {
        Ok(client) => client.call(request).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(_) => "admitted".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}
