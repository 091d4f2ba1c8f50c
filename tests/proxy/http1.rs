//! What HTTP/1 peers may send, byte by byte: each row of the table of inputs, and connections.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::client::Raw;
use crate::fixture::Proxy;
use crate::upstream::Step;
use crate::upstream::Upstream;

/// Sends these bytes: the status of the answer, and how many requests the upstream has seen. If the connection has to
/// close, waits for that.
async fn status_of(bytes: &str, closes: bool) -> (u16, Vec<crate::upstream::Seen>) {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send(bytes).await;
    let answer = if closes { raw.rest().await } else { raw.head().await };
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?} for {bytes:?}")), upstream.seen())
}

/// Checks requests that get this answer, after which the connection is closed, and that go no further.
async fn refused(status: u16, requests: &[&str]) {
    for request in requests {
        let (answered, seen) = status_of(request, true).await;
        assert_eq!((answered, seen.len()), (status, 0), "{request:?}");
    }
}

#[tokio::test]
async fn envoy_http1_01_old_and_unknown_versions_are_refused() {
    refused(426, &["GET / HTTP/1.0\r\nHost: a\r\n\r\n"]).await;
    refused(400, &["GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET /\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_02_there_is_exactly_one_host() {
    refused(400, &["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]).await;
    refused(400, &["GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_04_a_length_and_a_coding_together_are_refused_in_both_orders() {
    refused(
        400,
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn envoy_http1_05_a_length_is_one_number() {
    for length in
        ["5\r\nContent-Length: 5", "5\r\nContent-Length: 6", "5, 5", "-5", "+5", "0x5", "", "18446744073709551616"]
    {
        refused(400, &[&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello")]).await;
    }
}

/// Envoy says 501; what breaks here can only be a 400.
#[tokio::test]
async fn envoy_http1_06_a_coding_is_exactly_chunked() {
    for coding in
        ["gzip, chunked", "xchunked", "identity", "chunked, gzip", "chunked\r\nTransfer-Encoding: chunked", ""]
    {
        refused(400, &[&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n")]).await;
    }
}

#[tokio::test]
async fn envoy_http1_07_header_names_are_names() {
    for line in ["a : b", "a: b\0", ": b", "a b: c", "a"] {
        refused(400, &[&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")]).await;
    }
}

#[tokio::test]
async fn envoy_http1_08_methods_are_known_ones() {
    refused(400, &["get / HTTP/1.1\r\nHost: a\r\n\r\n", "FOO / HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
    assert_eq!(status_of("REPORT / HTTP/1.1\r\nHost: a\r\n\r\n", false).await.0, 200);
}

#[tokio::test]
async fn envoy_http1_09_a_target_is_a_path() {
    refused(400, &["GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
    refused(400, &["GET * HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_10_a_bad_chunk_is_refused() {
    for chunk in ["x\r\n", "-1\r\n", "\r\n", "5\nhello\r\n0\r\n\r\n", "11111111111111111\r\n"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        let (status, seen) = status_of(&request, true).await;
        assert_eq!((status, seen.len()), (400, 0), "{chunk:?}");
    }
}

#[tokio::test]
async fn envoy_http1_11_lines_are_not_folded() {
    refused(400, &["GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n d\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_12_lines_end_with_both_letters() {
    refused(400, &["GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n"]).await;
    refused(400, &["GET / HTTP/1.1\r\nHost: a\r\n\n", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_13_a_carriage_return_stands_alone_nowhere() {
    refused(400, &["GET / HTTP/1.1\r\nHost: a\r\nb: c\rd\r\n\r\n", "GET / HTTP/1.1\rHost: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn envoy_http1_14_an_underscore_is_a_letter() {
    let (status, seen) = status_of("GET / HTTP/1.1\r\nHost: a\r\na_b: c\r\n\r\n", false).await;
    assert_eq!(status, 200);
    assert_eq!(seen[0].head.headers["a_b"], "c");
}

#[tokio::test]
async fn envoy_http1_15_chunks_pass_without_their_extensions() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (status, seen) = status_of(&format!("{head}3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), false).await;
    assert_eq!((status, &*seen[0].body), (200, &b"abcde"[..]));
    assert!(!seen[0].head.headers.contains_key("content-length"));

    let long = format!("{head}3;a={}\r\nabc\r\n0\r\n\r\n", "b".repeat(300));
    assert_eq!(status_of(&long, true).await.0, 400);
}

#[tokio::test]
async fn envoy_http1_16_an_upgrade_to_http2_is_ignored_and_not_forwarded() {
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let (status, seen) = status_of(&format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"), false).await;
    assert_eq!(status, 200);
    for name in ["connection", "upgrade", "http2-settings"] {
        assert!(!seen[0].head.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn envoy_http1_17_the_authority_of_an_absolute_target_is_the_host() {
    let (status, seen) = status_of("GET http://b.test:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", false).await;
    assert_eq!(status, 200);
    assert_eq!(seen[0].head.uri, "/x?y");
    assert_eq!(seen[0].head.headers.get_all("host").iter().collect::<Vec<_>>(), ["b.test:81"]);
}

#[tokio::test]
async fn envoy_http1_18_no_websocket_is_opened() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    refused(403, &[&format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n")]).await;
}

#[tokio::test]
async fn envoy_http1_19_no_route_leads_to_a_star_or_a_tunnel() {
    refused(404, &["OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"]).await;
    assert_eq!(status_of("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", false).await.0, 200);
}

#[tokio::test]
async fn envoy_http1_20_the_proxy_itself_says_continue() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(raw.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("hello").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(&*upstream.seen()[0].body, b"hello");
    assert!(!upstream.seen()[0].head.headers.contains_key("expect"));
}

/// Envoy: "Codec-level rejects are still access-logged (method/path null)".
#[tokio::test]
async fn a_request_that_cannot_be_read_is_logged() {
    for (request, code) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "b: c\r\n".repeat(101)), 431),
    ] {
        let upstream = Upstream::scripted(&[Step::Status(200)]).await;
        let proxy = Proxy::plain("http1", upstream.address).await;
        let mut raw = Raw::connect(proxy.address).await;
        raw.send(&request).await;
        assert!(raw.rest().await.starts_with(&format!("HTTP/1.1 {code}")));
        let line = proxy.line().await;
        assert_eq!((&line["response_code"], &line["response_flags"]), (&json!(code), &json!("DPE")), "{request:?}");
        assert_eq!((&line["method"], &line["path"], &line["attempts"]), (&Value::Null, &Value::Null, &json!(0)));
    }
}

#[tokio::test]
async fn the_pieces_in_which_a_head_comes_change_nothing() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    for (request, status) in [
        ("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "HTTP/1.1 400"),
        ("PUT / HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400"),
    ] {
        for at in 0..request.len() {
            let mut raw = Raw::connect(proxy.address).await;
            let (first, second) = request.split_at(at);
            raw.send(first).await;
            tokio::task::yield_now().await;
            raw.send(second).await;
            let head = raw.head().await;
            assert!(head.starts_with(status), "{head} to {first:?} and {second:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let clusters = crate::fixture::cluster("http1", &[upstream.address], "");
    let proxy = Proxy::start("{ cluster: up, match: { path: /only } }", &clusters).await;
    for (head, status) in [
        ("POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n", "HTTP/1.1 404"),
        ("POST /only HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 8388608\r\n\r\n", "HTTP/1.1 400"),
        ("POST /only HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n", "HTTP/1.1 400"),
    ] {
        let mut raw = Raw::connect(proxy.address).await;
        raw.send(head).await;
        raw.send(vec![b'x'; 8 << 20]).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(status), "{answer:?} to {head:?}");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nb: {}\r\n\r\n", "c".repeat(70_000));
    refused(431, &[&large]).await;
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "b: c\r\n".repeat(101));
    refused(431, &[&many]).await;
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_is_refused_after_it() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    let bad = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc{bad}GET /never HTTP/1.1\r\n")).await;
    let (first, body) = raw.response().await;
    assert!(first.starts_with("http/1.1 200"), "{first}");
    assert_eq!(body, "200");
    assert!(raw.rest().await.starts_with("HTTP/1.1 400"));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn one_connection_carries_many_requests_also_at_once() {
    let upstream = Upstream::scripted(&[Step::Status(200), Step::Status(201), Step::Status(204)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert!(raw.response().await.0.starts_with("http/1.1 200"));
    raw.send("1\r\nx\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.response().await.0.starts_with("http/1.1 201"));
    assert!(raw.head().await.starts_with("HTTP/1.1 204"));
    let paths: Vec<_> = upstream.seen().iter().map(|seen| seen.head.uri.to_string()).collect();
    assert_eq!(paths, ["/1", "/2", "/3"]);
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(head.contains("content-length: 3\r\n"), "{head}");
    assert_eq!(raw.response().await.1, "200");
}

/// An upstream that answers the first request on each connection, and closes when there is a second.
async fn forgetful() -> Upstream {
    Upstream::accept(|mut tcp| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if tcp.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        let _ = tcp.read_u8().await;
    })
    .await
}

#[tokio::test]
async fn envoy_re_09_a_connection_that_went_stale_costs_no_idempotent_call() {
    let upstream = forgetful().await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    for _ in 0..3 {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.response().await.1, "hello");
    }
    drop(raw);
    let attempts: Vec<_> = proxy.log().await.iter().map(|line| line["attempts"].as_u64()).collect();
    assert_eq!(attempts[0], Some(1));
    assert!(attempts[1..].contains(&Some(2)), "no connection was reused: {attempts:?}");
}

#[tokio::test]
async fn a_connection_that_went_stale_does_fail_a_call_that_may_not_be_repeated() {
    let upstream = forgetful().await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.response().await.1, "hello");
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert!(raw.response().await.0.starts_with("http/1.1 503"));
    drop(raw);
    assert_eq!(proxy.flags().await, ["-", "UC"]);
}
