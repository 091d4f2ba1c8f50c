//! The admin pages, draining, and starting.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::process::Stdio;

use http::Method;
use http::Request;
use mainstay::Config;
use mainstay::proxy;
use mainstay::telemetry::stats;
use tokio::net::TcpStream;

use crate::client::Raw;
use crate::client::call;
use crate::client::collect;
use crate::client::connect2;
use crate::client::empty;
use crate::client::get;
use crate::client::grpc;
use crate::fixture::Proxy;
use crate::fixture::cluster;
use crate::fixture::soon;
use crate::fixture::temporary;
use crate::fixture::until;
use crate::metrics::Metrics;
use crate::upstream::Step;
use crate::upstream::Upstream;

#[tokio::test]
async fn the_pages_are_there_and_nothing_else() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let answer = call(proxy.admin, get("/ready")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, "ready\n"));
    assert_eq!(call(proxy.admin, get("/other")).await.status, 404);
    assert_eq!(call(proxy.admin, get("/")).await.status, 200);
    let post = Request::builder().method(Method::POST).uri("/ready").header("host", "a").body(empty());
    assert_eq!(call(proxy.admin, post.expect("it is a request")).await.status, 405);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_config_page_is_the_document_in_force() {
    let document = "{ admin: 127.0.0.1:0, listeners: { in: { bind: 127.0.0.1:0, routes: [{ cluster: up }] } }, \
                    clusters: { up: { endpoints: ['127.0.0.1:1'], breaker: on } } }";
    let config = Config::parse(document, "test", &|_| None).expect("it is valid");
    let running = proxy::start(config.clone()).await.expect("it starts");
    let answer = call(running.admin().expect("there are admin pages"), get("/config")).await;
    assert_eq!(answer.field("content-type"), "application/json");
    let shown = Config::parse(&answer.body, "page", &|_| None).expect("it is a document");
    assert_eq!(shown, config.effective());
    assert!(answer.body.contains("\"balance\": \"round_robin\""), "{}", answer.body);
}

/// envoy_st_01, st_03 and st_05, with the names of this crate
#[tokio::test]
async fn the_metrics_are_complete_and_right() {
    use Step::Status;
    let mut steps = vec![Status(200); 20];
    steps.extend([Status(503), Status(503), Status(200), Status(404), Step::Hang]);
    let upstream = Upstream::scripted(&steps).await;
    let route = "{ cluster: up, timeout: 200ms, retry: { on: ['503'], backoff: { base: 1ms } } }";
    let more = ", outlier: off, breaker: { min_calls: 1000 }";
    let proxy = Proxy::start(route, &cluster("http1", &[upstream.address], more)).await;
    let before = Metrics::of(&proxy).await;
    assert_eq!(before.sum("mainstay_calls_total"), 0.0);
    for expected in [200; 21].into_iter().chain([404, 504]) {
        assert_eq!(call(proxy.address, get("/")).await.status, expected);
    }
    // What is counted at the end of a body may come a moment after its last byte.
    let after = until("all calls", async || {
        let metrics = Metrics::of(&proxy).await;
        (metrics.sum("mainstay_calls_total") == 23.0).then_some(metrics)
    })
    .await;
    let calls = |labels: &[(&str, &str)]| after.with("mainstay_calls_total", labels);
    assert_eq!(
        calls(&[("cluster", "up"), ("route", "ingress/0"), ("http_status", "2xx"), ("outcome", "success")]),
        21.0
    );
    assert_eq!(calls(&[("http_status", "4xx"), ("outcome", "success"), ("grpc_status", "")]), 1.0);
    assert_eq!(calls(&[("outcome", "failure_timeout")]) + calls(&[("outcome", "timeout")]), 1.0, "{}", after.text);
    assert_eq!(after.sum("mainstay_attempts_total"), 25.0);
    assert_eq!(after.with("mainstay_attempts_total", &[("http_status", "5xx")]), 2.0);
    assert_eq!(after.sum("mainstay_retries_total"), 2.0);
    assert_eq!(after.sum("mainstay_call_duration_seconds_count"), 23.0);
    assert_eq!(after.sum("mainstay_calls_in_flight") + after.sum("mainstay_attempts_in_flight"), 0.0);
    let endpoint = [("cluster", "up"), ("endpoint", &*upstream.address.to_string())];
    assert_eq!(after.with("mainstay_endpoint_usable", &endpoint), 1.0);
    assert_eq!(after.with("mainstay_breaker_state", &endpoint), 0.0);
    assert_eq!(after.sum("mainstay_endpoints"), 1.0);
    assert!(after.sum("mainstay_connections_total") >= 1.0);

    for (name, help) in stats::HELP {
        let there = after.names().any(|found| found == name || found.strip_suffix("_count") == Some(name));
        assert!(there, "{name} is missing");
        assert!(after.text.contains(&format!("# HELP {name} {help}\n")), "{name} has no help");
        assert_eq!(after.text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}");
    }
    promtool(&after.text);
}

