//! Streams in both directions: message by message, no faster than they are read, and cancelled for both sides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::Version;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use mainstay::proto::demo::v1::HelloReply;
use mainstay::proto::demo::v1::HelloRequest;
use mainstay::proto::demo::v1::greeter_client::GreeterClient;
use mainstay::proto::demo::v1::greeter_server::GreeterServer;
use mainstay::proxy::demo::greeter::Greeter;
use mainstay::proxy::demo::greeter::Manners;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::client::connect2;
use crate::client::empty;
use crate::fixture::Proxy;
use crate::fixture::soon;
use crate::fixture::until;
use crate::upstream::Upstream;

/// A proxy in front of the demo service, and a client of it.
async fn greeter() -> (Proxy, GreeterClient<Channel>) {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("it is bound");
    let service = GreeterServer::new(Greeter::new(Manners::new("one")));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let proxy = Proxy::plain("http2", address).await;
    let channel = Channel::from_shared(format!("http://{}", proxy.address)).expect("an address");
    (proxy, GreeterClient::new(channel.connect_lazy()))
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.to_owned(), replies: 0 }
}

#[tokio::test]
async fn a_unary_call_passes_with_its_metadata_and_its_error() {
    let (_proxy, mut client) = greeter().await;
    let mut request = tonic::Request::new(hello("Ada"));
    request.metadata_mut().insert("echo", "text".parse().expect("ASCII"));
    request.metadata_mut().insert_bin("echo-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255, 7]));
    let reply = soon("a reply", client.say_hello(request)).await.expect("it is well");
    assert_eq!(reply.metadata().get("echo").expect("it came back"), "text");
    let binary = reply.metadata().get_bin("echo-bin").expect("it came back").to_bytes().expect("base64");
    assert_eq!(&*binary, [0, 255, 7]);
    assert_eq!(reply.into_inner().message, "Hello, Ada!");

    let error = soon("an error", client.say_hello(hello("error:9:nö, \u{1f9ea}%"))).await.expect_err("as asked for");
    assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, "nö, \u{1f9ea}%"));
    assert!(!error.details().is_empty());
    assert_eq!(error.metadata().get("served-by").expect("it is there"), "one");
}

#[tokio::test]
async fn a_stream_of_replies_passes_with_its_trailers() {
    let (proxy, mut client) = greeter().await;
    let request = HelloRequest { name: "error:10:late".to_owned(), replies: 4 };
    let mut replies = soon("a stream", client.say_hello_stream(request)).await.expect("it begins well").into_inner();
    for n in 1..=4 {
        let reply: HelloReply = soon("a reply", replies.message()).await.expect("no error yet").expect("no end yet");
        assert!(reply.message.ends_with(&format!("({n} of 4)")));
    }
    let error = soon("the error", replies.message()).await.expect_err("the error comes last");
    assert_eq!((error.code(), error.message()), (Code::Aborted, "late"));
    assert_eq!(error.metadata().get("served-by").expect("it is there"), "one");
    drop((replies, client));
    assert_eq!(proxy.line().await["grpc_status"], "ABORTED");
}

#[tokio::test]
async fn a_stream_of_requests_passes() {
    let (_proxy, mut client) = greeter().await;
    let names = tokio_stream::iter(["a", "b", "c"].map(hello));
    let reply = soon("a reply", client.greet_many(names)).await.expect("it is well").into_inner();
    assert_eq!(reply.message, "Hello, a, b, c!");
}

#[tokio::test]
async fn a_conversation_passes_message_by_message() {
    let (_proxy, mut client) = greeter().await;
    let (say, said) = mpsc::channel(1);
    let mut replies = soon("a head", client.chat(ReceiverStream::new(said))).await.expect("it is well").into_inner();
    for n in 0..20 {
        // Nothing is said before the answer to what was said before has come: a proxy that collects would hang.
        say.send(hello(&n.to_string())).await.expect("the stream is open");
        let reply = soon("a reply", replies.message()).await.expect("no error").expect("no end");
        assert_eq!(reply.message, format!("Hello, {n}!"));
    }
    drop(say);
    assert!(soon("the end", replies.message()).await.expect("no error").is_none());
}

const CHUNK: usize = 64 * 1024;
/// Windows of 1 MiB on both sides of the proxy, what the sockets hold, and some frames on their way.
const BOUND: u64 = 8 * 1024 * 1024;
const WHOLE: u64 = 64 * 1024 * 1024;

/// Sends chunks and counts them, until `WHOLE` bytes are sent.
fn chunks(sent: Arc<AtomicU64>) -> crate::client::Body {
    let chunk = Bytes::from_static(&[0; CHUNK]);
    let stream = tokio_stream::iter(std::iter::from_fn(move || {
        let before = sent.fetch_add(CHUNK as u64, Ordering::Relaxed);
        (before < WHOLE).then(|| Ok(Frame::data(chunk.clone())))
    }));
    StreamBody::new(stream).boxed_unsync()
}

/// Waits until a number has stopped to grow, and returns it.
async fn settled(number: &AtomicU64) -> u64 {
    let (mut last, mut same) = (0, 0);
    until("the flow to stop", async || {
        // Long enough for a byte to cross two sockets many times over.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let current = number.load(Ordering::Relaxed);
        same = if current == last && current > 0 { same + 1 } else { 0 };
        last = current;
        (same == 20).then_some(current)
    })
    .await
}

