//! What the proxy tries again, how often, and what it says when it does not.

use http::Method;
use http::Request;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use crate::client::Answer;
use crate::client::call;
use crate::client::empty;
use crate::client::full;
use crate::client::get;
use crate::client::grpc;
use crate::client::post;
use crate::fixture::Proxy;
use crate::fixture::cluster;
use crate::fixture::nobody;
use crate::fixture::soon;
use crate::fixture::until;
use crate::metrics::Metrics;
use crate::upstream::Step;
use crate::upstream::Step::Grpc;
use crate::upstream::Step::Hang;
use crate::upstream::Step::Late;
use crate::upstream::Step::Message;
use crate::upstream::Step::Reset;
use crate::upstream::Step::Status;
use crate::upstream::Upstream;

/// One route with this retry policy, whose waits are short, to one upstream.
async fn retrying(protocol: &str, policy: &str, steps: &[Step]) -> (Proxy, Upstream) {
    let upstream = Upstream::scripted(steps).await;
    let route = format!("{{ cluster: up, retry: {{ {policy}, backoff: {{ base: 1ms, max: 2ms }} }} }}");
    let proxy = Proxy::start(&route, &cluster(protocol, &[upstream.address], ", outlier: off")).await;
    (proxy, upstream)
}

/// Makes one call: the answer, how many requests came, and the line of the log.
async fn one(
    protocol: &str,
    policy: &str,
    steps: &[Step],
    request: Request<crate::client::Body>,
) -> (Answer, usize, Value) {
    let (proxy, upstream) = retrying(protocol, policy, steps).await;
    let answer = call(proxy.address, request).await;
    (answer, upstream.seen().len(), proxy.line().await)
}

/// envoy_re_01 and envoy_al_09
#[tokio::test]
async fn the_third_attempt_helps() {
    let steps = [Status(503), Status(503), Status(200)];
    let (proxy, upstream) = retrying("http1", "on: [5xx], max_attempts: 4", &steps).await;
    let answer = call(proxy.address, get("/a?b")).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "200"));
    let paths: Vec<_> = upstream.seen().iter().map(|seen| seen.head.uri.to_string()).collect();
    assert_eq!(paths, ["/a?b"; 3]);
    let metrics = Metrics::of(&proxy).await;
    assert_eq!(metrics.sum("mainstay_retries_total"), 2.0);
    assert_eq!(metrics.sum("mainstay_calls_total"), 1.0);
    assert_eq!(metrics.sum("mainstay_attempts_total"), 3.0);
    let line = proxy.line().await;
    assert_eq!((&line["attempts"], &line["response_flags"]), (&json!(3), &json!("-")));
}

#[tokio::test]
async fn envoy_re_02_the_last_failure_is_passed_on_as_it_is() {
    let (proxy, upstream) = retrying("http1", "on: [5xx], max_attempts: 4", &[Status(503)]).await;
    let answer = call(proxy.address, get("/")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body, upstream.seen().len()), (503, "503", 4));
    assert_eq!(Metrics::of(&proxy).await.sum("mainstay_retries_exhausted_total"), 1.0);
    assert_eq!(proxy.line().await["response_flags"], "URX");
}

#[tokio::test]
async fn envoy_re_03_a_500_is_no_gateway_error() {
    let (answer, attempts, line) = one("http1", "on: [gateway-error]", &[Status(500), Status(200)], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts, &line["response_flags"]), (500, 1, &json!("-")));
}

#[tokio::test]
async fn envoy_re_04_a_reset_is_a_gateway_error() {
    for protocol in ["http1", "http2"] {
        let steps = [Reset(h2::Reason::INTERNAL_ERROR), Status(200)];
        let (answer, attempts, line) = one(protocol, "on: [gateway-error]", &steps, get("/")).await;
        assert_eq!((answer.status.as_u16(), attempts, &line["attempts"]), (200, 2, &json!(2)), "{protocol}");
    }
}

#[tokio::test]
async fn envoy_re_05_another_endpoint_is_tried_after_a_refused_connection() {
    for protocol in ["http1", "http2"] {
        let (_seat, dead) = nobody();
        let upstream = Upstream::scripted(&[Status(200)]).await;
        let retry = "{ cluster: up, retry: { on: [connect-failure], backoff: { base: 1ms } } }";
        let proxy = Proxy::start(retry, &cluster(protocol, &[dead, upstream.address], "")).await;
        for _ in 0..10 {
            assert_eq!(call(proxy.address, get("/")).await.status, 200, "{protocol}");
        }
        let lines = proxy.log().await;
        let attempts: u64 = lines.iter().filter_map(|line| line["attempts"].as_u64()).sum();
        assert!(attempts > 10, "the dead one was never tried");
        assert!(lines.iter().all(|line| line["upstream_host"] == upstream.address.to_string()));
    }
}

