//! What the tests of layers share: scripted bodies and peers, a guard that counts, an observer that remembers.

#![allow(dead_code)] // each test binary uses a part of it

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http_body::Body;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use mainstay::BoxError;
use mainstay::Event;
use mainstay::Observer;
use mainstay::Outcome;
use mainstay::Rejection;
use mainstay::Scope;
use mainstay::event::Span;
use mainstay::guard::Admit;
use mainstay::guard::Settle;
use mainstay::time::Instant;
use mainstay::time::now;
use tokio::time::Sleep;
use tower_service::Service;

pub(crate) type Plain = Full<Bytes>;
pub(crate) type Reply = Response<Script>;
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

/// What a scripted body does when it is polled.
#[derive(Debug)]
pub(crate) enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    Error(BoxError),
    Wait(Duration),
    /// Never goes on.
    Hang,
}

/// A body that plays a script. Without steps it is over from the start.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    alive: Option<Alive>,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Data(text)) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text))))),
                Some(Step::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Step::Error(error)) => return Poll::Ready(Some(Err(error))),
                Some(Step::Wait(time)) => self.sleep = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Hang) => {
                    self.steps.push_front(Step::Hang);
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }
}

/// Counts what is alive of something that is dropped in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census(Arc<AtomicUsize>);

#[derive(Debug)]
pub(crate) struct Alive(Census);

impl Census {
    pub(crate) fn enter(&self) -> Alive {
        self.0.fetch_add(1, Ordering::Relaxed);
        Alive(self.clone())
    }

    pub(crate) fn alive(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let name = |name: &str| HeaderName::try_from(name).expect("a name");
    pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_str(value).expect("a value"))).collect()
}

pub(crate) fn trailers(code: u8) -> HeaderMap {
    headers(&[("grpc-status", &code.to_string())])
}

/// A gRPC response with one message, and this status in its trailers.
pub(crate) fn grpc_reply(code: u8) -> Reply {
    grpc_body([Step::Data("message"), Step::Trailers(trailers(code))])
}

pub(crate) fn grpc_body(steps: impl IntoIterator<Item = Step>) -> Reply {
    let mut reply = Response::new(Script::new(steps));
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    reply
}

/// A gRPC response without a body: the status is in the head.
pub(crate) fn trailers_only(code: u8) -> Reply {
    with(grpc_body([]), &[("grpc-status", &code.to_string())])
}

pub(crate) fn http_reply(status: u16, text: &'static str) -> Reply {
    let steps = (!text.is_empty()).then_some(Step::Data(text));
    let mut reply = Response::new(Script::new(steps));
    *reply.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    reply
}

pub(crate) fn with(mut reply: Reply, pairs: &[(&str, &str)]) -> Reply {
    reply.headers_mut().extend(headers(pairs));
    reply
}

pub(crate) fn grpc_request() -> Request<Plain> {
    request(Method::POST, &[("content-type", "application/grpc"), ("te", "trailers")], "question")
}

pub(crate) fn get() -> Request<Plain> {
    request(Method::GET, &[], "")
}

pub(crate) fn post() -> Request<Plain> {
    request(Method::POST, &[], "question")
}

pub(crate) fn request(method: Method, pairs: &[(&str, &str)], body: &'static str) -> Request<Plain> {
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static("http://peer/package.Service/Method");
    *request.headers_mut() = headers(pairs);
    request
}

/// What a scripted peer does with a request.
pub(crate) enum Act {
    Reply(Reply),
    After(Duration, Reply),
    Error(BoxError),
    ErrorAfter(Duration, BoxError),
    Hang,
    Panic,
}

/// A request as a scripted peer got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) deadline: Option<Instant>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The `grpc-timeout` that the peer was told.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        mainstay::protocol::grpc_timeout::from_headers(&self.headers).expect("well-formed")
    }
}

/// A service that reads each request to its end and then plays the next act of its script; after the last it hangs.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Stage>);

struct Stage {
    script: Mutex<VecDeque<Act>>,
    got: Mutex<Vec<Got>>,
    began: Instant,
    running: Census,
}

impl Peer {
    pub(crate) fn new(script: impl IntoIterator<Item = Act>) -> Self {
        let script = Mutex::new(script.into_iter().collect());
        Self(Arc::new(Stage { script, got: Mutex::default(), began: now(), running: Census::default() }))
    }

    pub(crate) fn replies(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::new(replies.into_iter().map(Act::Reply))
    }

    pub(crate) fn then(&self, act: Act) {
        self.0.script.lock().unwrap().push_back(act);
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.0.got.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.got.lock().unwrap().len()
    }

    /// How many futures and bodies of this peer are alive.
    pub(crate) fn running(&self) -> usize {
        self.0.running.alive()
    }
}

