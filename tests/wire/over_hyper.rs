//! The judge and the bodies on real connections of hyper, over pipes in memory.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body::Body;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use mainstay::BoxError;
use mainstay::Failure;
use mainstay::Outcome;
use mainstay::outcome::Ending;
use mainstay::protocol::End;
use mainstay::protocol::Judge;
use mainstay::protocol::OnEnd;
use mainstay::protocol::Peek;
use mainstay::protocol::Peeked;
use mainstay::protocol::Replay;
use mainstay::protocol::Tracked;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Answer = Response<BoxBody<Bytes, BoxError>>;

/// Serves one HTTP/2 connection and returns the client's end of it.
async fn h2<B, F, R>(handler: F) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(server.serve_connection(TokioIo::new(far), service));
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.expect("the server is there");
    tokio::spawn(connection);
    sender
}

fn answer(head: &[(&'static str, &'static str)], frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Answer {
    let body = StreamBody::new(tokio_stream::iter(frames)).boxed();
    let mut answer = Response::new(body);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in head {
        answer.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    answer
}

fn trailers(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers
}

fn call<B>(body: B) -> Request<B> {
    Request::post("http://orders/demo.Orders/Place").body(body).expect("it is a request")
}

/// Notes how a body ended.
#[derive(Clone)]
struct Note(Judge, Arc<Mutex<Vec<Ending>>>);

impl OnEnd for Note {
    fn on_end(self, end: End<'_>) {
        self.1.lock().expect("no panic while it is locked").push(self.0.end(end));
    }
}

/// Judges an answer to its end, reading `frames` of its frames before it is dropped.
async fn judged(answer: Response<Incoming>, mut judge: Judge, frames: usize) -> Ending {
    if let Some(ending) = judge.head(answer.status(), answer.headers(), answer.body().is_end_stream()) {
        return ending;
    }
    let endings = Arc::new(Mutex::new(Vec::new()));
    let mut body = Tracked::new(answer.into_body(), Note(judge, Arc::clone(&endings)));
    for _ in 0..frames {
        if !matches!(body.frame().await, Some(Ok(_))) {
            break;
        }
    }
    drop(body);
    let endings = endings.lock().expect("no panic while it is locked");
    assert_eq!(endings.len(), 1, "one end is told");
    endings[0]
}

async fn grpc_ending(make: fn() -> Answer, frames: usize) -> Ending {
    let mut client = h2(move |_| async move { make() }).await;
    let answer = client.send_request(call(Full::default())).await.expect("the server answers");
    judged(answer, Judge::grpc(), frames).await
}

#[tokio::test]
async fn trailers_decide_over_a_real_connection() {
    let ok = || answer(&[], vec![Ok(Frame::data(Bytes::from_static(b"reply"))), Ok(Frame::trailers(trailers("0")))]);
    assert_eq!(grpc_ending(ok, 9).await.outcome, Outcome::Success);
    let unavailable = || answer(&[], vec![Ok(Frame::trailers(trailers("14")))]);
    assert_eq!(grpc_ending(unavailable, 9).await.answer.grpc, Some(14));
    assert_eq!(grpc_ending(ok, 1).await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn grpc_st_01_a_body_that_ends_without_trailers_is_a_protocol_failure() {
    let cut = || answer(&[], vec![Ok(Frame::data(Bytes::from_static(b"reply")))]);
    let ending = grpc_ending(cut, 9).await;
    assert_eq!((ending.outcome, ending.answer.grpc), (Outcome::Failure(Failure::Protocol), None));
}

#[tokio::test]
async fn trailers_only_is_final_at_the_head() {
    let make = || answer(&[("grpc-status", "8")], vec![]).map(|_| Full::default().map_err(Into::into).boxed());
    let ending = grpc_ending(make, 0).await;
    assert_eq!((ending.outcome, ending.answer.grpc), (Outcome::Failure(Failure::Overload), Some(8)));
}

#[tokio::test]
async fn trailers_only_with_an_end_that_comes_late_is_the_same() {
    let make = || answer(&[("grpc-status", "5")], vec![Ok(Frame::data(Bytes::new()))]);
    let ending = grpc_ending(make, 9).await;
    assert_eq!((ending.outcome, ending.answer.grpc), (Outcome::Success, Some(5)));
}

#[tokio::test]
async fn a_reset_in_the_body_is_a_reset() {
    let (say, said) = mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
    let said = Mutex::new(Some(UnboundedReceiverStream::new(said)));
    let mut client = h2(move |_| {
        let said = said.lock().expect("no panic while it is locked").take().expect("it is asked once");
        async move { answer(&[], vec![]).map(|_| StreamBody::new(said).boxed()) }
    })
    .await;
    let answer = client.send_request(call(Full::default())).await.expect("the server answers");
    // Only now, since a reset overtakes a head that is not sent yet.
    say.send(Err("the handler broke".into())).expect("the body listens");
    assert_eq!(judged(answer, Judge::grpc(), 9).await.outcome, Outcome::Failure(Failure::Reset));
}

#[tokio::test]
async fn the_first_frame_is_seen_to_be_trailers_before_anything_is_handed_on() {
    let make = || answer(&[], vec![Ok(Frame::data(Bytes::new())), Ok(Frame::trailers(trailers("14")))]);
    let mut client = h2(move |_| async move { make() }).await;
    let answer = client.send_request(call(Full::default())).await.expect("the server answers");
    let mut body = std::pin::pin!(Peek::new(answer.into_body()));
    let status = std::future::poll_fn(|cx| match body.as_mut().peek(cx) {
        Peeked::Pending => std::task::Poll::Pending,
        Peeked::Trailers(trailers) => std::task::Poll::Ready(trailers.get("grpc-status").cloned()),
        other => panic!("these are not trailers: {other:?}"),
    });
    assert_eq!(status.await, Some(HeaderValue::from_static("14")));
    let left = body.collect().await.expect("nothing is wrong with it");
    assert_eq!(left.trailers().map(HeaderMap::len), Some(1));
}

#[tokio::test]
async fn an_answer_to_head_has_ended_at_its_head() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"page")))) });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
    let (mut client, connection) = http1::handshake(TokioIo::new(near)).await.expect("the server is there");
    tokio::spawn(connection);
    for (method, final_at_head) in [(Method::HEAD, true), (Method::GET, false)] {
        let request = Request::builder().method(method).uri("/").body(Full::<Bytes>::default()).expect("it is one");
        let answer = client.send_request(request).await.expect("the server answers");
        assert_eq!(answer.headers()["content-length"], "4");
        let empty = answer.body().is_end_stream();
        let head = Judge::http().head(answer.status(), answer.headers(), empty);
        assert_eq!(head.is_some(), final_at_head);
        assert_eq!(judged(answer, Judge::http(), 9).await.outcome, Outcome::Success);
    }
}