fn slow_get(version: Version, path: &str) -> Request<crate::client::Body> {
    Request::get(format!("http://a.test{path}")).version(version).body(empty()).expect("it is a request")
}

#[tokio::test]
async fn a_slow_reader_slows_down_the_upstream() {
    for protocol in ["http2", "http1"] {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let upstream = Upstream::start(move |_| {
            let body = chunks(counter.clone());
            async move { Ok(Response::new(body)) }
        })
        .await;
        let proxy = Proxy::plain(protocol, upstream.address).await;
        let mut client = connect2(proxy.address).await;
        let response = soon("a head", client.send_request(slow_get(Version::HTTP_2, "/"))).await.expect("an answer");
        let taken = settled(&sent).await;
        assert!(taken < BOUND, "{protocol}: {taken} bytes were taken and nobody reads");

        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = soon("data", body.frame()).await {
            read += frame.expect("no error").into_data().map_or(0, |data| data.len() as u64);
        }
        assert_eq!(read, WHOLE, "{protocol}");
    }
}

#[tokio::test]
async fn a_slow_upstream_slows_down_the_client() {
    for protocol in ["http2", "http1"] {
        let (go, gone) = tokio::sync::watch::channel(false);
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        let upstream = Upstream::start(move |request: Request<hyper::body::Incoming>| {
            let (mut gone, counter) = (gone.clone(), counter.clone());
            async move {
                gone.wait_for(|gone| *gone).await?;
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    let bytes = frame?.into_data().map_or(0, |data| data.len() as u64);
                    counter.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok(Response::new(empty()))
            }
        })
        .await;
        let proxy = Proxy::plain(protocol, upstream.address).await;
        let mut client = connect2(proxy.address).await;
        let sent = Arc::new(AtomicU64::new(0));
        let request = Request::post("http://a.test/").version(Version::HTTP_2).body(chunks(sent.clone()));
        let call = tokio::spawn(client.send_request(request.expect("it is a request")));
        let given = settled(&sent).await;
        assert!(given < BOUND, "{protocol}: {given} bytes were given and nobody reads");
        go.send_replace(true);
        let answer = soon("an answer", call).await.expect("no panic").expect("an answer");
        assert_eq!((answer.status().as_u16(), received.load(Ordering::Relaxed)), (200, WHOLE), "{protocol}");
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An upstream whose handlers never answer, and which counts those that were dropped.
async fn deserted() -> (Upstream, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (begun.clone(), dropped.clone());
    let upstream = Upstream::start(move |_| {
        counters.0.fetch_add(1, Ordering::Relaxed);
        let guard = Dropped(counters.1.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    })
    .await;
    (upstream, begun, dropped)
}

async fn count(counter: &AtomicUsize, wanted: usize) {
    until("the count", async || (counter.load(Ordering::Relaxed) == wanted).then_some(())).await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_upstream() {
    for protocol in ["http2", "http1"] {
        let (upstream, begun, dropped) = deserted().await;
        let proxy = Proxy::plain(protocol, upstream.address).await;
        let mut client = connect2(proxy.address).await;
        let call = tokio::spawn(client.send_request(slow_get(Version::HTTP_2, "/")));
        count(&begun, 1).await;
        call.abort();
        count(&dropped, 1).await;
        drop(client);
        assert_eq!(proxy.flags().await, ["DC"], "{protocol}");
    }
}

#[tokio::test]
async fn a_timeout_cancels_the_call_at_the_upstream() {
    let (upstream, _, dropped) = deserted().await;
    let clusters = crate::fixture::cluster("http2", &[upstream.address], "");
    let proxy = Proxy::start("{ cluster: up, timeout: 50ms }", &clusters).await;
    assert_eq!(crate::client::call(proxy.address, crate::client::grpc(&[])).await.grpc(), "4");
    count(&dropped, 1).await;
}

#[tokio::test]
async fn a_stream_that_its_reader_drops_ends_at_the_upstream() {
    let sent = Arc::new(AtomicU64::new(0));
    let (dropped, counter) = (Arc::new(AtomicUsize::new(0)), sent.clone());
    let drops = dropped.clone();
    let upstream = Upstream::start(move |_| {
        let (mut body, guard) = (chunks(counter.clone()), Dropped(drops.clone()));
        let body = http_body_util::combinators::UnsyncBoxBody::new(StreamBody::new(
            tokio_stream::wrappers::ReceiverStream::new({
                let (sender, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    let _guard = guard;
                    while let Some(frame) = body.frame().await {
                        if sender.send(frame).await.is_err() {
                            return;
                        }
                    }
                });
                receiver
            }),
        ));
        async move { Ok(Response::new(body)) }
    })
    .await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let mut client = connect2(proxy.address).await;
    let mut response = client.send_request(slow_get(Version::HTTP_2, "/")).await.expect("an answer");
    assert!(soon("data", response.frame()).await.is_some());
    drop(response);
    count(&dropped, 1).await;
    let address: SocketAddr = proxy.address;
    drop(client);
    assert_eq!(proxy.flags().await, ["DC"], "{address}");
}
