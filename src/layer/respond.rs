//! Turns errors into answers, at the edge.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::header::CONTENT_TYPE;
use http::header::RETRY_AFTER;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::error::TransportError;
use crate::layer::catch_panic::Panicked;
use crate::outcome::Failure;
use crate::protocol::Code;
use crate::protocol::headers::is_grpc;
use crate::protocol::status::GRPC_MESSAGE;
use crate::protocol::status::GRPC_STATUS;
use crate::protocol::status::encode_message;

/// Answers calls that failed in the layers below, so that nothing above sees an error.
///
/// A gRPC caller gets a status: trailers-only if there was no response yet, trailers if the body broke off. An HTTP
/// caller gets a status and one line of text; a body that breaks off stays broken, since HTTP has no other word for it.
/// [`Rejection::retry_after`] becomes `grpc-retry-pushback-ms` or `Retry-After`.
///
/// | error | HTTP | gRPC |
/// |---|---|---|
/// | `BreakerOpen`, `NoEndpoint`, `ShuttingDown` | 503 | UNAVAILABLE |
/// | `Overloaded` | 503 | RESOURCE_EXHAUSTED, or as set by [`overloaded`](Self::overloaded) |
/// | `RateLimited` | 429 | RESOURCE_EXHAUSTED |
/// | `DeadlineExceeded` | 504 | DEADLINE_EXCEEDED |
/// | `DeadlineMalformed`, `RequestBroken` | 400 | INTERNAL |
/// | transport: protocol error | 502 | INTERNAL, or by the code of the reset |
/// | transport: anything else | 503 | UNAVAILABLE, or by the code of the reset |
/// | a panic ([`CatchPanicLayer`](crate::layer::CatchPanicLayer)) | 500 | INTERNAL |
/// | any other error, whose text is kept from the caller | 500 | UNKNOWN |
///
/// # Examples
/// ```
/// use mainstay::layer::RespondLayer;
///
/// let layer = RespondLayer::new();
/// # let _ = layer;
/// ```
///
/// For a client or a proxy, where too many calls to a target mean that another target may do (gRFC A32):
/// ```
/// use mainstay::layer::RespondLayer;
/// use mainstay::protocol::Code;
///
/// let layer = RespondLayer::new().overloaded(Code::Unavailable);
/// # let _ = layer;
/// ```
///
/// # Cancel safety
/// Dropping the future or the body drops the inner one.
#[derive(Clone, Copy, Debug)]
pub struct RespondLayer {
    overloaded: Code,
}

impl Default for RespondLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl RespondLayer {
    /// Answers as the table says.
    #[must_use]
    pub fn new() -> Self {
        Self { overloaded: Code::ResourceExhausted }
    }

    /// Sets the gRPC status for `Overloaded`.
    #[must_use]
    pub fn overloaded(mut self, code: Code) -> Self {
        self.overloaded = code;
        self
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Respond { inner, layer: *self, unready: None }
    }
}

/// A service that answers instead of failing. Made by [`RespondLayer`].
#[derive(Debug)]
pub struct Respond<S> {
    inner: S,
    layer: RespondLayer,
    /// What the inner service said instead of getting ready; the next call is answered with it.
    unready: Option<BoxError>,
}

impl<S: Clone> Clone for Respond<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer, unready: None }
    }
}

impl<S, B, R> Service<Request<B>> for Respond<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<RespondBody<R>>;
    type Error = Infallible;
    type Future = RespondFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if let Err(error) = ready!(self.inner.poll_ready(cx)) {
            self.unready = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grpc = is_grpc(request.headers());
        let call = match self.unready.take() {
            Some(error) => Call::Failed { error: Some(error) },
            None => Call::Running { inner: self.inner.call(request) },
        };
        RespondFuture { call, grpc, layer: self.layer }
    }
}

pin_project! {
    /// The future of a call that is answered in any case.
    #[derive(Debug)]
    pub struct RespondFuture<F> {
        #[pin]
        call: Call<F>,
        grpc: bool,
        layer: RespondLayer,
    }
}

pin_project! {
    #[project = CallProjection]
    #[derive(Debug)]
    enum Call<F> {
        Running { #[pin] inner: F },
        Failed { error: Option<BoxError> },
    }
}

impl<F, R, E> Future for RespondFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RespondBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let layer = *this.layer;
        let result = match this.call.project() {
            CallProjection::Running { inner } => ready!(inner.poll(cx)).map_err(Into::into),
            CallProjection::Failed { error } => Err(error.take().expect("polled once more after it was ready")),
        };
        let response = match result {
            Ok(response) => {
                let grpc = *this.grpc;
                response.map(|inner| RespondBody { source: Source::Inner { inner: Some(inner), grpc, layer } })
            }
            Err(error) => layer.answer(*this.grpc, &*error),
        };
        Poll::Ready(Ok(response))
    }
}

