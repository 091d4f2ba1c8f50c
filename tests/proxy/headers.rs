//! What a hop changes in a request and in a response, and that it changes nothing else.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http_body::Frame;
use mainstay::protocol::grpc_timeout;

use crate::client::Answer;
use crate::client::Raw;
use crate::client::call;
use crate::client::empty;
use crate::client::full;
use crate::client::get;
use crate::client::grpc;
use crate::fixture::Proxy;
use crate::fixture::cluster;
use crate::upstream::Seen;
use crate::upstream::Step;
use crate::upstream::Upstream;
use crate::upstream::frames;

/// Sends an HTTP/1 head to an upstream of that protocol: what arrives.
async fn forwarded(protocol: &str, head: &str) -> HeaderMap {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain(protocol, upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{head}\r\n")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    upstream.seen()[0].head.headers.clone()
}

#[tokio::test]
async fn hop_by_hop_headers_go_no_further() {
    let headers = "Connection: close-not, X-Hop , x-other\r\nX-Hop: 1\r\nx-other: 2\r\nKeep-Alive: 5\r\n\
                   Proxy-Connection: keep-alive\r\nUpgrade: foo\r\nConnection: x-third\r\nX-Third: 3\r\nX-Stays: 4\r\n";
    for protocol in ["http1", "http2"] {
        let headers = forwarded(protocol, headers).await;
        for name in ["connection", "x-hop", "x-other", "x-third", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!headers.contains_key(name), "{name} to {protocol}");
        }
        assert_eq!(headers["x-stays"], "4");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_come_no_further_back() {
    let upstream = Upstream::accept(|mut tcp| async move {
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && tcp.read_buf(&mut request).await.unwrap_or(0) > 0 {}
        let head = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Stays: 2\r\n";
        let body = "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let _ = tcp.write_all(format!("{head}{body}").as_bytes()).await;
    })
    .await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut request = get("/");
        if version == Version::HTTP_2 {
            request = Request::get("http://a.test/").version(version).body(empty()).expect("it is a request");
        }
        let answer = call(proxy.address, request).await;
        for name in ["connection", "x-hop", "keep-alive"] {
            assert!(!answer.headers.contains_key(name), "{name} in {version:?}");
        }
        assert_eq!((&*answer.body, answer.field("x-stays")), ("ok", "2"));
    }
}

#[tokio::test]
async fn of_te_only_trailers_stays() {
    assert_eq!(forwarded("http1", "TE: gzip, trailers;q=1, trailers\r\nConnection: TE\r\n").await["te"], "trailers");
    assert_eq!(forwarded("http2", "TE: trailers\r\nConnection: TE\r\n").await["te"], "trailers");
    assert!(!forwarded("http1", "TE: gzip\r\nConnection: TE\r\n").await.contains_key("te"));
}

#[tokio::test]
async fn the_peer_is_added_to_who_it_was_forwarded_for() {
    let headers = forwarded("http1", "").await;
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");

    let headers = forwarded("http2", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n").await;
    assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["192.0.2.1, 192.0.2.2, 127.0.0.1"]);
    assert_eq!(forwarded("http1", "X-Forwarded-Proto: https\r\n").await["x-forwarded-proto"], "https");
}

#[tokio::test]
async fn a_request_has_an_id_its_own_or_a_new_one() {
    assert_eq!(forwarded("http1", "X-Request-Id: mine\r\n").await["x-request-id"], "mine");
    let ids = [forwarded("http1", "").await, forwarded("http1", "").await].map(|headers| {
        let id = headers["x-request-id"].to_str().expect("it is text").to_owned();
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()), "{id}");
        assert_eq!(&id[14..15], "4", "{id}");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        id
    });
    assert_ne!(ids[0], ids[1]);
}

async fn authority_of(protocol: &str, version: Version) -> Seen {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain(protocol, upstream.address).await;
    let request = match version {
        Version::HTTP_2 => Request::get("http://named.test:81/p%20q/?a=%2F&&b#c").version(version),
        _ => Request::get("/p%20q/?a=%2F&&b").header("host", "named.test:81"),
    };
    assert_eq!(call(proxy.address, request.body(empty()).expect("it is a request")).await.status, 200);
    upstream.seen()[0].clone()
}

