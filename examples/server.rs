//! A tonic server behind `mainstay::server()`: deadlines, panics and overload become statuses, and are told.
//!
//! ```text
//! cargo run --features proxy --example server
//! ```
//!
//! Mainstay's part needs no feature; `proxy` is here for tonic's server and the demo's service definition.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use mainstay::Channel;
use mainstay::Event;
use mainstay::Scope;
use mainstay::event::Span;
use mainstay::proto::demo::v1::HelloReply;
use mainstay::proto::demo::v1::HelloRequest;
use mainstay::proto::demo::v1::greeter_client::GreeterClient;
use mainstay::proto::demo::v1::greeter_server::Greeter;
use mainstay::proto::demo::v1::greeter_server::GreeterServer;

/// Greets, and has a weakness for certain names.
struct Moody;

/// Says that a handler ended before it was done.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        println!("  server: the handler was dropped, and stops its work");
    }
}

#[tonic::async_trait]
impl Greeter for Moody {
    type SayHelloStreamStream = BoxStream<HelloReply>;
    type ChatStream = BoxStream<HelloReply>;

    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        // What is left of the caller's time. Clients that are called from here inherit it by themselves.
        let left = mainstay::context::current().deadline.map(|deadline| deadline - mainstay::time::now());
        let name = request.into_inner().name;
        match name.as_str() {
            "Medusa" => panic!("do not look"),
            "Godot" => {
                let _unfinished = Unfinished;
                std::future::pending::<()>().await;
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
        let message = format!("Hello, {name}! I had {:.1?} for this.", left.unwrap_or(Duration::MAX));
        Ok(Response::new(HelloReply { message, served_by: "moody".to_owned() }))
    }

    async fn say_hello_stream(&self, _: Request<HelloRequest>) -> Result<Response<BoxStream<HelloReply>>, Status> {
        Err(Status::unimplemented("this example has only one method"))
    }

    async fn greet_many(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented("this example has only one method"))
    }

    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<BoxStream<HelloReply>>, Status> {
        Err(Status::unimplemented("this example has only one method"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|panic| println!("  server: {panic}")));
    let tell = Arc::new(|scope: &Scope<'_>, event: &Event<'_>| match event {
        Event::Rejected(rejection) => println!("  {}: refused, {rejection}", scope.name),
        Event::Ended { span: Span::Call, outcome, .. } => println!("  {}: ended, {}", scope.name, outcome.as_str()),
        _ => {}
    });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder()
        .layer(mainstay::server().observer(tell).timeout(Duration::from_secs(30)).max_concurrent(2))
        .add_service(GreeterServer::new(Moody))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
            // Whether it was told to stop or left alone: it stops.
            let _ = stopped.await;
        });
    let server = tokio::spawn(server);

    let greeter = GreeterClient::new(Channel::builder(format!("http://{address}")).build()?);

    println!("an ordinary call; the server gives each 30 s");
    println!("  client: {}", greet(greeter.clone(), "Ada", None).await);
    println!("a caller who gives it 5 s");
    println!("  client: {}", greet(greeter.clone(), "Ada", Some(Duration::from_secs(5))).await);
    println!("a call that never ends, from a caller who has 100 ms");
    println!("  client: {}", greet(greeter.clone(), "Godot", Some(Duration::from_millis(100))).await);
    // The cancellation is on its way to the server.
    sleep(Duration::from_millis(50)).await;
    println!("a call whose handler panics");
    println!("  client: {}", greet(greeter.clone(), "Medusa", None).await);
    println!("three calls at once, where two may run");
    let calls = tokio::join!(
        greet(greeter.clone(), "Ada", None),
        greet(greeter.clone(), "Grace", None),
        greet(greeter.clone(), "Barbara", None),
    );
    println!("  client: {}\n  client: {}\n  client: {}", calls.0, calls.1, calls.2);

    drop((stop, greeter));
    server.await??;
    Ok(())
}

async fn greet(mut greeter: GreeterClient<Channel<tonic::body::Body>>, name: &str, time: Option<Duration>) -> String {
    let mut request = Request::new(HelloRequest { name: name.to_owned(), replies: 0 });
    if let Some(time) = time {
        request.set_timeout(time);
    }
    match greeter.say_hello(request).await {
        Ok(reply) => reply.into_inner().message,
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
