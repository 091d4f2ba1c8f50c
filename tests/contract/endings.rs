//! Points 3 and 6: every way in which a call can end, settled exactly once, with nothing left behind.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use mainstay::BoxError;
use mainstay::Failure;
use mainstay::Outcome;
use tower_service::Service;
use tower_test::mock::Handle;

use crate::Errors;
use crate::kit::*;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// The inner service fails.
    Error,
    /// The body ends with its trailers.
    Trailers,
    /// The trailers say that the call failed.
    FailedTrailers,
    /// The body ends without trailers.
    EndOfBody,
    /// The body breaks off.
    BodyError,
    /// There is no body and no status.
    EmptyBody,
    /// There is no body; the head has the status.
    TrailersOnly,
    /// An HTTP answer whose body is empty from the start.
    EmptyHttp,
    /// The caller drops the future before it was polled.
    BeforeFirstPoll,
    /// The caller drops the future while it waits.
    WhilePending,
    /// The caller drops the response without reading.
    UnreadBody,
    /// The caller drops the body after its first frame.
    MidBody,
}

pub(crate) const ALL: [Way; 12] = [
    Way::Error,
    Way::Trailers,
    Way::FailedTrailers,
    Way::EndOfBody,
    Way::BodyError,
    Way::EmptyBody,
    Way::TrailersOnly,
    Way::EmptyHttp,
    Way::BeforeFirstPoll,
    Way::WhilePending,
    Way::UnreadBody,
    Way::MidBody,
];

impl Way {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Trailers | Self::EmptyHttp => Outcome::Success,
            Self::Error | Self::BodyError => Outcome::Failure(Failure::Reset),
            Self::FailedTrailers | Self::TrailersOnly => Outcome::Failure(Failure::Server),
            Self::EndOfBody | Self::EmptyBody => Outcome::Failure(Failure::Protocol),
            Self::BeforeFirstPoll | Self::WhilePending | Self::UnreadBody | Self::MidBody => Outcome::Cancelled,
        }
    }

    /// Whether there is an error that may become an answer on its way up.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::BodyError)
    }

    fn reply(self) -> Reply {
        match self {
            Self::FailedTrailers => grpc_reply(13),
            Self::EndOfBody => grpc_body([Step::Data("message")]),
            Self::BodyError => grpc_body([Step::Data("message"), Step::Error("broken off".into())]),
            Self::EmptyBody => grpc_body([]),
            Self::TrailersOnly => trailers_only(13),
            Self::EmptyHttp => http_reply(204, ""),
            _ => grpc_reply(0),
        }
    }
}

pub(crate) async fn run<S, R, B>(way: Way, mut service: S, mut handle: Handle<Request<B>, Reply>, errors: Errors)
where
    S: Service<Request<Plain>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Unpin,
    R::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into).expect("it is ready");
    let request = if way == Way::EmptyHttp { get() } else { grpc_request() };
    let mut future = pin!(Some(service.call(request)));
    let (_, send) = handle.next_request().await.expect("it reached the inner service");
    if way == Way::BeforeFirstPoll {
        return future.set(None);
    }
    let mut running = future.as_mut().as_pin_mut().expect("it is there");
    assert!(poll_once(running.as_mut()).await.is_pending(), "{way:?}");
    if way == Way::WhilePending {
        return future.set(None);
    }
    if way == Way::Error {
        send.send_error("broken");
        let result = running.await.map_err(Into::into);
        assert_eq!(result.is_err(), errors == Errors::Passed);
        return;
    }
    send.send_response(way.reply());
    let response = running.await.map_err(Into::into).expect("a response");
    let mut body = response.into_body();
    if way == Way::UnreadBody {
        return drop(body);
    }
    let first = body.frame().await;
    if way == Way::MidBody {
        assert!(first.is_some_and(|frame| frame.is_ok_and(|frame| frame.is_data())));
        return drop(body);
    }
    while let Some(Ok(_)) = body.frame().await {}
}

/// Calls, and drops at every stage: outside of a call there is no task, and no inner future that lives on.
pub(crate) async fn leaves_nothing<S, R>(mut service: S, peer: &Peer)
where
    S: Service<Request<Plain>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Unpin,
    R::Error: Into<BoxError>,
{
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    peer.then(Act::Hang);
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into).expect("it is ready");
    let mut future = Box::pin(service.call(grpc_request()));
    assert!(poll_once(future.as_mut()).await.is_pending());
    assert_eq!((tasks(), peer.running()), (0, 1), "no layer spawns");
    drop(future);
    assert_eq!(peer.running(), 0, "the attempt went with its future");

    peer.then(Act::Reply(grpc_body([Step::Data("message"), Step::Hang])));
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into).expect("it is ready again");
    let mut body = service.call(grpc_request()).await.map_err(Into::into).expect("a response").into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    assert!(poll_once(pin!(body.frame())).await.is_pending());
    assert_eq!((tasks(), peer.running()), (0, 1), "no layer spawns");
    drop(body);
    assert_eq!(peer.running(), 0, "the stream went with its body");
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into).expect("it is ready again");
}
