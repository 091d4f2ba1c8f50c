//! The retry through its layer: gRPC's rules (gRFC A6).

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body::Frame;
use mainstay::Failure;
use mainstay::RejectionKind;
use mainstay::TransportError;
use mainstay::layer::DeadlineLayer;
use mainstay::outcome::Reach;
use mainstay::policy::BackoffConfig;
use mainstay::policy::Condition;
use mainstay::policy::Jitter;
use mainstay::policy::RetryConfig;
use mainstay::policy::Schedule;
use mainstay::time::now;
use tokio::sync::mpsc;
use tower_layer::Layer;
use tower_service::Service;

use crate::kit::*;
use crate::retry::config;
use crate::retry::retrier;

fn previous(peer: &Peer) -> Vec<Option<String>> {
    peer.got().iter().map(|got| got.header("grpc-previous-rpc-attempts").map(str::to_owned)).collect()
}

/// Plays replies to one call under a policy; what the caller got, and the peer.
async fn play(policy: RetryConfig, acts: impl IntoIterator<Item = Act>) -> (Result<u8, mainstay::BoxError>, Peer) {
    let peer = Peer::new(acts);
    let mut service = retrier(policy).0.layer().layer(peer.clone());
    let result = answer(&mut service, grpc_request()).await.map(|(_, grpc)| grpc.expect("a status"));
    (result, peer)
}

