//! What the proxy answers by itself, and what its access log says about it.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::client::Raw;
use crate::client::call;
use crate::client::connect2;
use crate::client::get;
use crate::client::grpc;
use crate::client::post;
use crate::fixture::Proxy;
use crate::fixture::cluster;
use crate::fixture::nobody;
use crate::fixture::soon;
use crate::fixture::until;
use crate::upstream::Step;
use crate::upstream::Upstream;
use crate::upstream::streamed;

#[tokio::test]
async fn envoy_lr_01_lr_19_without_a_route_the_answer_is_404_or_unimplemented() {
    let (_seat, address) = nobody();
    let proxy = Proxy::start("{ cluster: up, match: { path: /only } }", &cluster("http2", &[address], "")).await;
    let answer = call(proxy.address, get("/other")).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::NOT_FOUND, "no route matches"));
    assert_eq!(answer.field("content-type"), "text/plain; charset=utf-8");

    let answer = call(proxy.address, grpc(&[])).await;
    assert_eq!((answer.status, answer.grpc()), (StatusCode::OK, "12"));
    assert_eq!(answer.field("content-type"), "application/grpc");
    let lines = proxy.log().await;
    assert_eq!(lines[0]["response_flags"], "NR");
    assert_eq!(lines[1]["response_flags"], "NR");
    assert_eq!((&lines[1]["grpc_status"], &lines[1]["response_code"]), (&json!("UNIMPLEMENTED"), &json!(200)));
    assert_eq!((&lines[0]["cluster"], &lines[0]["upstream_host"]), (&Value::Null, &Value::Null));
}

/// envoy_lr_06 and envoy_al_04
#[tokio::test]
async fn a_refused_connection_is_503_or_unavailable_and_says_so() {
    for protocol in ["http1", "http2"] {
        let (_seat, address) = nobody();
        let proxy = Proxy::plain(protocol, address).await;
        let answer = call(proxy.address, get("/")).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.body.to_lowercase().contains("connection refused"), "{}", answer.body);
        let lines = proxy.log().await;
        assert_eq!(
            (&lines[0]["response_code"], &lines[0]["upstream_host"]),
            (&json!(503), &json!(address.to_string()))
        );
        assert_eq!(lines[0]["response_flags"], "UF");
    }
}

#[tokio::test]
async fn without_a_usable_endpoint_the_last_connection_error_is_told() {
    let (_seat, address) = nobody();
    let proxy = Proxy::plain("http2", address).await;
    let first = call(proxy.address, grpc(&[])).await;
    let second = call(proxy.address, grpc(&[])).await;
    for answer in [first, second] {
        assert_eq!((answer.status, answer.grpc()), (StatusCode::OK, "14"));
        assert!(answer.field("grpc-message").to_lowercase().contains("connection refused"), "{answer:?}");
    }
    let flags = proxy.flags().await;
    assert!(flags[1].contains("UH"), "{flags:?}");
}

/// envoy_to_01, and LR: route timeout
#[tokio::test]
async fn a_call_that_takes_too_long_is_504_or_deadline_exceeded() {
    let upstream = Upstream::scripted(&[Step::Hang]).await;
    let proxy = Proxy::start("{ cluster: up, timeout: 100ms }", &cluster("http2", &[upstream.address], "")).await;
    assert_eq!(call(proxy.address, get("/")).await.status, StatusCode::GATEWAY_TIMEOUT);
    // envoy_to_03
    assert_eq!(call(proxy.address, grpc(&[])).await.grpc(), "4");
    // envoy_to_05: the route's timeout caps what the caller asks for.
    assert_eq!(call(proxy.address, grpc(&[("grpc-timeout", "10S")])).await.grpc(), "4");
    assert_eq!(proxy.flags().await, ["UT", "UT", "UT"]);
}

