//! A TCP transport that sends once per turn of its connection's task, not once per frame.
//!
//! h2 flushes after every DATA frame that it does not copy (hyperium/h2 issue 902): a system call a frame. This
//! transport takes what is written into a buffer; [`Turn`], which wraps the connection's future, sends it after each
//! poll. A full buffer parks the connection, so back-pressure stays.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use pin_project_lite::pin_project;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

use crate::sync::Mutex;
use crate::sync::lock;

/// A connection's socket. Give it to hyper, and wrap the connection's future with [`turn`](Flusher::turn).
#[derive(Debug)]
pub(crate) struct Coalesced {
    // tokio's own reading: it knows that a read which did not fill the buffer has emptied the socket, and spares the
    // next one.
    incoming: OwnedReadHalf,
    shared: Arc<Shared>,
}

/// Sends what the connection wrote.
#[derive(Clone, Debug)]
pub(crate) struct Flusher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outgoing: OwnedWriteHalf,
    out: Mutex<Out>,
}

#[derive(Debug, Default)]
struct Out {
    buffer: Vec<u8>,
    /// How much of the buffer has been sent.
    sent: usize,
    /// A task waits for the socket to take more.
    draining: bool,
    /// The connection, waiting for room or for the end of the buffer.
    parked: Option<Waker>,
    /// What the socket said when it broke.
    failed: Option<io::ErrorKind>,
}

/// Some sixteen frames of the usual size; a connection that is read slowly holds no more than this.
const CAPACITY: usize = 256 * 1024;

/// A buffer that grew is not kept by a connection that has become idle.
const KEPT: usize = 64 * 1024;

/// How long a connection that is gone may still take to send what it had written.
const LINGER: Duration = Duration::from_secs(1);

/// Makes the two halves of a coalescing transport.
pub(crate) fn coalesce(tcp: TcpStream) -> (Coalesced, Flusher) {
    let (incoming, outgoing) = tcp.into_split();
    let shared = Arc::new(Shared { outgoing, out: Mutex::new(Out::default()) });
    (Coalesced { incoming, shared: shared.clone() }, Flusher(shared))
}

impl Shared {
    /// Sends as much as the socket takes now; a task of its own sends the rest.
    fn send(self: &Arc<Self>) {
        let mut out = lock(&self.out);
        if out.draining || out.unsent() == 0 {
            return;
        }
        if self.write(&mut out) {
            out.draining = true;
            let shared = self.clone();
            tokio::spawn(async move { shared.drain().await });
        }
    }

    /// Writes to the socket. True if it would take no more for now.
    fn write(&self, out: &mut Out) -> bool {
        while out.sent < out.buffer.len() {
            match self.outgoing.try_write(&out.buffer[out.sent..]) {
                Ok(0) => out.fail(io::ErrorKind::WriteZero),
                Ok(sent) => out.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => out.fail(error.kind()),
            }
        }
        out.empty();
        false
    }

    async fn drain(self: Arc<Self>) {
        loop {
            // Only this task is left to hold the socket: the connection is gone, and its peer may never read again.
            let writable = match Arc::strong_count(&self) {
                1 => timeout(LINGER, self.outgoing.writable())
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                _ => self.outgoing.writable().await,
            };
            let mut out = lock(&self.out);
            let blocked = match writable {
                Ok(()) => self.write(&mut out),
                Err(error) => {
                    out.fail(error.kind());
                    false
                }
            };
            out.draining = blocked;
            let parked = out.parked.take();
            drop(out);
            if let Some(parked) = parked {
                parked.wake();
            }
            if !blocked {
                return;
            }
        }
    }
}

impl Out {
    fn fail(&mut self, kind: io::ErrorKind) {
        self.failed = Some(kind);
        self.empty();
    }

    fn empty(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        self.sent = 0;
    }

    /// What is written and not sent.
    fn unsent(&self) -> usize {
        self.buffer.len() - self.sent
    }

    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.incoming).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if lock(&self.shared.out).unsent() >= CAPACITY {
            self.shared.send();
        }
        let mut out = lock(&self.shared.out);
        out.check()?;
        if out.unsent() >= CAPACITY {
            out.parked = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if out.sent >= CAPACITY {
            // A peer that reads slowly but steadily never empties the buffer: what it has read must not stay in it.
            let sent = mem::take(&mut out.sent);
            out.buffer.drain(..sent);
        }
        let mut taken = 0;
        for slice in slices {
            out.buffer.extend_from_slice(slice);
            taken += slice.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Sends nothing: [`Turn`] does, once the connection has written all that it has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.shared.out).check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.send();
        let mut out = lock(&self.shared.out);
        out.check()?;
        if out.unsent() > 0 {
            out.parked = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(SockRef::from(self.shared.outgoing.as_ref()).shutdown(Shutdown::Write))
    }
}

impl Flusher {
    /// Sends what the connection wrote after each poll of one of its futures.
    pub(crate) fn turn<F>(&self, future: F) -> Turn<F> {
        Turn { future, shared: self.0.clone() }
    }
}

pin_project! {
    /// A future of a connection, and a send of what it wrote after each poll.
    #[derive(Debug)]
    pub(crate) struct Turn<F> {
        #[pin]
        future: F,
        shared: Arc<Shared>,
    }
}

impl<F: Future> Future for Turn<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        this.shared.send();
        polled
    }
}

/// Runs what hyper's HTTP/2 client spawns: the connection, and the pipes of its request bodies.
impl<F> hyper::rt::Executor<F> for Flusher
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        // Boxed: these futures are large, and to spawn one moves it several times.
        tokio::spawn(self.turn(Box::pin(future)));
    }
}

impl<F> Turn<F> {
    /// The future itself, to ask the connection for a graceful shutdown.
    #[cfg(feature = "proxy")]
    pub(crate) fn future(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().future
    }
}