/// Has Prometheus' own tool read a scrape, where it is installed.
fn promtool(text: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("SKIPPED: promtool is not installed, so nobody but us has read the metrics");
        return;
    };
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_| {
        let (mut gone, begun) = (gone.clone(), begun.clone());
        async move {
            begun.send(())?;
            gone.wait_for(|gone| *gone).await?;
            let response = http::Response::builder().header("content-type", "application/grpc");
            Ok(response.header("grpc-status", "0").body(empty())?)
        }
    })
    .await;
    let mut proxy = Proxy::plain("http2", upstream.address).await;
    let running = proxy.running();
    let mut second = connect2(proxy.address).await;
    let call2 = tokio::spawn(second.send_request(grpc(&[])));
    let mut first = Raw::connect(proxy.address).await;
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let idle1 = Raw::connect(proxy.address).await;
    let idle2 = connect2(proxy.address).await;
    for _ in 0..2 {
        soon("the calls", begins.recv()).await;
    }
    let shutdown = tokio::spawn(running.shutdown());

    until("readiness to turn", async || {
        let answer = call(proxy.admin, get("/ready")).await;
        (answer.status == 503).then(|| assert_eq!(answer.body, "draining\n"))
    })
    .await;
    assert_eq!(idle1.rest().await, "", "an idle connection is closed");
    until("GOAWAY for an idle one", async || idle2.is_closed().then_some(())).await;
    until("the port to close", async || TcpStream::connect(proxy.address).await.is_err().then_some(())).await;
    // GOAWAY: the running call goes on, another one is not begun.
    until("GOAWAY", async || second.send_request(grpc(&[])).await.is_err().then_some(())).await;
    assert!(!shutdown.is_finished() && !call2.is_finished());

    go.send_replace(true);
    let answer = soon("the running call", call2).await.expect("no panic").expect("an answer");
    assert_eq!(collect(answer).await.grpc(), "0");
    let head = first.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
    soon("the end", shutdown).await.expect("no panic");
    assert!(begins.try_recv().is_err(), "a call was begun after GOAWAY");
}

async fn refused(document: &str) -> String {
    let config = Config::parse(document, "test", &|_| None).expect("it is valid");
    proxy::start(config).await.expect_err("it cannot start").to_string()
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_listener() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let clusters = "clusters: { up: { endpoints: ['127.0.0.1:1'] } }";
    let listener =
        format!("{{ listeners: {{ front: {{ bind: '{address}', routes: [{{ cluster: up }}] }} }}, {clusters} }}");
    let error = refused(&listener).await;
    assert!(error.starts_with(&format!("listener `front` cannot listen on {address}: ")), "{error}");

    let admin = format!(
        "{{ admin: '{address}', listeners: {{ a: {{ bind: '127.0.0.1:0', routes: [{{ cluster: up }}] }} }}, {clusters} }}"
    );
    let error = refused(&admin).await;
    assert!(error.starts_with(&format!("admin cannot listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn a_port_of_another_proxy_is_in_use_too() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http1", upstream.address).await;
    let document = format!(
        "{{ listeners: {{ front: {{ bind: '{}', routes: [{{ cluster: up }}] }} }}, clusters: {{ up: {{ endpoints: ['127.0.0.1:1'] }} }} }}",
        proxy.address
    );
    let error = refused(&document).await;
    assert!(error.starts_with("listener `front` cannot listen on "), "{error}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_named() {
    let path = temporary("directory").join("log");
    let document = format!(
        "{{ access_log: {{ path: {path:?} }}, listeners: {{ a: {{ bind: '127.0.0.1:0', routes: [{{ cluster: up }}] }} }}, \
         clusters: {{ up: {{ endpoints: ['127.0.0.1:1'] }} }} }}"
    );
    let error = refused(&document).await;
    assert!(error.starts_with(&format!("cannot write the access log {}: ", path.display())), "{error}");
}

/// envoy_al_11
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_costs_lines_and_no_calls() {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let document = format!(
        "{{ admin: '127.0.0.1:0', access_log: {{ path: /dev/full }}, \
         listeners: {{ a: {{ bind: '127.0.0.1:0', routes: [{{ cluster: up }}] }} }}, clusters: {{ {} }} }}",
        cluster("http1", &[upstream.address], "")
    );
    let config = Config::parse(&document, "test", &|_| None).expect("it is valid");
    let running = proxy::start(config).await.expect("it starts");
    let listener = running.listener("a").expect("it is there");
    for _ in 0..3 {
        assert_eq!(call(listener, get("/")).await.status, 200);
    }
    let admin = running.admin().expect("it is there");
    until("the lost lines", async || {
        let text = call(admin, get("/metrics")).await.body;
        text.contains("mainstay_access_log_dropped_total 3\n").then_some(())
    })
    .await;
    soon("the end", running.shutdown()).await;
}
