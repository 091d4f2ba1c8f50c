//! A tonic client that survives: of three upstreams one fails a third of its calls, and one dies and comes back.
//!
//! ```text
//! cargo run --features proxy --example resilient_client
//! ```
//!
//! The client itself needs the feature `client` only; `proxy` is here for the upstreams, which are the demo's.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use mainstay::Channel;
use mainstay::Event;
use mainstay::Scope;
use mainstay::policy::Condition;
use mainstay::policy::OutlierConfig;
use mainstay::policy::RetryConfig;
use mainstay::proto::demo::v1::HelloRequest;
use mainstay::proto::demo::v1::greeter_client::GreeterClient;
use mainstay::proxy::demo::greeter::Manners;
use mainstay::proxy::demo::upstream::Upstream;

const CALLS: u32 = 600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let healthy = start(Manners::new("healthy"))?;
    let flaky = start(Manners { unavailable: 0.33, seed: 1, ..Manners::new("flaky") })?;
    let mut dying = start(Manners::new("dying"))?;

    let retries = Arc::new(AtomicU32::new(0));
    let counted = retries.clone();
    let target = format!("static:///{},{},{}", healthy.address(), flaky.address(), dying.address());
    let channel = Channel::builder(target)
        .name("greeter")
        .deadline(Duration::from_secs(1))
        .attempt_timeout(Duration::from_millis(200))
        // A greeting changes nothing, so it may be asked for twice.
        .retry(RetryConfig { on: [Condition::Unavailable].into_iter().collect(), ..RetryConfig::default() })
        // Short, so that this example sees endpoints come back.
        .outlier(Some(OutlierConfig { base_ejection_time: Duration::from_millis(500), ..OutlierConfig::default() }))
        .observer(Arc::new(move |scope: &Scope<'_>, event: &Event<'_>| {
            let endpoint = scope.endpoint.unwrap_or("-");
            match event {
                Event::RetryScheduled { .. } => {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Event::Ejected { duration } => println!("  {endpoint} is ejected for {duration:?}"),
                Event::Returned => println!("  {endpoint} is back in the balance"),
                Event::Disconnected => println!("  {endpoint} closed its connection"),
                Event::ConnectFailed { error } => println!("  {endpoint} cannot be reached: {error}"),
                _ => {}
            }
        }))
        .build()?;
    let endpoints = channel.balancer().clone();

    println!("healthy is {}, flaky {}, dying {}", healthy.address(), flaky.address(), dying.address());
    let mut greeter = GreeterClient::new(channel);
    let mut served_by = BTreeMap::new();
    let mut failed = 0;
    for number in 0..CALLS {
        if number == CALLS / 3 {
            println!("after {number} calls, `dying` dies");
            dying.kill();
        }
        if number == 2 * CALLS / 3 {
            println!("after {number} calls, `dying` comes back");
            dying.revive()?;
        }
        match greeter.say_hello(HelloRequest { name: "Ada".to_owned(), replies: 0 }).await {
            Ok(reply) => *served_by.entry(reply.into_inner().served_by).or_insert(0) += 1,
            Err(status) => {
                failed += 1;
                println!("  a call failed: {status}");
            }
        }
        sleep(Duration::from_millis(3)).await;
    }

    println!("{CALLS} calls: {failed} failed, {} retries", retries.load(Ordering::Relaxed));
    println!("served by {served_by:?}");
    for endpoint in endpoints.endpoints() {
        let state = match endpoint.unusable(mainstay::time::now()) {
            Some((reason, _)) => format!("out of the balance: {reason:?}"),
            None => "in the balance".to_owned(),
        };
        println!("{} is {state}", endpoint.name());
    }
    Ok(())
}

fn start(manners: Manners) -> io::Result<Upstream> {
    Upstream::start(manners, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}
