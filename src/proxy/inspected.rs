//! A transport whose incoming bytes an [`Inspector`] looks at before hyper does.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use pin_project_lite::pin_project;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::proxy::inspect::Inspector;

pin_project! {
    /// A transport whose incoming bytes are watched.
    #[derive(Debug)]
    pub(crate) struct Inspected<T> {
        #[pin]
        io: T,
        inspector: Inspector,
        // What comes next in place of what the peer sends.
        owed: &'static [u8],
    }
}

impl<T> Inspected<T> {
    /// Watches a connection that has just been accepted.
    pub(crate) fn new(io: T) -> Self {
        Self { io, inspector: Inspector::default(), owed: &[] }
    }
}

/// What follows a broken byte: hyper does not look at a head before it seems to be complete.
const END: &[u8] = b"\r\n\r\n";

impl<T: AsyncRead> AsyncRead for Inspected<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.owed.is_empty() {
            let before = buffer.filled().len();
            ready!(this.io.poll_read(cx, buffer))?;
            let Some(at) = this.inspector.inspect(&mut buffer.filled_mut()[before..]) else {
                return Poll::Ready(Ok(()));
            };
            buffer.set_filled(before + at + 1);
            *this.owed = END;
        }
        let (now, later) = this.owed.split_at(this.owed.len().min(buffer.remaining()));
        buffer.put_slice(now);
        *this.owed = later;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite> AsyncWrite for Inspected<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }
}
