//! Deadlines and attempt timeouts.

use std::time::Duration;

use mainstay::RejectionKind;
use mainstay::context;
use mainstay::guard::Retrier;
use mainstay::guard::RetrierConfig;
use mainstay::layer::DeadlineLayer;
use mainstay::layer::RespondLayer;
use mainstay::layer::TimeoutLayer;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use mainstay::time::now;
use tower::ServiceBuilder;
use tower::service_fn;
use tower_layer::Layer;

use crate::kit::*;

fn timed(timeout: &'static str) -> http::Request<Plain> {
    request(http::Method::POST, &[("content-type", "application/grpc"), ("grpc-timeout", timeout)], "question")
}

async fn expires(service: &mut (impl Caller + ?Sized), request: http::Request<Plain>) -> Duration {
    let began = now();
    let error = service.error(request).await;
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    now().duration_since(began)
}

/// A service in a test that expects an error.
trait Caller {
    fn error(&mut self, request: http::Request<Plain>) -> impl Future<Output = mainstay::BoxError>;
}

impl<S, R> Caller for S
where
    S: tower_service::Service<http::Request<Plain>, Response = http::Response<R>>,
    S::Error: Into<mainstay::BoxError>,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<mainstay::BoxError>,
{
    async fn error(&mut self, request: http::Request<Plain>) -> mainstay::BoxError {
        match call(self, request).await {
            Err(error) => error,
            Ok(response) => read(response).await.expect_err("it was to fail"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_03_no_time_at_all_ends_at_once_without_the_handler() {
    for timeout in ["0n", "0S", "00000000H"] {
        let peer = Peer::new([]);
        let mut server = RespondLayer::new().layer(DeadlineLayer::server().layer(peer.clone()));
        let response = call(&mut server, timed(timeout)).await.unwrap();
        assert_eq!((grpc_status(response.headers()), peer.running()), (Some(4), 0), "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_02_a_malformed_timeout_is_refused_without_the_handler() {
    let peer = Peer::new([]);
    let mut server = RespondLayer::new().layer(DeadlineLayer::server().layer(peer.clone()));
    let response = call(&mut server, timed("+5S")).await.unwrap();
    assert_eq!(grpc_status(response.headers()), Some(13));
    assert_eq!(response.headers()["grpc-message"], "malformed grpc-timeout");
    assert_eq!(peer.running(), 0);
}

/// Also resilience T1 and T2: exactly then, and the inner future is gone.
#[tokio::test(start_paused = true)]
async fn grpc_dl_07_a_peer_that_never_answers_ends_at_the_deadline() {
    let peer = Peer::new([]);
    let mut client = DeadlineLayer::new(ms(200)).layer(peer.clone());
    assert_eq!(expires(&mut client, grpc_request()).await, ms(200));
    assert_eq!((peer.calls(), peer.running()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_08_a_body_that_falls_silent_ends_at_the_deadline() {
    use http_body_util::BodyExt;
    let peer = Peer::replies([grpc_body([Step::Data("one"), Step::Hang])]);
    let mut client = DeadlineLayer::new(ms(200)).layer(peer.clone());
    let began = now();
    let mut body = call(&mut client, grpc_request()).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    let error = body.frame().await.unwrap().expect_err("the deadline");
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    assert_eq!((now().duration_since(began), peer.running()), (ms(200), 0));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_09_a_handler_that_streams_for_ever_is_dropped_at_the_callers_deadline() {
    let endless = (0..1000).flat_map(|_| [Step::Wait(ms(50)), Step::Data("tick ")]);
    let peer = Peer::replies([grpc_body(endless)]);
    let mut server = RespondLayer::new().layer(DeadlineLayer::server().layer(peer.clone()));
    let began = now();
    let response = call(&mut server, timed("310m")).await.unwrap();
    let (data, trailers) = read(response).await.unwrap();
    assert_eq!(&data[..], "tick ".repeat(6).as_bytes());
    assert_eq!(grpc_status(&trailers.unwrap()), Some(4));
    assert_eq!((now().duration_since(began), peer.running()), (ms(310), 0));
}

/// Also resilience T8: the status is 4, and the handler is dropped.
#[tokio::test(start_paused = true)]
async fn grpc_dl_10_a_handler_that_blocks_before_its_head_gives_trailers_only() {
    let peer = Peer::new([]);
    let mut server = RespondLayer::new().layer(DeadlineLayer::server().layer(peer.clone()));
    let began = now();
    let response = call(&mut server, timed("300m")).await.unwrap();
    assert_eq!(grpc_status(response.headers()), Some(4));
    assert!(http_body::Body::is_end_stream(response.body()));
    assert_eq!((now().duration_since(began), peer.running()), (ms(300), 0));
}

/// A server B, called with `timeout`, that calls C after `before`, with a timeout of its own. What C was told.
async fn through_a_handler(timeout: &'static str, before: Duration, own: DeadlineLayer) -> Got {
    let c = Peer::replies([grpc_reply(0)]);
    let client = own.layer(c.clone());
    let handler = service_fn(move |_: http::Request<Plain>| {
        let mut client = client.clone();
        async move {
            tokio::time::sleep(before).await;
            call(&mut client, grpc_request()).await
        }
    });
    let mut server = RespondLayer::new().layer(DeadlineLayer::server().layer(handler));
    assert_eq!(answer(&mut server, timed(timeout)).await.unwrap(), (200, Some(0)));
    c.got().remove(0)
}

/// Also resilience T4: the time that is left shrinks with every hop.
#[tokio::test(start_paused = true)]
async fn grpc_dl_12_a_client_in_a_handler_has_what_is_left_of_the_servers_time() {
    let got = through_a_handler("500m", ms(200), DeadlineLayer::inherited()).await;
    assert_eq!(got.timeout(), Some(ms(300)));
    assert!(got.deadline.is_some());
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_14_a_handler_cannot_ask_for_more_than_it_has() {
    let got = through_a_handler("100m", Duration::ZERO, DeadlineLayer::new(secs(10))).await;
    assert_eq!(got.timeout(), Some(ms(100)));
    let got = through_a_handler("10S", Duration::ZERO, DeadlineLayer::new(ms(100))).await;
    assert_eq!(got.timeout(), Some(ms(100)), "but for less");
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_15_the_earliest_of_setting_and_request_holds() {
    for (asked, left) in [("5S", secs(1)), ("500m", ms(500))] {
        let peer = Peer::new([]);
        let mut client = DeadlineLayer::new(secs(1)).layer(peer.clone());
        assert_eq!(expires(&mut client, timed(asked)).await, left);
        assert_eq!(peer.got()[0].timeout(), Some(left));
    }
}

/// Also resilience T7.
#[tokio::test(start_paused = true)]
async fn grpc_dl_17_a_deadline_that_has_passed_opens_no_stream() {
    for request in [grpc_request, get] {
        let peer = Peer::new([]);
        let mut client = DeadlineLayer::new(Duration::ZERO).layer(peer.clone());
        assert_eq!(expires(&mut client, request()).await, Duration::ZERO);
        assert_eq!((peer.calls(), peer.running()), (0, 0));
    }
    let peer = Peer::new([]);
    let mut client = DeadlineLayer::inherited().layer(peer.clone());
    let past = context::current().with_deadline(now());
    past.scope(async { assert_eq!(expires(&mut client, get()).await, Duration::ZERO) }).await;
    assert_eq!(peer.calls(), 0, "HTTP has no grpc-timeout, but inherits all the same");
}

fn retrier(wait: Duration) -> Retrier {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: wait }, jitter: Jitter::None };
    let retry = RetryConfig {
        on: [Condition::Unavailable, Condition::Timeout].into(),
        backoff,
        wait_past_deadline: true,
        ..RetryConfig::default()
    };
    Retrier::new("retrier", RetrierConfig { retry, ..RetrierConfig::default() }).expect("it is valid")
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_18_the_second_attempt_has_less_time_than_the_first() {
    let peer = Peer::new([Act::After(ms(50), trailers_only(14)), Act::Reply(grpc_reply(0))]);
    let mut client =
        ServiceBuilder::new().layer(DeadlineLayer::new(secs(1))).layer(retrier(ms(30)).layer()).service(peer.clone());
    assert_eq!(answer(&mut client, grpc_request()).await.unwrap(), (200, Some(0)));
    let timeouts: Vec<_> = peer.got().iter().map(|got| got.timeout().unwrap()).collect();
    assert_eq!(timeouts, [secs(1), ms(920)]);
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_19_a_wait_for_another_attempt_ends_at_the_deadline() {
    let peer = Peer::replies([trailers_only(14)]);
    let mut client =
        ServiceBuilder::new().layer(DeadlineLayer::new(ms(200))).layer(retrier(secs(10)).layer()).service(peer.clone());
    assert_eq!(expires(&mut client, grpc_request()).await, ms(200));
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn grpc_dl_20_the_longest_duration_is_no_deadline_and_no_header() {
    let layers = [
        DeadlineLayer::new(Duration::MAX),
        DeadlineLayer::new(Duration::from_secs(u64::MAX)),
        DeadlineLayer::inherited(),
    ];
    for layer in layers {
        let peer = Peer::replies([grpc_reply(0)]);
        assert_eq!(answer(&mut layer.layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(0)));
        assert_eq!((peer.got()[0].timeout(), peer.got()[0].deadline), (None, None));
    }
    let peer = Peer::replies([grpc_reply(0)]);
    let mut server = DeadlineLayer::server().layer(peer.clone());
    assert_eq!(answer(&mut server, timed("99999999H")).await.unwrap(), (200, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_server_bounds_callers_who_ask_for_too_much_or_nothing() {
    for request in [timed("1H"), grpc_request(), get()] {
        let mut server = DeadlineLayer::server().timeout(secs(30)).layer(Peer::new([]));
        assert_eq!(expires(&mut server, request).await, secs(30));
    }
}

/// Only a client tells its peer how much time is left, and only in gRPC.
#[tokio::test(start_paused = true)]
async fn a_server_and_an_http_client_write_no_header() {
    let peer = Peer::replies([http_reply(204, ""), grpc_reply(0)]);
    answer(&mut DeadlineLayer::new(secs(1)).layer(peer.clone()), get()).await.unwrap();
    let server = DeadlineLayer::server().timeout(secs(1));
    answer(&mut server.layer(peer.clone()), grpc_request()).await.unwrap();
    assert!(peer.got().iter().all(|got| got.header("grpc-timeout").is_none()));
}

/// resilience T1 and T2, for one attempt.
#[tokio::test(start_paused = true)]
async fn resilience_t1_t2_an_attempt_ends_exactly_at_its_timeout_and_is_dropped() {
    let peer = Peer::new([]);
    let mut client = TimeoutLayer::new(ms(10)).named("orders").layer(peer.clone());
    assert_eq!(expires(&mut client, get()).await, ms(10));
    assert_eq!(peer.running(), 0);
    let mut slow = TimeoutLayer::new(ms(10)).layer(Peer::replies([grpc_body([
        Step::Wait(secs(5)),
        Step::Data("late"),
        Step::Trailers(trailers(0)),
    ])]));
    assert_eq!(answer(&mut slow, grpc_request()).await.unwrap(), (200, Some(0)), "the body is not its business");
    let mut unbounded = TimeoutLayer::new(Duration::MAX).layer(Peer::new([Act::After(secs(86_400), grpc_reply(0))]));
    assert_eq!(answer(&mut unbounded, grpc_request()).await.unwrap(), (200, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn resilience_t3_the_deadline_spans_all_attempts_and_their_timeouts() {
    let peer = Peer::new([]);
    let mut client = ServiceBuilder::new()
        .layer(DeadlineLayer::new(ms(250)))
        .layer(retrier(ms(10)).layer())
        .layer(TimeoutLayer::new(ms(100)))
        .service(peer.clone());
    assert_eq!(expires(&mut client, get()).await, ms(250));
    let starts: Vec<_> = peer.got().iter().map(|got| got.at).collect();
    assert_eq!(starts, [ms(0), ms(110), ms(220)]);
    assert_eq!(peer.running(), 0);
}
