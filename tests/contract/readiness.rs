//! Points 1 and 4: `poll_ready` asks the inner service only, and a clone is not ready.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use mainstay::BoxError;
use tower_service::Service;
use tower_test::mock::Handle;

use crate::Errors;
use crate::kit::*;

pub(crate) async fn asks_the_inner_service<S, R, B>(
    mut service: S,
    mut handle: Handle<Request<B>, Reply>,
    ledger: &Ledger,
    errors: Errors,
) where
    S: Service<Request<Plain>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    handle.allow(0);
    assert!(poll_ready(&mut service).await.is_pending(), "the inner service is not ready");
    handle.allow(1);
    for _ in 0..100 {
        assert!(matches!(poll_ready(&mut service).await, Poll::Ready(Ok(()))));
    }
    assert_eq!(ledger.admitted(), 0, "readiness admits nobody");

    // A service that was ready and never called holds nothing back: another one may use every place there is.
    let mut other = service.clone();
    handle.allow(1);
    assert!(matches!(poll_ready(&mut other).await, Poll::Ready(Ok(()))));
    let future = other.call(grpc_request());
    let (_, send) = handle.next_request().await.expect("it reached the inner service");
    send.send_response(grpc_reply(0));
    let response = future.await.map_err(Into::into).expect("a response").map(boxed);
    read(response).await.expect("a whole body");
    assert_eq!(ledger.only(), mainstay::Outcome::Success);

    // What the inner service says instead of getting ready is heard: as an error, or as the answer to the next call.
    handle.send_error("out of order");
    let said = poll_ready(&mut other).await;
    match (errors, said) {
        (Errors::Passed, Poll::Ready(Err(error))) => assert_eq!(error.to_string(), "out of order"),
        (Errors::Answered, Poll::Ready(Ok(()))) => {
            let response = other.call(grpc_request()).await.map_err(Into::into).expect("an answer");
            assert_eq!(grpc_status(response.headers()), Some(2));
        }
        (_, other) => panic!("{other:?}"),
    }
}

pub(crate) async fn is_not_cloned<S, R, B>(mut service: S, mut handle: Handle<Request<B>, Reply>)
where
    S: Service<Request<Plain>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
{
    handle.allow(1);
    assert!(matches!(poll_ready(&mut service).await, Poll::Ready(Ok(()))));
    let mut clone = service.clone();
    handle.allow(0);
    assert!(poll_ready(&mut clone).await.is_pending(), "a clone starts without readiness");
    // The original keeps it, and may be called: the mock would panic.
    let future = service.call(grpc_request());
    handle.next_request().await.expect("it reached the inner service");
    drop(future);
}

fn boxed<R>(body: R) -> AnyBody
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    use http_body_util::BodyExt;
    body.map_err(Into::into).boxed_unsync()
}

async fn poll_ready<S>(service: &mut S) -> Poll<Result<(), BoxError>>
where
    S: Service<Request<Plain>>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| Poll::Ready(service.poll_ready(cx).map_err(Into::into))).await
}
