//! The golden table: what an error becomes for an HTTP caller and for a gRPC caller.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::expect;
use mainstay::BoxError;
use mainstay::Failure;
use mainstay::Rejection;
use mainstay::RejectionKind;
use mainstay::TransportError;
use mainstay::layer::CatchPanicLayer;
use mainstay::layer::RespondLayer;
use mainstay::outcome::Reach;
use mainstay::protocol::Code;
use tower_layer::Layer;

use crate::kit::*;

type MakeError = fn() -> BoxError;

fn errors() -> Vec<(&'static str, MakeError)> {
    fn reject(kind: RejectionKind) -> Rejection {
        Rejection::new(kind, "orders".into())
    }
    fn transport(failure: Failure) -> TransportError {
        TransportError::new(failure, Reach::Processed, "the peer is gone")
    }
    vec![
        ("breaker open", || reject(RejectionKind::BreakerOpen).with_retry_after(ms(1500)).into()),
        ("deadline exceeded", || reject(RejectionKind::DeadlineExceeded).into()),
        ("deadline malformed", || reject(RejectionKind::DeadlineMalformed).into()),
        ("no endpoint", || reject(RejectionKind::NoEndpoint).with_cause(Arc::new(transport(Failure::Connect))).into()),
        ("overloaded", || reject(RejectionKind::Overloaded).into()),
        ("rate limited", || reject(RejectionKind::RateLimited).with_retry_after(ms(20)).into()),
        ("shutting down", || reject(RejectionKind::ShuttingDown).into()),
        ("connect", || transport(Failure::Connect).into()),
        ("reset", || transport(Failure::Reset).into()),
        ("protocol", || transport(Failure::Protocol).into()),
        ("refused stream", || TransportError::new(Failure::Reset, Reach::Unprocessed, "h2").with_reset(7).into()),
        ("reset: cancel", || transport(Failure::Reset).with_reset(8).into()),
        ("reset: calm", || transport(Failure::Reset).with_reset(11).into()),
        ("reset: internal", || transport(Failure::Protocol).with_reset(2).into()),
        ("odd text", || TransportError::new(Failure::Reset, Reach::Processed, "100 %\n").into()),
        ("any other", || "secret of ours".into()),
    ]
}