#[tokio::test]
async fn envoy_re_06_a_409_may_be_tried_again_and_a_404_not() {
    let (answer, attempts, _) = one("http1", "on: [retriable-4xx]", &[Status(409), Status(200)], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts), (200, 2));
    let (answer, attempts, _) = one("http1", "on: [retriable-4xx]", &[Status(404), Status(200)], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts), (404, 1));
}

#[tokio::test]
async fn envoy_re_07_a_status_may_be_named() {
    let (answer, attempts, _) = one("http1", "on: ['429']", &[Status(429), Status(200)], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts), (200, 2));
}

/// envoy_re_10 and envoy_re_11
#[tokio::test]
async fn a_post_is_tried_again_only_where_it_is_named() {
    let steps = [Status(503), Status(200)];
    let (answer, attempts, _) = one("http1", "on: [5xx]", &steps, post("/other", full("x"))).await;
    assert_eq!((answer.status.as_u16(), attempts), (503, 1));

    let (proxy, upstream) = retrying("http1", "on: [5xx], methods: [POST]", &steps).await;
    assert_eq!(call(proxy.address, post("/pay", full("body"))).await.status, 200);
    let bodies: Vec<_> = upstream.seen().iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, ["body", "body"]);
}

#[tokio::test]
async fn envoy_re_12_a_status_in_the_head_is_tried_again() {
    let (answer, attempts, line) = one("http2", "on: [unavailable]", &[Grpc(14), Message(0)], grpc(&[])).await;
    assert_eq!((answer.grpc(), attempts, &line["grpc_status"]), ("0", 2, &json!("OK")));
    let (answer, attempts, _) = one("http2", "on: [unavailable]", &[Grpc(5), Message(0)], grpc(&[])).await;
    assert_eq!((answer.grpc(), attempts), ("5", 1));
}

#[tokio::test]
async fn envoy_re_13_so_is_a_status_in_the_trailers_right_behind_the_head() {
    let (answer, attempts, _) = one("http2", "on: [unavailable]", &[Late(14), Message(0)], grpc(&[])).await;
    assert_eq!((answer.grpc(), attempts), ("0", 2));
    // Behind a message it is too late.
    let (answer, attempts, _) = one("http2", "on: [unavailable]", &[Message(14), Message(0)], grpc(&[])).await;
    assert_eq!((answer.grpc(), attempts), ("14", 1));
}

#[tokio::test]
async fn envoy_re_14_only_so_many_retries_run_at_once() {
    // Every call fails once; its retry hangs until all have come.
    let (go, gone) = tokio::sync::watch::channel(false);
    let (count, counted) = tokio::sync::watch::channel((0, 0));
    let count = std::sync::Arc::new(count);
    let upstream = Upstream::start(move |request| {
        let (mut gone, count) = (gone.clone(), count.clone());
        async move {
            let again = request.headers().contains_key("grpc-previous-rpc-attempts");
            count.send_modify(|(first, later)| if again { *later += 1 } else { *first += 1 });
            if again {
                gone.wait_for(|gone| *gone).await?;
            }
            let response = http::Response::builder().header("content-type", "application/grpc");
            Ok(response.header("grpc-status", "14").body(empty())?)
        }
    })
    .await;
    let more = ", outlier: off, budget: off, limits: { max_retries: 3 }";
    let retry = "{ cluster: up, retry: { on: [unavailable], max_attempts: 2, backoff: { base: 1ms } } }";
    let proxy = Proxy::start(retry, &cluster("http2", &[upstream.address], more)).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        calls.spawn(call(proxy.address, grpc(&[])));
    }
    // All that get no retry are over, the others wait.
    for _ in 0..17 {
        soon("a call", calls.join_next()).await.expect("there are 20").expect("no panic");
    }
    until("the retries", async || (*counted.borrow() == (20, 3)).then_some(())).await;
    go.send_replace(true);
    while let Some(answer) = soon("a call", calls.join_next()).await {
        assert_eq!(answer.expect("no panic").grpc(), "14");
    }
    assert_eq!(*counted.borrow(), (20, 3));
    let metrics = Metrics::of(&proxy).await;
    assert_eq!(metrics.sum("mainstay_retry_overflow_total"), 17.0);
    assert_eq!(metrics.sum("mainstay_retries_total"), 3.0);
    let flags = proxy.flags().await;
    assert_eq!(flags.iter().filter(|flags| *flags == "UO").count(), 17, "{flags:?}");
    assert_eq!(flags.iter().filter(|flags| *flags == "URX").count(), 3, "{flags:?}");
}