#[tokio::test]
async fn the_authority_and_the_path_survive_a_change_of_protocol() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let seen = authority_of("http1", version).await;
        assert_eq!(seen.head.headers.get_all("host").iter().collect::<Vec<_>>(), ["named.test:81"], "{version:?}");
        assert_eq!(seen.head.uri.to_string(), "/p%20q/?a=%2F&&b");

        let seen = authority_of("http2", version).await;
        assert_eq!(seen.head.uri.to_string(), "http://named.test:81/p%20q/?a=%2F&&b", "{version:?}");
        assert!(!seen.head.headers.contains_key("host"));
    }
}

/// The time that a gRPC call to an upstream has left, as the upstream sees it.
async fn time_left(route: &str, asked: &[(&str, &str)]) -> Vec<Option<Duration>> {
    let upstream = Upstream::scripted(&[Step::Grpc(14), Step::Message(0)]).await;
    let route = format!("{{ cluster: up, {route} }}");
    let proxy = Proxy::start(&route, &cluster("http2", &[upstream.address], "")).await;
    assert_eq!(call(proxy.address, grpc(asked)).await.grpc(), "0");
    let left = |seen: &Seen| grpc_timeout::from_headers(&seen.head.headers).expect("it is well-formed");
    upstream.seen().iter().map(left).collect()
}

/// envoy_to_10, with the name that gRPC has for it.
#[tokio::test]
async fn an_upstream_is_told_the_time_that_is_left() {
    let retry = "retry: { on: [unavailable], backoff: { base: 20ms } }";
    let left = time_left(&format!("timeout: 5s, {retry}"), &[]).await;
    assert!(left[0] <= Some(Duration::from_secs(5)) && left[0] > Some(Duration::from_secs(1)), "{left:?}");
    assert!(left[1] < left[0], "{left:?}");

    let left = time_left(&format!("timeout: 5s, {retry}"), &[("grpc-timeout", "3S")]).await;
    assert_eq!(left[0], Some(Duration::from_secs(3)), "a caller's own words stand while they hold");
    assert!(left[1] < left[0], "{left:?}");

    let left = time_left(&format!("timeout: 5s, {retry}"), &[("grpc-timeout", "1H")]).await;
    assert!(left[0] <= Some(Duration::from_secs(5)), "the route's timeout is the earlier one: {left:?}");

    assert_eq!(time_left(&format!("timeout: off, {retry}"), &[]).await, [None, None]);
}

#[tokio::test]
async fn nothing_else_of_a_request_changes() {
    let upstream = Upstream::scripted(&[Step::Message(0)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let body = frames(vec![Ok(Frame::data(vec![0, 1, 255].into())), Ok(Frame::trailers(trailers.clone()))]);
    let mut request = Request::post("http://a.test/p?q").version(Version::HTTP_2).body(body).expect("it is a request");
    for (name, value) in [("b", &b"2"[..]), ("a", b"1"), ("b", b"1"), ("b", b"2, 3"), ("odd", b"\xff;\t x"), ("e", b"")]
    {
        request.headers_mut().append(name, HeaderValue::from_bytes(value).expect("it is a value"));
    }
    let mut expected = request.headers().clone();
    call(proxy.address, request).await;

    let seen = upstream.seen().remove(0);
    for added in ["x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        expected.insert(added, seen.head.headers[added].clone());
    }
    assert_eq!(seen.head.headers, expected);
    assert_eq!(seen.head.headers.get_all("b").iter().collect::<Vec<_>>(), ["2", "1", "2, 3"]);
    assert_eq!((&*seen.body, seen.trailers), (&[0, 1, 255][..], Some(trailers)));
}

#[tokio::test]
async fn nothing_else_of_a_response_changes() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::start(|_| async {
            let mut response =
                Response::builder().status(299).header("server", "theirs").header("x", "2").header("x", "1");
            response = response.header("odd", HeaderValue::from_bytes(b"\xff;\t x").expect("it is a value"));
            Ok(response.header("location", "http://elsewhere/").body(full("body"))?)
        })
        .await;
        let proxy = Proxy::plain(protocol, upstream.address).await;
        let answer: Answer = call(proxy.address, get("/")).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (299, "body"));
        let names: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert_eq!(answer.headers.get_all("x").iter().collect::<Vec<_>>(), ["2", "1"]);
        assert_eq!(answer.headers["odd"], HeaderValue::from_bytes(b"\xff;\t x").expect("it is a value"));
        assert_eq!((answer.field("server"), answer.field("content-length")), ("theirs", "4"));
    }
}
