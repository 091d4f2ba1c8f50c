//! The one mechanism that follows an attempt to its end: result, end of body, or drop of future or body.

use std::error::Error;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::context;
use crate::error::BoxError;
use crate::layer::catch_panic::Panicked;
use crate::outcome::Ending;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::policy::deadline::earliest;
use crate::protocol::End;
use crate::protocol::Judge;
use crate::protocol::OnEnd;
use crate::protocol::Tracked;
use crate::time::Instant;
use crate::time::now;

/// Wants to know how an attempt ended.
pub trait Finish {
    /// Is told how it ended. Fires exactly once.
    fn finish(self, now: Instant, ending: &Ending);

    /// From when on a caller who gives up had to: as if the deadline had passed.
    fn patience(&self) -> Option<Instant> {
        None
    }

    /// The head of the response is there.
    fn head(&mut self) {}

    /// Some of the body's data went by.
    fn data(&mut self, _bytes: usize) {}

    /// The body broke off.
    fn broken(&mut self, _error: &(dyn Error + 'static)) {}
}

/// How long a guard holds its permit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Hold {
    /// To the end of the response's body, where a gRPC call says how it went.
    #[default]
    End,
    /// To the head of the response: for bodies that are large or long and say nothing about the peer.
    Head,
}

/// Follows one attempt; carried by its future, then by the body of its response.
#[derive(Debug)]
pub struct Watch<F: Finish> {
    finish: Option<F>,
    judge: Judge,
    /// What the head said, if it said all there is to say though a body follows. Boxed, since only failures do.
    known: Option<Box<Ending>>,
    hold: Hold,
    /// A drop from here on is the peer's fault: the caller gave up because it had to.
    overdue: Option<Instant>,
}

impl<F: Finish> Watch<F> {
    /// Starts to follow an attempt.
    #[inline]
    pub(crate) fn new(finish: F, judge: Judge, hold: Hold) -> Self {
        let context = context::current();
        let overdue = earliest(earliest(context.deadline, context.attempt_deadline), finish.patience());
        Self { finish: Some(finish), judge, known: None, hold, overdue }
    }

    /// Notes that the head is there, which is all that an attempt's timeout waits for.
    #[inline]
    fn answered(&mut self) {
        if let Some(finish) = &mut self.finish {
            finish.head();
            self.overdue = earliest(context::current().deadline, finish.patience());
        }
    }

    /// Changes what waits for the end, if it still does.
    #[inline]
    pub(crate) fn with(&mut self, change: impl FnOnce(&mut F)) {
        if let Some(finish) = &mut self.finish {
            change(finish);
        }
    }

    /// Ends it with an error, before there was a response.
    pub(crate) fn fail(mut self, error: &(dyn Error + 'static)) {
        let ending = match error.is::<Panicked>() {
            // The judge knows no handlers: it would take this for a connection that died.
            true => Ending::new(Outcome::Failure(Failure::Server)),
            false => self.judge.error(error),
        };
        self.finish(now(), &ending);
    }

    /// Goes on to follow the body of a response whose head was judged and left its end open.
    pub(crate) fn follow_open<B>(mut self, response: Response<B>) -> Response<Tracked<B, Self>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        self.answered();
        response.map(|body| Tracked::new(body, self))
    }

    /// Goes on to follow the body of the response.
    #[cfg(feature = "client")]
    pub(crate) fn follow<B>(self, response: Response<B>) -> Response<Tracked<B, Self>>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        follow(&mut Some(self), response)
    }

    /// Judges the head of the response. False if there is nothing more to wait for.
    #[inline]
    fn goes_on<B: Body>(&mut self, response: &Response<B>) -> bool {
        let over = response.body().is_end_stream();
        let known = self.judge.head(response.status(), response.headers(), over);
        self.answered();
        if !over && self.hold == Hold::End {
            self.known = known.map(Box::new);
            return true;
        }
        self.finish(now(), &known.unwrap_or_else(|| Ending::new(Outcome::Success)));
        false
    }

    #[inline]
    fn finish(&mut self, now: Instant, ending: &Ending) {
        if let Some(finish) = self.finish.take() {
            finish.finish(now, ending);
        }
    }

    #[inline]
    fn dropped(&mut self) {
        if self.finish.is_none() {
            return;
        }
        let now = now();
        if let Some(known) = self.known.take() {
            return self.finish(now, &known);
        }
        let overdue = self.overdue.is_some_and(|overdue| now >= overdue);
        let outcome = if overdue { Outcome::Failure(Failure::Timeout) } else { Outcome::Cancelled };
        self.finish(now, &Ending::new(outcome));
    }
}

/// Hands the watch on to the body of the response, if there is something to wait for in it. Most of what it takes is
/// done where the watch lies: it is large, and a response without a body needs no copy of it.
#[inline]
fn follow<F, B>(watch: &mut Option<Watch<F>>, response: Response<B>) -> Response<Tracked<B, Watch<F>>>
where
    F: Finish,
    B: Body,
    B::Error: Into<BoxError>,
{
    let goes_on = watch.as_mut().is_some_and(|watch| watch.goes_on(&response));
    response.map(|body| match watch.take() {
        Some(watch) if goes_on => Tracked::new(body, watch),
        _ => Tracked::untracked(body),
    })
}

impl<F: Finish> OnEnd for Watch<F> {
    fn on_data(&mut self, bytes: usize) {
        if let Some(finish) = &mut self.finish {
            finish.data(bytes);
        }
    }

    fn on_end(mut self, end: End<'_>) {
        if self.finish.is_none() {
            return;
        }
        match end {
            End::Dropped => self.dropped(),
            end => {
                if let End::Error(error) = end {
                    self.with(|finish| finish.broken(error));
                }
                let ending = self.known.take().map_or_else(|| self.judge.end(end), |known| *known);
                self.finish(now(), &ending);
            }
        }
    }
}

impl<F: Finish> Drop for Watch<F> {
    fn drop(&mut self) {
        self.dropped();
    }
}

pin_project! {
    /// The future of an attempt that is followed.
    #[derive(Debug)]
    pub struct Watched<Fut, F: Finish> {
        #[pin]
        inner: Fut,
        watch: Option<Watch<F>>,
    }
}

impl<Fut, F: Finish> Watched<Fut, F> {
    /// Calls the service that is followed. Should it panic, that is a failure of its own.
    pub(crate) fn new(watch: Watch<F>, call: impl FnOnce() -> Fut) -> Self {
        let mut watch = Some(watch);
        let unwinding = Unwinding(&mut watch);
        let inner = call();
        mem::forget(unwinding);
        Self { inner, watch }
    }
}

impl<Fut, F, B, E> Future for Watched<Fut, F>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    F: Finish,
    B: Body,
    E: Into<BoxError>,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Tracked<B, Watch<F>>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let unwinding = Unwinding(this.watch);
        let polled = this.inner.poll(cx);
        mem::forget(unwinding);
        let result = ready!(polled);
        match result {
            Ok(response) => Poll::Ready(Ok(follow(this.watch, response))),
            Err(error) => {
                let error = error.into();
                if let Some(watch) = this.watch.take() {
                    watch.fail(&*error);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Notices a panic of the inner service: the peer, or what stands for it, failed (spec case B21).
struct Unwinding<'a, F: Finish>(&'a mut Option<Watch<F>>);

impl<F: Finish> Drop for Unwinding<'_, F> {
    fn drop(&mut self) {
        if let Some(mut watch) = self.0.take() {
            watch.finish(now(), &Ending::new(Outcome::Failure(Failure::Server)));
        }
    }
}
