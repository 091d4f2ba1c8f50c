//! Repeats attempts that failed, as far as that is safe.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tokio::time::sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::context;
use crate::context::CallContext;
use crate::context::Record;
use crate::error::BoxError;
use crate::error::RejectionKind::NoEndpoint;
use crate::event::Stop;
use crate::guard::Retrier;
use crate::guard::RetryPermit;
use crate::layer::deadline::write_timeout;
use crate::layer::watch::Finish;
use crate::layer::watch::Hold;
use crate::layer::watch::Watch;
use crate::outcome::Answer;
use crate::outcome::Ending;
use crate::outcome::Outcome;
use crate::policy::Attempt;
use crate::policy::Decision;
use crate::policy::RetryState;
use crate::policy::deadline::remaining;
use crate::protocol::Auto;
use crate::protocol::Classify;
use crate::protocol::End;
use crate::protocol::Judge;
use crate::protocol::Peek;
use crate::protocol::Peeked;
use crate::protocol::Replay;
use crate::protocol::Replayer;
use crate::protocol::Tracked;
use crate::protocol::pushback;
use crate::time::Instant;
use crate::time::now;

/// Repeats attempts that failed, as the [`Retrier`] decides.
///
/// An attempt can be repeated until its response is *committed*: handed to the caller. A response is held back only
/// while its head alone says that the attempt failed: an HTTP status, or a gRPC status without a body (trailers-only).
/// With [`peek_trailers`](Self::peek_trailers), also while the trailers are already there behind the head.
///
/// What is repeated: always, what provably never reached an application. Where the policy names conditions, also what
/// matches one of them, if the request may be sent twice: a gRPC call, since its route was opted in by the policy, or
/// an HTTP request whose method is idempotent (RFC 9110, 9.2.2) or was named with [`also`](Self::also).
///
/// The request's body is kept while it is sent, up to [`buffer`](Self::buffer) bytes; beyond that it streams on and
/// the attempt is the last. When one of our own layers refuses a later attempt, the caller gets what the peer answered
/// before; an HTTP answer without its body, which was let go before the wait.
///
/// # Examples
/// ```
/// use mainstay::guard::{Retrier, RetrierConfig};
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let retrier = Retrier::new("orders", RetrierConfig::default())?;
/// let layer = retrier.layer();
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// An HTTP route on which POST may be repeated, with up to 1 MiB of body:
/// ```
/// use mainstay::guard::{Retrier, RetrierConfig};
/// use mainstay::policy::{Condition, RetryConfig};
///
/// # fn main() -> Result<(), mainstay::ConfigError> {
/// let retrier = Retrier::new("orders", RetrierConfig {
///     retry: RetryConfig { on: [Condition::GatewayError].into_iter().collect(), ..RetryConfig::default() },
///     ..RetrierConfig::default()
/// })?;
/// let layer = retrier.layer().also(http::Method::POST).buffer(1024 * 1024);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// Dropping the future drops the running attempt, the wait between attempts and what was kept of the request.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    retrier: Retrier,
    methods: Vec<Method>,
    buffer: usize,
    peek_trailers: bool,
}

/// Enough for most unary calls, and little enough to be kept for each of a thousand calls at once.
const DEFAULT_BUFFER: usize = 64 * 1024;

/// RFC 9110, 9.2.2.
const IDEMPOTENT: [Method; 6] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];

impl Retrier {
    /// Makes a tower layer of this retrier. Every layer made of it shares its budget.
    #[must_use]
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { retrier: self.clone(), methods: IDEMPOTENT.to_vec(), buffer: DEFAULT_BUFFER, peek_trailers: false }
    }
}

impl RetryLayer {
    /// Repeats requests of this method too, though it is not idempotent.
    #[must_use]
    pub fn also(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Repeats requests of these methods and no others. Default: the idempotent ones.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets how many bytes of a request's body are kept for another attempt. Default: 64 KiB.
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Also repeats gRPC calls whose failure is in trailers that arrive together with the head. Default: no, as gRPC
    /// clients do (A6: a response head commits the call).
    #[must_use]
    pub fn peek_trailers(mut self) -> Self {
        self.peek_trailers = true;
        self
    }

    fn may_repeat(&self, method: &Method, judge: Judge) -> bool {
        judge.is_grpc() || self.methods.contains(method)
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, layer: self.clone() }
    }
}