/// What an error becomes.
struct Answer {
    http: StatusCode,
    grpc: Code,
    message: String,
    retry_after: Option<Duration>,
}

/// Answers a call that goes no further, in the words of its protocol.
#[cfg(feature = "proxy")]
pub(crate) fn reply<R>(grpc: bool, http: StatusCode, code: Code, message: &str) -> Response<RespondBody<R>> {
    Answer { http, grpc: code, message: message.to_owned(), retry_after: None }.into_response(grpc)
}

impl RespondLayer {
    fn answer<R>(self, grpc: bool, error: &(dyn Error + 'static)) -> Response<RespondBody<R>> {
        Answer::to(error, self.overloaded).into_response(grpc)
    }
}

impl Answer {
    fn into_response<R>(self, grpc: bool) -> Response<RespondBody<R>> {
        let answer = self;
        let mut response = Response::new(RespondBody { source: Source::Text { text: None } });
        if grpc {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            answer.write_grpc(response.headers_mut());
            return response;
        }
        *response.status_mut() = answer.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.message.len()));
        if let Some(after) = answer.retry_after {
            // Whole seconds, and never sooner than was asked for (RFC 9110, 10.2.3).
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.body_mut().source = Source::Text { text: Some(answer.message.into()) };
        response
    }
}

impl Answer {
    fn to(error: &(dyn Error + 'static), overloaded: Code) -> Self {
        let message = chain(error);
        if let Some(rejection) = Rejection::find(error) {
            let (http, grpc) = refused(rejection.kind(), overloaded);
            return Self { http, grpc, message, retry_after: rejection.retry_after() };
        }
        if error.is::<Panicked>() {
            return Self { http: StatusCode::INTERNAL_SERVER_ERROR, grpc: Code::Internal, message, retry_after: None };
        }
        if let Some(transport) = TransportError::find(error) {
            let (http, grpc) = broken(transport);
            return Self { http, grpc, message, retry_after: None };
        }
        // Whatever it is, its text was not written for callers.
        let message = "internal error".to_owned();
        Self { http: StatusCode::INTERNAL_SERVER_ERROR, grpc: Code::Unknown, message, retry_after: None }
    }

    fn write_grpc(&self, headers: &mut HeaderMap) {
        headers.insert(&GRPC_STATUS, HeaderValue::from_static(self.grpc.digits()));
        if let Ok(message) = HeaderValue::from_str(&encode_message(&self.message)) {
            headers.insert(&GRPC_MESSAGE, message);
        }
        if let Some(after) = self.retry_after {
            let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            headers.insert(PUSHBACK, HeaderValue::from(milliseconds));
        }
    }
}

fn refused(kind: RejectionKind, overloaded: Code) -> (StatusCode, Code) {
    match kind {
        RejectionKind::BreakerOpen | RejectionKind::NoEndpoint | RejectionKind::ShuttingDown => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable)
        }
        RejectionKind::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
        RejectionKind::DeadlineMalformed | RejectionKind::RequestBroken => (StatusCode::BAD_REQUEST, Code::Internal),
        RejectionKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, overloaded),
        RejectionKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
    }
}

fn broken(transport: &TransportError) -> (StatusCode, Code) {
    let by_reset = transport.reset().map(Code::from_reset);
    match transport.failure() {
        Failure::Protocol => (StatusCode::BAD_GATEWAY, by_reset.unwrap_or(Code::Internal)),
        _ => (StatusCode::SERVICE_UNAVAILABLE, by_reset.unwrap_or(Code::Unavailable)),
    }
}

/// One line with the error and all that led to it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !line.ends_with(&cause_text) {
            let _ = write!(line, ": {cause_text}");
        }
        next = cause.source();
    }
    line
}

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

pin_project! {
    /// The body of an answer: the inner service's, or ours.
    #[derive(Debug)]
    pub struct RespondBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = SourceProjection]
    #[derive(Debug)]
    enum Source<B> {
        // Gone once it broke off.
        Inner { #[pin] inner: Option<B>, grpc: bool, layer: RespondLayer },
        Text { text: Option<Bytes> },
    }
}

impl<B> Body for RespondBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().source.project() {
            SourceProjection::Text { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            SourceProjection::Inner { mut inner, grpc, layer } => {
                let Some(body) = inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
                let error = match ready!(body.poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Some(Err(error)) => error.into(),
                };
                inner.set(None);
                if !*grpc {
                    return Poll::Ready(Some(Err(error)));
                }
                let mut trailers = HeaderMap::new();
                Answer::to(&*error, layer.overloaded).write_grpc(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { inner, .. } => inner.as_ref().is_none_or(Body::is_end_stream),
            Source::Text { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { inner, .. } => inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint),
            Source::Text { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