#[tokio::test]
async fn a_spent_budget_says_so() {
    let upstream = Upstream::scripted(&[Status(503)]).await;
    let more = ", outlier: off, budget: { ratio: 0, min_per_second: 0 }";
    let proxy =
        Proxy::start("{ cluster: up, retry: { on: [5xx] } }", &cluster("http1", &[upstream.address], more)).await;
    let answer = call(proxy.address, get("/")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body, upstream.seen().len()), (503, "503", 1));
    assert_eq!(Metrics::of(&proxy).await.sum("mainstay_retry_overflow_total"), 1.0);
    assert_eq!(proxy.line().await["response_flags"], "UO");
}

/// The limit is 64 KiB if nothing is said.
#[tokio::test]
async fn envoy_re_19_a_body_is_kept_up_to_a_limit() {
    let put = |bytes: usize| {
        let request = Request::builder().method(Method::PUT).uri("/").header("host", "a");
        request.body(full(vec![b'x'; bytes])).expect("it is a request")
    };
    let steps = [Status(503), Status(200)];
    for (policy, kept, lost) in [("on: [5xx]", 60_000, 70_000), ("on: [5xx], buffer: 1MiB", 900_000, 1_100_000)] {
        let (proxy, upstream) = retrying("http1", policy, &steps).await;
        assert_eq!(call(proxy.address, put(kept)).await.status, 200);
        assert_eq!(upstream.seen()[1].body.len(), kept);

        let (answer, attempts, _) = one("http1", policy, &steps, put(lost)).await;
        assert_eq!((answer.status.as_u16(), &*answer.body, attempts), (503, "503", 1));
    }
}

/// Envoy waits for its timeout; a wait that cannot end in time is not begun here.
#[tokio::test]
async fn envoy_re_20_no_wait_outlasts_the_timeout() {
    let upstream = Upstream::scripted(&[Status(503)]).await;
    // The pushback makes the wait certain; a back-off is random.
    let pushing = Upstream::start(|_| async {
        Ok(http::Response::builder().status(503).header("retry-after", "3").body(full("busy"))?)
    })
    .await;
    let route =
        "{ cluster: up, timeout: 1s, retry: { on: [5xx], max_attempts: 100, backoff: { base: 1ms, max: 1ms } } }";
    let proxy = Proxy::start(route, &cluster("http1", &[pushing.address], "")).await;
    let answer = call(proxy.address, get("/")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (503, "busy"));
    assert_eq!(proxy.line().await["attempts"], 1);
    drop(upstream);
}

/// envoy_to_08
#[tokio::test]
async fn a_slow_attempt_is_given_up_and_tried_again() {
    for on in ["5xx", "timeout", "reset"] {
        let policy = format!("on: [{on}], per_try_timeout: 50ms");
        let (answer, attempts, line) = one("http1", &policy, &[Hang], get("/")).await;
        assert_eq!((answer.status.as_u16(), attempts), (504, 3), "{on}");
        assert_eq!(line["response_flags"], "URX,UT", "{on}");
    }
    let (answer, attempts, _) = one("http1", "on: [5xx], per_try_timeout: 50ms", &[Hang, Status(200)], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts), (200, 2));
    let policy = "on: [deadline-exceeded], per_try_timeout: 50ms";
    let (answer, attempts, line) = one("http2", policy, &[Hang], grpc(&[])).await;
    assert_eq!((answer.grpc(), attempts, &line["response_flags"]), ("4", 3, &json!("URX,UT")));
}

#[tokio::test]
async fn envoy_to_09_a_slow_attempt_is_no_connection_failure() {
    let (answer, attempts, line) =
        one("http1", "on: [connect-failure], per_try_timeout: 50ms", &[Hang], get("/")).await;
    assert_eq!((answer.status.as_u16(), attempts, &line["response_flags"]), (504, 1, &json!("UT")));
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_without_a_policy() {
    let upstream = Upstream::scripted(&[Reset(h2::Reason::REFUSED_STREAM), Message(0)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    assert_eq!(call(proxy.address, grpc(&[])).await.grpc(), "0");
    assert_eq!(Metrics::of(&proxy).await.sum("mainstay_transparent_retries_total"), 1.0);
    assert_eq!(proxy.line().await["attempts"], 2);
}