#[tokio::test]
async fn grpc_rt_20_every_attempt_sends_the_same_over_a_real_connection() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut client = h2(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let body = request.into_body().collect().await.expect("the request is whole");
            tell.send((body.trailers().cloned(), body.to_bytes())).expect("the test listens");
            answer(&[], vec![Ok(Frame::trailers(trailers("14")))])
        }
    })
    .await;
    let blocks = (0..200u8).map(|fill| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![fill; 1024]))));
    let frames: Vec<_> = blocks.chain([Ok(Frame::trailers(trailers("7")))]).collect();
    let (first, replayer) = Replay::new(StreamBody::new(tokio_stream::iter(frames)), 256 * 1024);
    let mut attempt = first;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let answer = client.send_request(call(attempt)).await.expect("the server answers");
        assert_eq!(answer.status(), StatusCode::OK);
        bodies.push(told.recv().await.expect("the server read it"));
        attempt = replayer.again().expect("all of it is kept");
    }
    assert_eq!(bodies[0].1.len(), 200 * 1024);
    assert_eq!(bodies[0].0, Some(trailers("7")));
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn a_connection_lets_go_of_an_attempt_that_is_replaced() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut client = h2(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let whole = request.into_body().collect().await.map(|body| body.to_bytes());
            tell.send(whole.map_err(|_| "reset")).expect("the test listens");
            answer(&[("grpc-status", "0")], vec![])
        }
    })
    .await;
    // The caller has sent one message and not yet closed.
    let (say, said) = mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
    let said = UnboundedReceiverStream::new(said);
    say.send(Ok(Frame::data(Bytes::from_static(b"one ")))).expect("the body listens");
    let (first, replayer) = Replay::new(StreamBody::new(said), 1024);

    let sending = tokio::spawn(client.send_request(call(first)));
    for _ in 0..10_000 {
        if replayer.buffered() > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(replayer.buffered(), 4);
    assert!(!sending.is_finished(), "the server waits for the end");
    let second = replayer.again().expect("all of it is kept");
    assert_eq!(told.recv().await, Some(Err("reset")), "the first stream was reset");

    let sending = tokio::spawn(client.send_request(call(second)));
    say.send(Ok(Frame::data(Bytes::from_static(b"two")))).expect("the body listens");
    drop(say);
    assert_eq!(told.recv().await, Some(Ok(Bytes::from_static(b"one two"))));
    assert!(sending.await.expect("it does not panic").is_ok());
}

#[tokio::test]
async fn every_attempt_has_the_same_length_on_http_1() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn(|request: Request<Incoming>| async move {
        let length = request.headers().get("content-length").cloned();
        let body = request.into_body().collect().await.expect("the request is whole").to_bytes();
        let mut answer = Response::new(Full::new(body));
        answer.headers_mut().extend(length.map(|length| (http::HeaderName::from_static("x-length"), length)));
        Ok::<_, Infallible>(answer)
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
    let (mut client, connection) = http1::handshake(TokioIo::new(near)).await.expect("the server is there");
    tokio::spawn(connection);
    let (mut attempt, replayer) = Replay::new(Full::new(Bytes::from_static(b"an order")), 1024);
    for _ in 0..3 {
        let answer = client.send_request(call(attempt)).await.expect("the server answers");
        assert_eq!(answer.headers()["x-length"], "8");
        assert_eq!(answer.into_body().collect().await.expect("it is whole").to_bytes(), "an order");
        attempt = replayer.again().expect("all of it is kept");
    }
}