#[tokio::test(start_paused = true)]
async fn errors_become_answers_as_the_table_says() {
    let mut table = String::new();
    for (name, error) in errors() {
        let mut service = RespondLayer::new().layer(Peer::new([Act::Error(error()), Act::Error(error())]));
        let http = call(&mut service, get()).await.unwrap();
        let wait = http.headers().get("retry-after").map_or("-", |value| value.to_str().unwrap()).to_owned();
        let (status, length) = (http.status().as_u16(), http.headers()["content-length"].clone());
        let (text, _) = read(http).await.unwrap();
        assert_eq!(length, text.len().to_string());
        let grpc = call(&mut service, grpc_request()).await.unwrap();
        let head = grpc.headers().clone();
        assert_eq!((grpc.status().as_u16(), &head["content-type"]), (200, &"application/grpc".parse().unwrap()));
        assert!(http_body::Body::is_end_stream(grpc.body()), "trailers-only");
        let text = |name: &str| head.get(name).map_or("-", |value| value.to_str().unwrap());
        let (code, message, pushback) = (text("grpc-status"), text("grpc-message"), text("grpc-retry-pushback-ms"));
        writeln!(table, "{name}: http {status} wait {wait}; grpc {code} wait {pushback}: {message}").unwrap();
    }
    expect![[r#"
        breaker open: http 503 wait 2; grpc 14 wait 1500: circuit breaker `orders` is open, ask again in 1.5s
        deadline exceeded: http 504 wait -; grpc 4 wait -: deadline exceeded in `orders`
        deadline malformed: http 400 wait -; grpc 13 wait -: malformed grpc-timeout
        no endpoint: http 503 wait -; grpc 14 wait -: no usable endpoint in `orders`: connection failure: the peer is gone
        overloaded: http 503 wait -; grpc 8 wait -: `orders` has as many calls in flight as it may
        rate limited: http 429 wait 1; grpc 8 wait 20: `orders` has had as many calls as its rate allows, ask again in 20ms
        shutting down: http 503 wait -; grpc 14 wait -: `orders` is shutting down
        connect: http 503 wait -; grpc 14 wait -: connection failure: the peer is gone
        reset: http 503 wait -; grpc 14 wait -: connection termination: the peer is gone
        protocol: http 502 wait -; grpc 13 wait -: protocol error: the peer is gone
        refused stream: http 503 wait -; grpc 14 wait -: refused stream: h2
        reset: cancel: http 503 wait -; grpc 1 wait -: remote reset: the peer is gone
        reset: calm: http 503 wait -; grpc 8 wait -: remote reset: the peer is gone
        reset: internal: http 502 wait -; grpc 13 wait -: protocol error: the peer is gone
        odd text: http 503 wait -; grpc 14 wait -: connection termination: 100 %25%0A
        any other: http 500 wait -; grpc 2 wait -: internal error
    "#]]
    .assert_eq(&table);
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_limit_is_unavailable_if_it_is_set_to_be() {
    let overloaded = || -> BoxError { Rejection::new(RejectionKind::Overloaded, "orders".into()).into() };
    let layer = RespondLayer::new().overloaded(Code::Unavailable);
    let mut service = layer.layer(Peer::new([Act::Error(overloaded()), Act::Error(overloaded())]));
    assert_eq!(answer(&mut service, grpc_request()).await.unwrap(), (200, Some(14)));
    assert_eq!(answer(&mut service, get()).await.unwrap(), (503, None));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_500_or_internal_and_its_words_stay_inside() {
    let mut service = RespondLayer::new().layer(CatchPanicLayer.layer(Peer::new([Act::Panic, Act::Panic])));
    let http = call(&mut service, get()).await.unwrap();
    assert_eq!(http.status(), 500);
    assert_eq!(read(http).await.unwrap().0, "the handler panicked");
    let grpc = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!(grpc_status(grpc.headers()), Some(13));
    assert_eq!(grpc.headers()["grpc-message"], "the handler panicked");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_ends_in_trailers_for_grpc_and_in_an_error_for_http() {
    let broken = || Step::Error(Rejection::new(RejectionKind::DeadlineExceeded, "deadline".into()).into());
    let peer = Peer::replies([
        grpc_body([Step::Data("one"), broken(), Step::Data("never")]),
        grpc_body([Step::Data("one"), broken()]),
    ]);
    let mut service = RespondLayer::new().layer(peer.clone());
    let response = call(&mut service, grpc_request()).await.unwrap();
    let (data, trailers) = read(response).await.expect("it ends well");
    let trailers = trailers.expect("there are some");
    assert_eq!((&data[..], grpc_status(&trailers)), (b"one".as_slice(), Some(4)));
    assert_eq!(trailers["grpc-message"], "deadline exceeded in `deadline`");
    assert_eq!(peer.running(), 0, "the broken body is let go");
    let response = call(&mut service, get()).await.unwrap();
    assert_eq!(rejection(&read(response).await.expect_err("HTTP has no other word")).by(), "deadline");
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_answered_passes_untouched() {
    let peer = Peer::replies([with(grpc_reply(5), &[("x-id", "7")]), http_reply(404, "nothing here")]);
    let mut service = RespondLayer::new().layer(peer);
    let response = call(&mut service, grpc_request()).await.unwrap();
    assert_eq!(response.headers()["x-id"], "7");
    let (data, trailers) = read(response).await.unwrap();
    assert_eq!((&data[..], grpc_status(&trailers.unwrap())), (b"message".as_slice(), Some(5)));
    let response = call(&mut service, get()).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(read(response).await.unwrap().0, "nothing here");
}
