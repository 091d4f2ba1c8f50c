//! A body whose first frame can be looked at before it is handed on.
//!
//! A retry is possible until the answer has begun. Some servers send a head and only then find out that they fail:
//! then the first frame of the body is the trailers, and nothing was handed to the caller yet.

use std::error::Error;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Buf;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use pin_project_lite::pin_project;

use crate::error::BoxError;

pin_project! {
    /// A body whose first frame can be looked at. The frame is handed on afterwards, in its place.
    ///
    /// Data frames without data that come first are left out: they say nothing, and some servers end a trailers-only
    /// answer with one.
    #[derive(Debug)]
    pub struct Peek<B>
    where
        B: Body,
    {
        // Nothing if it was let go.
        #[pin]
        body: Option<B>,
        kept: Kept<B::Data>,
    }
}

/// What is known of the first frame, without having waited for it.
#[derive(Clone, Copy, Debug)]
pub enum Peeked<'a> {
    /// It is not there yet; the task is woken when it is.
    Pending,
    /// It is data: the answer has begun.
    Data,
    /// It is the trailers: there is no data.
    Trailers(&'a HeaderMap),
    /// There is none: the body is empty.
    End,
    /// The body failed before its first frame.
    Error(&'a (dyn Error + 'static)),
}

#[derive(Debug)]
enum Kept<D> {
    Nothing,
    Data(D),
    // Boxed, since every answer has room for them and few come this early.
    Trailers(Box<HeaderMap>),
    Error(BoxError),
    End,
}

impl<D> Kept<D> {
    fn frame(frame: Frame<D>) -> Self {
        match frame.into_data() {
            Ok(data) => Self::Data(data),
            // A frame that is neither is of a kind that is not known yet; it says nothing about the end.
            Err(frame) => frame.into_trailers().map_or(Self::Nothing, |trailers| Self::Trailers(Box::new(trailers))),
        }
    }
}

impl<B: Body> Peek<B> {
    /// Wraps a body. Does not poll it.
    pub fn new(body: B) -> Self {
        Self { body: Some(body), kept: Kept::Nothing }
    }

    /// Stands in for a body that was let go.
    #[must_use]
    pub fn empty() -> Self {
        Self { body: None, kept: Kept::End }
    }

    /// Reads the body inside, if there is one. A frame that was looked at is no longer in it.
    pub fn body(&self) -> Option<&B> {
        self.body.as_ref()
    }
}

impl<B> Peek<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// Looks at the next frame. Asked again, it gives the same answer until the frame is taken.
    pub fn peek(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Peeked<'_> {
        let mut this = self.project();
        if let (Kept::Nothing, Some(body)) = (&this.kept, this.body.as_mut().as_pin_mut()) {
            *this.kept = match poll_substance(body, cx) {
                Poll::Pending => Kept::Nothing,
                Poll::Ready(None) => Kept::End,
                Poll::Ready(Some(Ok(frame))) => Kept::frame(frame),
                Poll::Ready(Some(Err(error))) => Kept::Error(error.into()),
            };
        }
        match this.kept {
            Kept::Nothing => Peeked::Pending,
            Kept::End => Peeked::End,
            Kept::Error(error) => Peeked::Error(&**error),
            Kept::Data(_) => Peeked::Data,
            Kept::Trailers(trailers) => Peeked::Trailers(trailers),
        }
    }
}

impl<B> Body for Peek<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        match std::mem::replace(this.kept, Kept::Nothing) {
            Kept::Nothing => match this.body.as_pin_mut() {
                Some(body) => body.poll_frame(cx).map_err(Into::into),
                None => Poll::Ready(None),
            },
            Kept::Data(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Kept::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(*trailers)))),
            Kept::Error(error) => Poll::Ready(Some(Err(error))),
            Kept::End => {
                // It has ended for good: a body need not answer a poll after its end.
                *this.kept = Kept::End;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.kept {
            Kept::Nothing => self.body.as_ref().is_none_or(Body::is_end_stream),
            Kept::Data(_) | Kept::Trailers(_) | Kept::Error(_) => false,
            Kept::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kept {
            Kept::Nothing => self.rest(),
            Kept::Data(data) => {
                let kept = data.remaining() as u64;
                let rest = self.rest();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(kept));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(kept));
                }
                hint
            }
            Kept::Trailers(_) | Kept::Error(_) | Kept::End => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> Peek<B> {
    fn rest(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Polls for a frame that is not an empty data frame.
fn poll_substance<B: Body>(mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Next<B::Data, B::Error> {
    for _ in 0..MAX_EMPTY_FRAMES {
        let next = body.as_mut().poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = &next else { return next };
        if frame.data_ref().is_none_or(Buf::has_remaining) {
            return next;
        }
        // "A return value of `true` means that a call to `poll_frame` will return `None`" - and need not be made.
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
    }
    body.poll_frame(cx)
}

type Next<D, E> = Poll<Option<Result<Frame<D>, E>>>;

/// A bound, so that a peer who sends nothing but empty frames cannot hold the thread.
const MAX_EMPTY_FRAMES: usize = 16;
