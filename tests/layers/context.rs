//! What the layers of one call tell each other, and not the next call.

use mainstay::context;
use mainstay::context::CallContext;
use mainstay::event::Stop;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;
use tower_layer::Layer;

use crate::kit::*;

fn retrier() -> Retrier {
    let retry = RetryConfig { on: [Condition::Unavailable].into(), max_attempts: 2, ..RetryConfig::default() };
    Retrier::new("retrier", RetrierConfig { retry, ..RetrierConfig::default() }).expect("it is valid")
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_nothing_on_its_thread() {
    let mut service = retrier().layer().layer(Peer::replies([trailers_only(14), trailers_only(14)]));
    answer(&mut service, grpc_request()).await.unwrap();
    assert_eq!(context::current(), CallContext::default());
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_call_is_there_for_whoever_is_around_it() {
    let mut service = retrier().layer().layer(Peer::replies([trailers_only(14), trailers_only(14), grpc_reply(0)]));
    let seen = CallContext::default().scope(async {
        answer(&mut service, grpc_request()).await.unwrap();
        let failed = context::current().record;
        answer(&mut service, grpc_request()).await.unwrap();
        (failed, context::current().record)
    });
    let (failed, next) = seen.await;
    assert_eq!((failed.attempts, failed.stop), (2, Some(Stop::AttemptsSpent)));
    assert_eq!((next.attempts, next.stop, next.failure), (1, None, None), "each call starts a record of its own");
}
