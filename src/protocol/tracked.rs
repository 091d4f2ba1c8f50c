//! A body that tells when and how it ended.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use pin_project_lite::pin_project;

use super::judge::End;
use crate::error::BoxError;

/// Is told how a body ended.
pub trait OnEnd {
    /// Fires for each data frame, before it is passed on.
    fn on_data(&mut self, _bytes: usize) {}

    /// Fires once. For a body that is empty from the start, in [`Tracked::new`]; for one that is dropped before its
    /// end, in `Drop`; else when the trailers, the end or the error are seen, before they are passed on.
    fn on_end(self, end: End<'_>);
}

pin_project! {
    /// A body that passes everything through and tells an [`OnEnd`], exactly once, how it ended.
    ///
    /// Errors are boxed, since that is the one form in which every body's error can be looked into.
    ///
    /// A consumer who is told [`is_end_stream`](Body::is_end_stream) after a frame, or before the first, may never poll
    /// again (an answer to HEAD, a 204, a trailers-only answer), so that is an end too.
    #[derive(Debug)]
    pub struct Tracked<B, T>
    where
        T: OnEnd,
    {
        #[pin]
        body: B,
        on_end: Option<T>,
        // What the body inside said when it was last looked at. Wrappers around this one ask for it after each frame;
        // a body of h2 takes a lock to answer. If it has ended since, the next poll says so.
        over: bool,
    }

    impl<B, T> PinnedDrop for Tracked<B, T>
    where
        T: OnEnd,
    {
        fn drop(this: Pin<&mut Self>) {
            if let Some(on_end) = this.project().on_end.take() {
                on_end.on_end(End::Dropped);
            }
        }
    }
}

impl<B: Body, T: OnEnd> Tracked<B, T> {
    /// Watches `body`. One that is over already is reported at once.
    pub fn new(body: B, on_end: T) -> Self {
        let over = body.is_end_stream();
        if over {
            on_end.on_end(End::Eos(None));
            return Self { body, on_end: None, over };
        }
        Self { body, on_end: Some(on_end), over }
    }

    /// Wraps `body` without watching it: its end is known or of no interest.
    pub fn untracked(body: B) -> Self {
        let over = body.is_end_stream();
        Self { body, on_end: None, over }
    }
}

impl<B, T: OnEnd> Tracked<B, T> {
    /// Who will be told of the end, if that has not happened.
    pub fn on_end_mut(&mut self) -> Option<&mut T> {
        self.on_end.as_mut()
    }

    /// Reads the body inside.
    pub fn body(&self) -> &B {
        &self.body
    }
}

impl<B, T> Body for Tracked<B, T>
where
    B: Body,
    B::Error: Into<BoxError>,
    T: OnEnd,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        *this.over = this.body.is_end_stream();
        let next = ready!(polled).map(|frame| frame.map_err(Into::into));
        if let (Some(on_end), Some(Ok(frame))) = (this.on_end.as_mut(), &next)
            && let Some(data) = frame.data_ref()
        {
            on_end.on_data(data.remaining());
        }
        let end = match &next {
            None => End::Eos(None),
            Some(Err(error)) => End::Error(&**error),
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => End::Eos(Some(trailers)),
                None if *this.over => End::Eos(None),
                None => return Poll::Ready(next),
            },
        };
        if let Some(on_end) = this.on_end.take() {
            on_end.on_end(end);
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