/// A service whose failed calls are repeated. Made by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    layer: RetryLayer,
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<Replay<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    R: Body + Unpin,
    R::Error: Into<BoxError>,
{
    type Response = Response<Tracked<Peek<R>, Watch<Committed>>>;
    type Error = BoxError;
    type Future = RetryFuture<S, S::Future, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let judge = Auto.judge(request.method(), request.uri(), request.headers());
        let (mut head, body) = request.into_parts();
        if judge.is_grpc() {
            // Ours to write (spec case RT-33): what the caller was sent by its own caller says nothing here.
            head.headers.remove(&PREVIOUS_ATTEMPTS);
        }
        let template = head.clone();
        let (body, replayer) = Replay::new(body, self.layer.buffer);

        let mut context =
            CallContext { attempt: 1, record: Record { attempts: 1, ..Record::default() }, ..context::current() };
        // This one was polled ready; a clone waits to be, should there be another attempt.
        let service = self.inner.clone();
        let entered = context.entered();
        let attempt = self.inner.call(Request::from_parts(head, body));
        drop(entered);
        RetryFuture {
            idempotent: self.layer.may_repeat(&template.method, judge),
            peek_trailers: self.layer.peek_trailers,
            retrier: self.layer.retrier.clone(),
            service,
            template,
            replayer,
            judge,
            settled: false,
            context,
            retries: RetryState::default(),
            permit: None,
            latest: None,
            state: State::Calling { attempt },
        }
    }
}

pin_project! {
    /// The future of a call that may be repeated.
    pub struct RetryFuture<S, F, B, R: Body> {
        retrier: Retrier,
        peek_trailers: bool,
        service: S,
        template: Parts,
        replayer: Replayer<B>,
        judge: Judge,
        idempotent: bool,
        settled: bool,
        context: CallContext,
        retries: RetryState,
        permit: Option<RetryPermit>,
        // Boxed, since most calls have no second attempt and all would carry its room.
        latest: Option<Box<Attempted<R>>>,
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Calling { #[pin] attempt: F },
        Waiting { #[pin] sleep: Sleep },
        Readying,
        Finished,
    }
}

impl<S, B, R> Future for RetryFuture<S, S::Future, B, R>
where
    S: Service<Request<Replay<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    R: Body + Unpin,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Tracked<Peek<R>, Watch<Committed>>>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut context = self.context;
        let entered = context.entered();
        let polled = self.as_mut().step(cx);
        drop(entered);
        self.project().context.record = context.record;
        polled
    }
}

impl<S, B, R> RetryFuture<S, S::Future, B, R>
where
    S: Service<Request<Replay<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    R: Body + Unpin,
    R::Error: Into<BoxError>,
{
    fn step(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<<Self as Future>::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProjection::Calling { attempt } => {
                    let mut result = match ready!(attempt.poll(cx)) {
                        Ok(response) => Ok(response.map(Peek::new)),
                        Err(error) => Err(error.into()),
                    };
                    this.state.set(State::Finished);
                    let Some(after) = self.as_mut().ended(cx, &mut result) else {
                        return Poll::Ready(self.commit(result));
                    };
                    let mut this = self.as_mut().project();
                    *this.latest = Some(Box::new(result));
                    let next = if after.is_zero() { State::Readying } else { State::Waiting { sleep: sleep(after) } };
                    this.state.set(next);
                }
                StateProjection::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    this.state.set(State::Readying);
                }
                StateProjection::Readying => {
                    let ready = ready!(this.service.poll_ready(cx));
                    match ready.ok().and_then(|()| this.replayer.again()) {
                        Some(body) => self.as_mut().again(body),
                        None => {
                            this.state.set(State::Finished);
                            // What the peer answered tells the caller more than that there is no other attempt.
                            let result = *this.latest.take().expect("an attempt ended before this one");
                            return Poll::Ready(self.commit(result));
                        }
                    }
                }
                StateProjection::Finished => panic!("polled once more after it was ready"),
            }
        }
    }

    /// Judges an attempt that has a head or an error, and decides what follows: another one after a while, or nothing
    /// if the result is for the caller. An earlier result takes its place if that tells the caller more.
    fn ended(self: Pin<&mut Self>, cx: &mut Context<'_>, result: &mut Attempted<R>) -> Option<Duration> {
        let this = self.project();
        let (ending, unread) = match result {
            Err(error) => (Some(this.judge.error(&**error)), false),
            Ok(response) => {
                let over = response.body().is_end_stream();
                let head = this.judge.head(response.status(), response.headers(), over);
                match head.or_else(|| by_status(response, *this.judge, this.retrier)) {
                    Some(ending) => (Some(ending), !over),
                    None => (peeked(response.body_mut(), this.judge, *this.peek_trailers, cx), false),
                }
            }
        };
        *this.permit = None;
        *this.settled = ending.is_some();
        let ending = ending?;

        let attempt =
            Attempt { ending, committed: false, replayable: this.replayer.can_replay(), idempotent: *this.idempotent };
        let (decision, permit) = this.retrier.decide(now(), this.context.deadline, this.retries, &attempt);
        match decision {
            Decision::Again { after, .. } => {
                note(&ending, None);
                *this.permit = permit;
                if let (true, Ok(response)) = (unread, result) {
                    let_go_of_body(response);
                }
                Some(after)
            }
            Decision::Done(stop) => {
                note(&ending, Some(stop));
                if ending.outcome == Outcome::Rejected
                    && let Some(latest) = this.latest.take()
                {
                    // Our own refusal says nothing about the call: the caller gets what the peer answered (spec case
                    // R14).
                    *result = *latest;
                    // That nobody else is there to be asked says less than what the one that was asked failed with.
                    context::record(|record| record.rejected = record.rejected.filter(|kind| *kind != NoEndpoint));
                }
                None
            }
        }
    }

    /// Starts the next attempt.
    fn again(self: Pin<&mut Self>, body: Replay<B>) {
        let mut this = self.project();
        let mut head = this.template.clone();
        if this.judge.is_grpc() {
            stamp(&mut head, this.retries, this.context.deadline);
        }
        let mut context = context::current();
        context.attempt = this.retries.attempts();
        context.record.attempts += 1;
        let entered = context.entered();
        let attempt = this.service.call(Request::from_parts(head, body));
        drop(entered);
        this.state.set(State::Calling { attempt });
    }

    /// Hands the response to the caller. From here on nothing is repeated.
    fn commit(self: Pin<&mut Self>, result: Attempted<R>) -> <Self as Future>::Output {
        let this = self.project();
        this.replayer.commit();
        *this.latest = None;
        let response = result?;
        if *this.settled {
            return Ok(response.map(Tracked::untracked));
        }
        let committed = Committed { retrier: this.retrier.clone(), attempt: this.retries.attempts() };
        Ok(Watch::new(committed, *this.judge, Hold::End).follow_open(response))
    }
}