impl<B> Service<Request<B>> for Peer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let stage = self.0.clone();
        let act = stage.script.lock().unwrap().pop_front().unwrap_or(Act::Hang);
        let alive = stage.running.enter();
        let deadline = mainstay::context::current().deadline;
        Box::pin(async move {
            let at = now().duration_since(stage.began);
            let (head, body) = request.into_parts();
            let body = Box::pin(body).collect().await.map_err(Into::into)?.to_bytes();
            stage.got.lock().unwrap().push(Got { at, headers: head.headers, body, deadline });
            let mut reply = match act {
                Act::Reply(reply) => reply,
                Act::After(time, reply) => {
                    tokio::time::sleep(time).await;
                    reply
                }
                Act::Error(error) => return Err(error),
                Act::ErrorAfter(time, error) => {
                    tokio::time::sleep(time).await;
                    return Err(error);
                }
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("the peer panics"),
            };
            reply.body_mut().alive = Some(alive);
            Ok(reply)
        })
    }
}

/// Calls a service that must be ready.
pub(crate) async fn call<S, B, R>(service: &mut S, request: Request<B>) -> Result<Response<AnyBody>, BoxError>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let response = service.call(request).await.map_err(Into::into)?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// Reads a body to its end: the data and the trailers.
pub(crate) async fn read(response: Response<AnyBody>) -> Result<(Bytes, Option<HeaderMap>), BoxError> {
    let collected = response.into_body().collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// Calls and reads everything: the HTTP status, and the gRPC status from the head or the trailers.
pub(crate) async fn answer<S, B, R>(service: &mut S, request: Request<B>) -> Result<(u16, Option<u8>), BoxError>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let response = call(service, request).await?;
    let status = response.status().as_u16();
    let head = grpc_status(response.headers());
    let (_, trailers) = read(response).await?;
    Ok((status, trailers.as_ref().and_then(grpc_status).or(head)))
}

pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    mainstay::protocol::status::find_status(headers).map(mainstay::protocol::Code::number)
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

pub(crate) fn rejection(error: &BoxError) -> &Rejection {
    Rejection::find(&**error).unwrap_or_else(|| panic!("no rejection in {error:?}"))
}

/// A guard that admits everything and remembers how each call ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    admitted: Arc<AtomicUsize>,
    settled: Arc<Mutex<Vec<Outcome>>>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Ledger,
    open: bool,
}

impl Ledger {
    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    pub(crate) fn settled(&self) -> Vec<Outcome> {
        self.settled.lock().unwrap().clone()
    }

    /// Takes the one outcome that there must be.
    pub(crate) fn only(&self) -> Outcome {
        let settled = std::mem::take(&mut *self.settled.lock().unwrap());
        assert_eq!(settled.len(), 1, "settled exactly once: {settled:?}");
        settled[0]
    }
}

impl Admit for Ledger {
    type Permit = Entry;

    fn admit(&self, _: Instant) -> Result<Entry, Rejection> {
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(Entry { ledger: self.clone(), open: true })
    }
}

impl Settle for Entry {
    fn settle(mut self, _: Instant, outcome: Outcome) {
        self.open = false;
        self.ledger.settled.lock().unwrap().push(outcome);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.open {
            self.ledger.settled.lock().unwrap().push(Outcome::Cancelled);
        }
    }
}

/// An observer that remembers what it heard, one line for each event.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(self.clone())
    }

    /// Takes the lines since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl Observer for Recorder {
    fn on_event(&self, scope: &Scope<'_>, event: &Event<'_>) {
        let line = match event {
            Event::Started { span } => format!("started {}", span_name(*span)),
            Event::Ended { span, outcome, answer, latency } => {
                let answer = match (answer.http, answer.grpc) {
                    (_, Some(grpc)) => format!("grpc {grpc}"),
                    (Some(http), None) => format!("http {http}"),
                    (None, None) => "none".to_owned(),
                };
                format!("ended {} {} {answer} {latency:?}", span_name(*span), outcome.as_str())
            }
            Event::Rejected(rejection) => format!("rejected {} by {}", rejection.kind().as_str(), rejection.by()),
            Event::BreakerChanged { from, to } => format!("breaker {from} -> {to}"),
            Event::RetryScheduled { outcome, attempt, after, transparent } => {
                let kind = if *transparent { "transparent" } else { "policy" };
                format!("scheduled {attempt} {} {kind} {after:?}", outcome.as_str())
            }
            Event::RetryDenied { outcome, attempt, stop } => format!("denied {attempt} {} {stop}", outcome.as_str()),
            Event::Ejected { duration } => format!("ejected {} {duration:?}", scope.endpoint.unwrap_or("-")),
            Event::EjectionOverflow => format!("overflow {}", scope.endpoint.unwrap_or("-")),
            Event::Returned => format!("returned {}", scope.endpoint.unwrap_or("-")),
            Event::Connected => format!("connected {}", scope.endpoint.unwrap_or("-")),
            Event::ConnectFailed { .. } => format!("connect failed {}", scope.endpoint.unwrap_or("-")),
            Event::Disconnected => format!("disconnected {}", scope.endpoint.unwrap_or("-")),
            Event::EndpointsChanged { count } => format!("endpoints {count}"),
            Event::ResolveFailed { .. } => "resolve failed".to_owned(),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

fn span_name(span: Span) -> String {
    match span {
        Span::Call => "call".to_owned(),
        Span::Attempt { number } => format!("attempt {number}"),
        other => format!("{other:?}"),
    }
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
