//! Worker threads: each has a runtime, listening sockets and upstream connections of its own.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use socket2::Domain;
use socket2::Socket;
use socket2::Type;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::balance::Balance;
use crate::balance::coalesce;
use crate::error::BoxError;
use crate::lifecycle::Phase;
use crate::lifecycle::Work;
use crate::proxy::DRAIN;
use crate::proxy::forward::Forwarder;
use crate::proxy::forward::Peer;
use crate::proxy::inspected::Inspected;
use crate::proxy::log::Log;
use crate::proxy::mesh::Mesh;

/// The sockets of one listener, one for each worker, on one port.
pub(crate) struct Sockets {
    name: String,
    address: SocketAddr,
    sockets: Vec<std::net::TcpListener>,
}

impl Sockets {
    /// Binds a port once for each worker.
    pub(crate) fn bind(name: &str, address: SocketAddr, workers: usize) -> Result<Self, BoxError> {
        let failed = |error: io::Error| format!("listener `{name}` cannot listen on {address}: {error}");
        // Without SO_REUSEPORT first, which would share the port with another process of the same user.
        let probe = listen(address, false).map_err(failed)?;
        let address = probe.local_addr().map_err(failed)?;
        drop(probe);
        let sockets = (0..workers).map(|_| listen(address, true)).collect::<io::Result<Vec<_>>>().map_err(failed)?;
        Ok(Self { name: name.to_owned(), address, sockets })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the socket of the next worker.
    pub(crate) fn take(&mut self) -> io::Result<std::net::TcpListener> {
        self.sockets.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Binds the admin port.
pub(crate) fn bind_admin(address: SocketAddr) -> Result<std::net::TcpListener, BoxError> {
    listen(address, false).map_err(|error| format!("admin cannot listen on {address}: {error}").into())
}

fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted: a burst of reconnects after a restart fits.
const BACKLOG: i32 = 4096;

/// Tasks that are polled between two looks at the sockets. More than tokio's 61: what is read at once is then answered
/// at once, with fewer system calls; and so few that a look is never more than a millisecond away.
const TURNS: u32 = 256;

/// Starts a worker thread. It ends when it has drained.
pub(crate) fn start(
    number: usize,
    sockets: Vec<std::net::TcpListener>,
    mesh: Arc<Mesh>,
    log: Option<Log>,
    work: Work,
) -> Result<JoinHandle<()>, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TURNS).build()?;
    let named = thread::Builder::new().name(format!("worker-{number}"));
    Ok(named.spawn(move || runtime.block_on(run(sockets, mesh, log, work)))?)
}

async fn run(sockets: Vec<std::net::TcpListener>, mesh: Arc<Mesh>, log: Option<Log>, mut work: Work) {
    let balances: Vec<_> =
        mesh.clusters.iter().map(|cluster| Balance::new(cluster.balancer.clone(), cluster.connect)).collect();
    let connections = TaskTracker::new();
    for (listener, socket) in sockets.into_iter().enumerate() {
        let Ok(socket) = TcpListener::from_std(socket) else { continue };
        let forwarder = Arc::new(Forwarder::new(mesh.clone(), listener, &balances, log.clone()));
        tokio::spawn(accept(socket, forwarder, connections.clone(), work.clone()));
    }
    work.reached(Phase::Draining).await;
    connections.close();
    let mut stopping = work.clone();
    tokio::select! {
        () = connections.wait() => {}
        () = sleep(DRAIN) => {}
        () = stopping.reached(Phase::Stopped) => {}
    }
}

async fn accept(socket: TcpListener, forwarder: Arc<Forwarder>, connections: TaskTracker, work: Work) {
    let mut draining = work.clone();
    let mut drained = pin!(draining.reached(Phase::Draining));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut drained => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                connections.spawn(serve(tcp, peer, forwarder.clone(), work.clone()));
            }
            // Out of file descriptors, most likely: they come back when connections end.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve(tcp: TcpStream, peer: SocketAddr, forwarder: Arc<Forwarder>, mut work: Work) {
    // A peer that is gone by now is found out by the first read.
    let _ = tcp.set_nodelay(true);
    let (io, flusher) = coalesce(tcp);
    let server = server();
    let peer = Arc::new(Peer::new(peer));
    // Boxed once, here: hyper moves a call's future several times before it stays where it is, and it is large.
    let answer = service_fn(|request| Box::pin(forwarder.clone().answer(peer.clone(), request)));
    let connection = server.serve_connection(TokioIo::new(Inspected::new(io)), answer);
    let mut connection = pin!(flusher.turn(connection));
    let drained = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = work.reached(Phase::Draining) => None,
    };
    let ended = match drained {
        Some(ended) => ended,
        None => {
            connection.as_mut().future().graceful_shutdown();
            connection.await
        }
    };
    // However it ended, there is nobody left to tell but the log.
    if let Some(status) = ended.err().and_then(|error| refusal(&*error)) {
        forwarder.unreadable(&peer, status);
    }
}

/// What hyper has answered to a request that it could not read.
fn refusal(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    match error.downcast_ref::<hyper::Error>()? {
        error if error.is_parse_too_large() => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        error if error.is_parse() => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    server
}

/// A peer that sends its head byte by byte holds a connection for no longer.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 100;
/// Envoy's 60 KiB for headers, and room for the request line.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_STREAMS: u32 = 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