#[tokio::test]
async fn envoy_to_04_a_callers_own_deadline_holds() {
    let upstream = Upstream::scripted(&[Step::Hang]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let answer = call(proxy.address, grpc(&[("grpc-timeout", "100m")])).await;
    assert_eq!((answer.status, answer.grpc()), (StatusCode::OK, "4"));
    assert_eq!(proxy.flags().await, ["UT"]);
}

/// envoy_to_06 says absent; gRPC's own rule, refused, goes first.
#[tokio::test]
async fn a_deadline_that_cannot_be_read_is_refused() {
    let upstream = Upstream::scripted(&[Step::Message(0)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    for value in ["123456789S", "5x", "-1S"] {
        assert_eq!(call(proxy.address, grpc(&[("grpc-timeout", value)])).await.grpc(), "13", "{value}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn envoy_to_12_without_a_timeout_a_call_may_last() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |_| {
        let mut gone = gone.clone();
        async move {
            gone.wait_for(|gone| *gone).await?;
            Ok(http::Response::new(crate::client::full("late")))
        }
    })
    .await;
    let short = Upstream::scripted(&[Step::Hang]).await;
    let clusters = cluster("http1", &[upstream.address], "")
        + ", "
        + &cluster("http1", &[short.address], "").replace("up:", "short:");
    let routes = "{ cluster: short, timeout: 200ms, match: { path: /short } }, { cluster: up, timeout: off }";
    let proxy = Proxy::start(routes, &clusters).await;
    let address = proxy.address;
    let long = tokio::spawn(async move { call(address, get("/")).await });
    assert_eq!(call(proxy.address, get("/short")).await.status, 504);
    go.send_replace(true);
    assert_eq!(soon("the late answer", long).await.expect("no panic").body, "late");
}

#[tokio::test]
async fn an_open_breaker_is_503_or_unavailable_and_says_when_to_come_back() {
    let upstream = Upstream::scripted(&[Step::Status(500)]).await;
    let breaker =
        ", outlier: off, breaker: { failure_rate: 0.5, min_calls: 2, window: 60s, open_for: { start: 30s, max: 60s } }";
    let proxy = Proxy::start("{ cluster: up }", &cluster("http2", &[upstream.address], breaker)).await;
    for _ in 0..2 {
        assert_eq!(call(proxy.address, get("/")).await.status, 500);
    }
    let answer = call(proxy.address, get("/")).await;
    assert_eq!(answer.status, 503);
    let seconds: u64 = answer.field("retry-after").parse().expect("it is a number");
    assert!((1..=31).contains(&seconds), "{seconds}");

    let answer = call(proxy.address, grpc(&[])).await;
    assert_eq!(answer.grpc(), "14");
    assert!(answer.field("grpc-message").contains("breaker"), "{answer:?}");
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(proxy.flags().await, ["-", "-", "UO", "UO"]);
}

#[tokio::test]
async fn envoy_lr_18_more_calls_than_allowed_are_refused() {
    let upstream = Upstream::scripted(&[Step::Hang]).await;
    let limits = ", limits: { max_requests: 1 }";
    let proxy = Proxy::start("{ cluster: up }", &cluster("http2", &[upstream.address], limits)).await;
    let mut first = connect2(proxy.address).await;
    let running = tokio::spawn(first.send_request(grpc(&[])));
    until("the first call", async || (upstream.seen().len() == 1).then_some(())).await;

    let answer = call(proxy.address, grpc(&[])).await;
    assert_eq!((answer.status, answer.grpc()), (StatusCode::OK, "14"));
    assert!(answer.field("grpc-message").contains("in flight"), "{answer:?}");
    assert_eq!(call(proxy.address, get("/")).await.status, 503);
    running.abort();
    drop(first);
    let flags = proxy.flags().await;
    assert_eq!(flags.iter().filter(|flags| *flags == "UO").count(), 2, "{flags:?}");
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_503_uc() {
    let upstream = Upstream::scripted(&[Step::Reset(h2::Reason::INTERNAL_ERROR)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let answer = call(proxy.address, get("/")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("connection termination"), "{}", answer.body);
    assert_eq!(proxy.flags().await, ["UC"]);
}

#[tokio::test]
async fn a_stream_that_is_reset_is_503_ur() {
    let upstream = Upstream::scripted(&[Step::Reset(h2::Reason::INTERNAL_ERROR)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let answer = call(proxy.address, get("/")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("remote reset"), "{}", answer.body);
    // gRPC's own table of reset codes goes before the proxy's.
    assert_eq!(call(proxy.address, grpc(&[])).await.grpc(), "13");
    assert_eq!(proxy.flags().await, ["UR", "UR"]);
}

#[tokio::test]
async fn a_refused_stream_is_tried_once_more_and_then_503_ur() {
    let upstream = Upstream::scripted(&[Step::Reset(h2::Reason::REFUSED_STREAM)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let answer = call(proxy.address, grpc(&[])).await;
    assert_eq!(answer.grpc(), "14");
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(proxy.flags().await, ["UR"]);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_502_upe() {
    let upstream = Upstream::accept(|mut tcp| async move {
        let _ = tcp.read_u8().await;
        let _ = tcp.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    assert_eq!(call(proxy.address, get("/")).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(proxy.flags().await, ["UPE"]);
}

/// An upstream that answers one call with the frames that are sent here.
async fn one_stream() -> (tokio::sync::mpsc::Sender<Result<http_body::Frame<Bytes>, crate::client::Error>>, Upstream) {
    let (frames, stream) = tokio::sync::mpsc::channel(1);
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(stream)));
    let upstream = Upstream::start(move |_| {
        let stream = body.lock().expect("no test panics here").take().expect("there is one call");
        async move { Ok(http::Response::builder().header("content-type", "application/grpc").body(streamed(stream))?) }
    })
    .await;
    (frames, upstream)
}

/// envoy_re_22, and LR: upstream dies after headers were sent
#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for (protocol, flag) in [("http1", "UC"), ("http2", "UR")] {
        let (frames, upstream) = one_stream().await;
        let retry = "{ cluster: up, retry: { on: [5xx, reset] } }";
        let proxy = Proxy::start(retry, &cluster(protocol, &[upstream.address], "")).await;
        let mut client = connect2(proxy.address).await;
        let request = http::Request::get("http://a.test/").version(http::Version::HTTP_2).body(crate::client::empty());
        let response = client.send_request(request.expect("it is a request"));
        frames.send(Ok(http_body::Frame::data(Bytes::from_static(b"some")))).await.expect("somebody reads");
        let mut response = soon("an answer", response).await.expect("there is an answer");
        assert!(soon("data", response.frame()).await.expect("no end").is_ok());

        frames.send(Err(h2::Error::from(h2::Reason::INTERNAL_ERROR).into())).await.expect("somebody reads");
        assert!(soon("the end", response.frame()).await.expect("no end").is_err(), "{protocol}: it looks complete");
        drop((response, client));
        let line = proxy.line().await;
        assert_eq!((&line["response_code"], &line["response_flags"]), (&json!(200), &json!(flag)), "{protocol}");
    }
}

#[tokio::test]
async fn a_grpc_stream_that_breaks_off_ends_with_a_status() {
    let (frames, upstream) = one_stream().await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let mut client = connect2(proxy.address).await;
    let response = client.send_request(grpc(&[]));
    frames.send(Ok(http_body::Frame::data(Bytes::from_static(&[0; 5])))).await.expect("somebody reads");
    let mut response = soon("an answer", response).await.expect("there is an answer");
    assert!(soon("data", response.frame()).await.expect("no end").is_ok());
    frames.send(Err(h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM).into())).await.expect("somebody reads");
    let trailers = soon("the end", response.frame()).await.expect("trailers").expect("no error").into_trailers();
    // gRPC: ENHANCE_YOUR_CALM is RESOURCE_EXHAUSTED.
    assert_eq!(trailers.expect("trailers")["grpc-status"], "8");
}

/// envoy_al_05
#[tokio::test]
async fn a_client_that_goes_away_is_logged_with_no_code() {
    let upstream = Upstream::scripted(&[Step::Hang]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the call", async || (upstream.seen().len() == 1).then_some(())).await;
    drop(raw);
    let line = proxy.line().await;
    assert_eq!((&line["response_code"], &line["response_flags"]), (&json!(0), &json!("DC")));
    assert_eq!(line["response_duration"], Value::Null);
}

#[tokio::test]
async fn a_client_that_goes_away_in_mid_upload_is_logged_as_that() {
    for (protocol, body) in [
        ("http1", "Content-Length: 9\r\n\r\nabc"),
        ("http2", "Content-Length: 9\r\n\r\nabc"),
        ("http2", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    ] {
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let upstream = Upstream::start(move |request: http::Request<hyper::body::Incoming>| {
            let begun = begun.clone();
            async move {
                begun.send(())?;
                request.into_body().collect().await?;
                Ok(http::Response::new(crate::client::full("never")))
            }
        })
        .await;
        let outlier = ", outlier: { consecutive_failures: 1 }, breaker: { min_calls: 1, failure_rate: 0.1 }";
        let proxy = Proxy::start("{ cluster: up }", &cluster(protocol, &[upstream.address], outlier)).await;
        let mut raw = Raw::connect(proxy.address).await;
        raw.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{body}")).await;
        soon("the call", begins.recv()).await;
        drop(raw);
        let line = proxy.line().await;
        assert_eq!((&line["response_code"], &line["response_flags"]), (&json!(0), &json!("DC")), "{protocol} {body:?}");
        assert_eq!(line["attempts"], 1);
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_not_the_upstreams_fault() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::scripted(&[Step::Status(200)]).await;
        let outlier = ", outlier: { consecutive_failures: 1 }, breaker: { min_calls: 1, failure_rate: 0.1 }";
        let proxy = Proxy::start("{ cluster: up }", &cluster(protocol, &[upstream.address], outlier)).await;
        let mut raw = Raw::connect(proxy.address).await;
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n").await;
        assert!(raw.rest().await.starts_with("HTTP/1.1 400"), "{protocol}");
        assert_eq!(call(proxy.address, get("/")).await.status, 200, "{protocol}");
        assert_eq!(proxy.flags().await, ["DPE", "-"], "{protocol}");
    }
}

/// envoy_al_01 and envoy_al_03
#[tokio::test]
async fn a_line_has_these_keys_in_this_order() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let mut raw = Raw::connect(proxy.address).await;
    raw.send("POST /a?b=c HTTP/1.1\r\nHost: a.test\r\nUser-Agent: u\"\\\r\nX-Request-Id: id\r\nContent-Length: 5\r\n\r\nhello").await;
    raw.response().await;
    drop(raw);
    let mut line = proxy.line().await;
    let start = line["start_time"].as_str().unwrap_or_default().to_owned();
    assert!(start.len() == 24 && start.ends_with('Z') && &start[19..20] == ".", "{start}");
    for number in ["duration", "response_duration"] {
        assert!(line[number].is_u64(), "{line}");
    }
    let client = line["downstream_remote_address"].as_str().unwrap_or_default();
    assert!(client.starts_with("127.0.0.1:"), "{client}");
    for unknown in ["downstream_remote_address", "duration", "response_duration", "start_time"] {
        line[unknown] = json!("?");
    }
    let expected = json!({
        "attempts": 1, "authority": "a.test", "bytes_received": 5, "bytes_sent": 3, "cluster": "up",
        "downstream_remote_address": "?", "duration": "?", "grpc_status": null, "method": "POST",
        "path": "/a?b=c", "protocol": "HTTP/1.1", "request_id": "id", "response_code": 200,
        "response_duration": "?", "response_flags": "-", "start_time": "?",
        "upstream_host": upstream.address.to_string(), "user_agent": "u\"\\",
    });
    assert_eq!(line, expected);
}

#[tokio::test]
async fn the_keys_of_a_line_are_sorted() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let mut proxy = Proxy::plain("http1", upstream.address).await;
    call(proxy.address, get("/")).await;
    soon("the drain", proxy.running().shutdown()).await;
    let text = proxy.log_text();
    let keys: Vec<_> = text.split(",\"").map(|part| part.trim_start_matches("{\"").split('"').next()).collect();
    assert!(keys.is_sorted() && keys.len() == 18, "{keys:?}");
}

/// envoy_al_07
#[tokio::test]
async fn a_grpc_status_is_read_from_the_trailers() {
    let upstream = Upstream::scripted(&[Step::Message(14)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    assert_eq!(call(proxy.address, grpc(&[])).await.grpc(), "14");
    let line = proxy.line().await;
    assert_eq!((&line["grpc_status"], &line["response_code"]), (&json!("UNAVAILABLE"), &json!(200)));
    assert_eq!((&line["response_flags"], &line["protocol"]), (&json!("-"), &json!("HTTP/2")));
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&json!(5), &json!(5)));
}

#[tokio::test]
async fn an_upstreams_own_timeout_is_its_answer() {
    let upstream = Upstream::scripted(&[Step::Status(504)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    assert_eq!(call(proxy.address, get("/")).await.status, 504);
    assert_eq!(proxy.flags().await, ["-"]);
}

/// envoy_al_10
#[tokio::test]
async fn a_stream_is_logged_once_when_it_has_ended() {
    let (frames, upstream) = one_stream().await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let mut client = connect2(proxy.address).await;
    let mut response = client.send_request(grpc(&[])).await.expect("there is an answer");
    for _ in 0..3 {
        frames.send(Ok(http_body::Frame::data(Bytes::from_static(b"1234")))).await.expect("the stream is open");
        assert!(soon("data", response.frame()).await.is_some());
    }
    assert_eq!(proxy.log_text(), "");
    drop(frames);
    while soon("the end", response.frame()).await.is_some() {}
    drop(client);
    let line = proxy.line().await;
    assert_eq!(line["bytes_sent"], 12);
}

#[tokio::test]
async fn a_post_to_a_dead_endpoint_is_not_sent_twice() {
    let upstream = Upstream::scripted(&[Step::Reset(h2::Reason::CANCEL)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    assert_eq!(call(proxy.address, post("/", crate::client::full("x"))).await.status, 503);
    assert_eq!(upstream.seen().len(), 1);
}