/// How an attempt went, as far as the head of its response tells.
type Attempted<R> = Result<Response<Peek<R>>, BoxError>;

/// Judges an HTTP response whose status is no failure of the peer, but one that the policy repeats.
fn by_status<R>(response: &Response<R>, judge: Judge, retrier: &Retrier) -> Option<Ending> {
    if judge.is_grpc() {
        return None;
    }
    let answer = Answer { http: Some(response.status().as_u16()), grpc: None };
    let pushback = pushback::http(response.headers());
    let ending = Ending { answer, pushback, ..Ending::new(Outcome::Success) };
    retrier.repeats(&ending).then_some(ending)
}

/// Lets go of a body that nobody will read, and so of the stream or connection that it comes on, before the next
/// attempt takes its place.
fn let_go_of_body<R: Body>(response: &mut Response<Peek<R>>) {
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Peek::empty();
}

/// Judges a gRPC response whose trailers are already there, right behind the head.
fn peeked<R>(body: &mut Peek<R>, judge: &Judge, allowed: bool, cx: &mut Context<'_>) -> Option<Ending>
where
    R: Body + Unpin,
    R::Error: Into<BoxError>,
{
    if !allowed {
        return None;
    }
    match Pin::new(body).peek(cx) {
        Peeked::Data | Peeked::Pending => None,
        Peeked::End => Some(judge.end(End::Eos(None))),
        Peeked::Error(error) => Some(judge.end(End::Error(error))),
        Peeked::Trailers(trailers) => Some(judge.end(End::Eos(Some(trailers)))),
    }
}

/// Leaves in the call's record how an attempt failed, and why there is no other one, if there is none.
fn note(ending: &Ending, stop: Option<Stop>) {
    match ending.outcome {
        Outcome::Failure(failure) => context::record(|record| {
            record.failure = ending.answer.http.is_none().then_some(failure);
            record.stop = stop;
        }),
        Outcome::Rejected => context::record(|record| record.stop = stop),
        Outcome::Success | Outcome::Cancelled => {}
    }
}

/// Tells the peer which attempt this is, and how much time is left (A6; spec cases RT-01, RT-32).
fn stamp(head: &mut Parts, retries: &RetryState, deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        write_timeout(&mut head.headers, remaining(now(), deadline));
    }
    // Absent on the first attempt; those that never reached an application do not count.
    if let Some(previous) = retries.previous_attempts() {
        head.headers.insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
    }
}

static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// A response that was handed to the caller: its end pays into the budget.
#[derive(Debug)]
pub struct Committed {
    retrier: Retrier,
    attempt: u32,
}

impl Finish for Committed {
    fn finish(self, now: Instant, ending: &Ending) {
        self.retrier.committed(now, self.attempt, ending.outcome);
    }
}