fn refused() -> Act {
    Act::Error(TransportError::new(Failure::Reset, Reach::Unprocessed, "refused").with_reset(7).into())
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_01_the_third_attempt_succeeds_and_each_says_its_number() {
    let (result, peer) =
        play(config(), [14, 14].map(trailers_only).into_iter().chain([grpc_reply(0)]).map(Act::Reply)).await;
    assert_eq!(result.unwrap(), 0);
    assert_eq!(previous(&peer), [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_02_after_as_many_attempts_as_are_allowed_the_status_is_the_callers() {
    let policy = RetryConfig { max_attempts: 4, ..config() };
    let (result, peer) = play(policy, (0..9).map(|_| Act::Reply(trailers_only(14)))).await;
    assert_eq!((result.unwrap(), peer.calls()), (14, 4));
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_04_a_status_that_is_not_listed_is_the_callers() {
    let (result, peer) = play(config(), [Act::Reply(trailers_only(13))]).await;
    assert_eq!((result.unwrap(), peer.calls()), (13, 1));
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_05_a_head_commits_the_call() {
    for reply in [grpc_reply(14), grpc_body([Step::Trailers(trailers(14))])] {
        let (result, peer) = play(config(), [Act::Reply(reply)]).await;
        assert_eq!((result.unwrap(), peer.calls()), (14, 1));
    }
}

/// Unless trailers that are there with the head may be looked at.
#[tokio::test(start_paused = true)]
async fn envoy_re_13_trailers_right_behind_the_head_are_repeated_if_they_may_be_peeked_at() {
    let (retrier, _) = retrier(config());
    let layer = retrier.layer().peek_trailers();
    let early = || grpc_body([Step::Trailers(trailers(14))]);
    let peer = Peer::replies([early(), grpc_reply(0)]);
    assert_eq!(answer(&mut layer.layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(0)));
    assert_eq!(peer.calls(), 2);
    // What comes after data, or later than the head, is committed all the same.
    for reply in [grpc_reply(14), grpc_body([Step::Wait(ms(1)), Step::Trailers(trailers(14))])] {
        let peer = Peer::replies([reply]);
        assert_eq!(answer(&mut layer.layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(14)));
        assert_eq!(peer.calls(), 1);
    }
    // And what was looked at in vain is handed on whole.
    let peer = Peer::replies([early(), early(), early()]);
    assert_eq!(answer(&mut layer.layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(14)));
    assert_eq!(peer.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_07_a_pushback_is_kept_to_the_millisecond() {
    let replies = [with(trailers_only(14), &[("grpc-retry-pushback-ms", "50")]), grpc_reply(0)];
    let (result, peer) = play(config(), replies.map(Act::Reply)).await;
    assert_eq!((result.unwrap(), peer.got()[1].at), (0, ms(50)));
}

/// RT-09 and RT-11: nobody who says no is asked again, and a pushback does not make a status retryable.
#[tokio::test(start_paused = true)]
async fn grpc_rt_09_rt_11_a_pushback_stops_and_never_starts_a_retry() {
    for (code, pushback) in [(14, "-1"), (14, "abc"), (14, "+5"), (13, "50"), (5, "0")] {
        let reply = with(trailers_only(code), &[("grpc-retry-pushback-ms", pushback)]);
        let (result, peer) = play(config(), [Act::Reply(reply)]).await;
        assert_eq!((result.unwrap(), peer.calls()), (code, 1), "{code} {pushback}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_12_a_refused_stream_is_repeated_without_a_policy_and_without_a_header() {
    let (retrier, recorder) = retrier(RetryConfig::default());
    let before = retrier.balance(now()).unwrap();
    let peer = Peer::new([refused(), Act::Reply(grpc_reply(5))]);
    assert_eq!(answer(&mut retrier.layer().layer(peer.clone()), grpc_request()).await.unwrap(), (200, Some(5)));
    assert_eq!(previous(&peer), [None, None]);
    assert_eq!(recorder.take(), ["scheduled 1 reset transparent 0ns"]);
    assert!(retrier.balance(now()).unwrap() >= before, "the budget pays nothing");
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_13_a_second_refusal_is_the_callers() {
    let (result, peer) = play(RetryConfig::default(), [refused(), refused()]).await;
    let error = result.expect_err("refused twice");
    assert_eq!(TransportError::find(&*error).and_then(TransportError::reset), Some(7));
    assert_eq!(peer.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_14_a_refusal_is_not_counted_among_the_attempts() {
    let policy = RetryConfig { max_attempts: 2, ..config() };
    let acts = [refused(), Act::Reply(trailers_only(14)), Act::Reply(grpc_reply(0))];
    let (result, peer) = play(policy, acts).await;
    assert_eq!(result.unwrap(), 0);
    assert_eq!(previous(&peer), [None, None, Some("1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_16_a_connection_that_dies_is_repeated_under_a_policy_only() {
    let died = || Act::Error(TransportError::new(Failure::Reset, Reach::Processed, "connection reset").into());
    let (result, peer) = play(config(), [died(), Act::Reply(grpc_reply(0))]).await;
    assert_eq!((result.unwrap(), peer.calls()), (0, 2));
    let (result, peer) = play(RetryConfig::default(), [died()]).await;
    assert!(result.is_err());
    assert_eq!(peer.calls(), 1);
}

fn large(size: usize) -> Request<Plain> {
    let mut request = grpc_request();
    *request.body_mut() = Plain::from(vec![b'x'; size]);
    request
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_19_rt_20_a_request_within_the_buffer_is_repeated_and_a_larger_one_is_not() {
    let (retrier, _) = retrier(config());
    let layer = retrier.layer().buffer(256 * 1024);
    let peer = Peer::replies([trailers_only(14)]);
    assert_eq!(answer(&mut layer.layer(peer.clone()), large(300 * 1024)).await.unwrap(), (200, Some(14)));
    assert_eq!((peer.calls(), peer.got()[0].body.len()), (1, 300 * 1024));

    let peer = Peer::replies([trailers_only(14), trailers_only(14), grpc_reply(0)]);
    assert_eq!(answer(&mut layer.layer(peer.clone()), large(200 * 1024)).await.unwrap(), (200, Some(0)));
    assert_eq!(peer.calls(), 3);
    assert!(peer.got().windows(2).all(|pair| pair[0].body == pair[1].body));
}

/// A request body that the test feeds.
struct Fed(mpsc::UnboundedReceiver<&'static str>);

impl Body for Fed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

/// RT-21 and RT-22: a peer that fails before it reads, while the request is still being written.
#[tokio::test(start_paused = true)]
async fn grpc_rt_21_rt_22_messages_old_and_new_arrive_once_and_in_order() {
    use http_body_util::BodyExt;
    // The first attempt reads one message and fails; the second reads all there is.
    let attempts = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = attempts.clone();
    let peer = tower::service_fn(move |request: Request<mainstay::protocol::Replay<Fed>>| {
        let seen = seen.clone();
        async move {
            let first = seen.lock().unwrap().is_empty();
            let mut body = request.into_body();
            if first {
                let frame = body.frame().await.expect("a message").expect("it is whole");
                seen.lock().unwrap().push(vec![frame.into_data().expect("data")]);
                return Ok::<_, std::io::Error>(trailers_only(14));
            }
            seen.lock().unwrap().push(Vec::new());
            while let Some(frame) = body.frame().await {
                let data = frame.expect("it is whole").into_data().expect("data");
                seen.lock().unwrap().last_mut().expect("it was pushed").push(data);
            }
            Ok(grpc_reply(0))
        }
    });
    let (send, receive) = mpsc::unbounded_channel();
    let mut service = retrier(config()).0.layer().layer(peer);
    let (head, _) = grpc_request().into_parts();
    let mut future = Box::pin(service.call(Request::from_parts(head, Fed(receive))));
    send.send("one").unwrap();
    assert!(poll_once(future.as_mut()).await.is_pending());
    tokio::time::advance(ms(10)).await;
    assert!(poll_once(future.as_mut()).await.is_pending());
    send.send("two").unwrap();
    assert!(poll_once(future.as_mut()).await.is_pending());
    send.send("three").unwrap();
    drop(send);
    assert_eq!(future.await.unwrap().status(), 200);
    assert_eq!(*attempts.lock().unwrap(), [vec!["one"], vec!["one", "two", "three"]]);
}

fn slow_backoff() -> RetryConfig {
    let backoff = BackoffConfig { schedule: Schedule::Constant { delay: secs(1) }, jitter: Jitter::None };
    RetryConfig { backoff, wait_past_deadline: true, ..config() }
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_23_the_deadline_ends_a_wait() {
    let peer = Peer::replies([trailers_only(14)]);
    let mut service = DeadlineLayer::new(ms(60)).layer(retrier(slow_backoff()).0.layer().layer(peer.clone()));
    let began = now();
    let error = call(&mut service, grpc_request()).await.expect_err("the deadline");
    assert_eq!(rejection(&error).kind(), RejectionKind::DeadlineExceeded);
    assert_eq!((now().duration_since(began), peer.calls()), (ms(60), 1));
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_24_a_cancelled_wait_leaves_nothing() {
    let (retrier, recorder) = retrier(slow_backoff());
    let peer = Peer::replies([trailers_only(14)]);
    let mut service = retrier.layer().layer(peer.clone());
    let mut future = Box::pin(service.call(grpc_request()));
    assert!(poll_once(future.as_mut()).await.is_pending());
    drop(future);
    tokio::time::advance(secs(5)).await;
    assert_eq!((peer.calls(), retrier.running()), (1, 0));
    assert_eq!(recorder.take().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_25_an_ok_without_a_body_is_the_callers() {
    let (result, peer) = play(config(), [Act::Reply(trailers_only(0))]).await;
    assert_eq!((result.unwrap(), peer.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_29_an_http_error_is_judged_as_grpc_does() {
    let html = with(http_reply(503, "<html>"), &[("content-type", "text/html")]);
    let (result, peer) = play(config(), [Act::Reply(html), Act::Reply(grpc_reply(0))]).await;
    assert_eq!((result.unwrap(), peer.calls()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_32_each_attempt_has_less_time() {
    let replies = [14, 14].map(trailers_only).into_iter().chain([grpc_reply(0)]);
    let peer = Peer::replies(replies);
    let mut service = DeadlineLayer::new(secs(1)).layer(retrier(config()).0.layer().layer(peer.clone()));
    answer(&mut service, grpc_request()).await.unwrap();
    let timeouts: Vec<_> = peer.got().iter().map(|got| got.timeout().unwrap()).collect();
    assert_eq!(timeouts, [secs(1), ms(990), ms(980)]);
}

#[tokio::test(start_paused = true)]
async fn grpc_rt_33_metadata_is_the_same_on_every_attempt_and_the_count_is_ours() {
    let peer = Peer::new([refused(), Act::Reply(trailers_only(14)), Act::Reply(grpc_reply(0))]);
    let mut request = grpc_request();
    request.headers_mut().extend(headers(&[("x-id", "7"), ("grpc-previous-rpc-attempts", "99")]));
    answer(&mut retrier(config()).0.layer().layer(peer.clone()), request).await.unwrap();
    assert_eq!(previous(&peer), [None, None, Some("1".to_owned())]);
    assert!(peer.got().iter().all(|got| got.header("x-id") == Some("7") && got.header("te") == Some("trailers")));
}

/// What gRPC 14 means to the policy, when it comes without an answer of the peer.
#[tokio::test(start_paused = true)]
async fn a_timeout_of_one_attempt_is_repeated_as_deadline_exceeded() {
    let policy = RetryConfig { on: [Condition::DeadlineExceeded].into(), ..config() };
    let peer = Peer::new([Act::Hang, Act::Reply(grpc_reply(0))]);
    let inner = mainstay::layer::TimeoutLayer::new(ms(100)).layer(peer.clone());
    let mut service = retrier(policy).0.layer().layer(inner);
    assert_eq!(answer(&mut service, grpc_request()).await.unwrap(), (200, Some(0)));
    assert_eq!(peer.got().iter().map(|got| got.at).collect::<Vec<Duration>>(), [ms(0), ms(110)]);
}
