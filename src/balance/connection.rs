//! Connections to endpoints: one for HTTP/2, as many as there are calls at once for HTTP/1.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::balance::balancer::Balancer;
use crate::balance::coalesce::coalesce;
use crate::balance::endpoint::Endpoint;
use crate::error;
use crate::error::BoxError;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::error::TransportError;
use crate::event::Event;
use crate::outcome::Failure;
use crate::outcome::Reach;
use crate::sync::Mutex;
use crate::sync::lock;
use crate::time::now;

/// The protocol that endpoints speak.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1, one call at a time on a connection.
    Http1,
    /// HTTP/2 with prior knowledge, all calls on one connection. Default.
    #[default]
    Http2,
}

/// How connections are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectConfig {
    /// The protocol that endpoints speak. Default: HTTP/2.
    pub protocol: Protocol,
    /// How long making a connection may take, for all addresses of an endpoint together. Default: 1 s.
    pub timeout: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self { protocol: Protocol::Http2, timeout: Duration::from_secs(1) }
    }
}

/// The connections of one worker to the endpoints of one target.
#[derive(Debug)]
pub(crate) struct Connections<B> {
    config: ConnectConfig,
    slots: Mutex<Slots<B>>,
}

#[derive(Debug)]
struct Slots<B> {
    version: u64,
    by_endpoint: Vec<(u32, Arc<Slot<B>>)>,
}

/// The connections of one worker to one endpoint.
#[derive(Debug)]
pub(crate) enum Slot<B> {
    Http1(Mutex<Vec<http1::SendRequest<B>>>),
    Http2(Mutex<Arc<Flight<B>>>),
}

/// One connection for all: the first caller makes it, the others wait for it.
pub(crate) type Flight<B> = OnceCell<Result<http2::SendRequest<B>, Refused>>;

/// A connection could not be made, and everybody who waited for it is told.
#[derive(Clone, Debug)]
pub(crate) struct Refused(Arc<dyn Error + Send + Sync>, Failure);

/// An HTTP/1 connection to give back when its call is over.
pub(crate) type Loan<B> = Option<(Arc<Slot<B>>, http1::SendRequest<B>)>;

impl<B> Connections<B> {
    pub(crate) fn new(config: ConnectConfig) -> Self {
        Self { config, slots: Mutex::new(Slots { version: 0, by_endpoint: Vec::new() }) }
    }

    /// The connections to an endpoint. Closes those to endpoints that are gone.
    pub(crate) fn slot(&self, balancer: &Balancer, endpoint: &Endpoint) -> Arc<Slot<B>> {
        let mut slots = lock(&self.slots);
        let version = balancer.version();
        if slots.version != version {
            slots.version = version;
            let present = balancer.endpoints();
            slots.by_endpoint.retain(|(id, _)| present.iter().any(|endpoint| endpoint.id() == *id));
        }
        match slots.by_endpoint.binary_search_by_key(&endpoint.id(), |(id, _)| *id) {
            Ok(at) => slots.by_endpoint[at].1.clone(),
            Err(at) => {
                let slot = Arc::new(Slot::new(self.config.protocol));
                slots.by_endpoint.insert(at, (endpoint.id(), slot.clone()));
                slot
            }
        }
    }

    pub(crate) fn config(&self) -> &ConnectConfig {
        &self.config
    }
}

impl<B> Slot<B> {
    fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(Mutex::default()),
            Protocol::Http2 => Self::Http2(Mutex::default()),
        }
    }

    /// Takes an HTTP/1 connection back that has delivered its response.
    pub(crate) fn give_back(&self, sender: http1::SendRequest<B>) {
        if let (Self::Http1(idle), false) = (self, sender.is_closed()) {
            lock(idle).push(sender);
        }
    }
}

impl<B> Slot<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request on a connection that is there, or makes one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        balancer: &Balancer,
        endpoint: &Endpoint,
        config: &ConnectConfig,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, Loan<B>), BoxError> {
        match &**self {
            Self::Http2(flight) => {
                let current = current(flight, balancer, endpoint);
                let mut sender = match current.get() {
                    Some(made) => made.clone().map_err(Refused::into_error)?,
                    None => Box::pin(made(&current, balancer, endpoint, config)).await?,
                };
                let response = sender.try_send_request(request).await;
                Ok((response.map_err(|error| unsent(balancer, error, false))?, None))
            }
            Self::Http1(idle) => {
                let repeatable = request.method().is_idempotent();
                let (mut sender, reused) = match checkout(idle, balancer, endpoint) {
                    Some(sender) => (sender, true),
                    None => {
                        let opened = Box::pin(open(balancer, endpoint, config, handshake1)).await;
                        (opened.map_err(Refused::into_error)?, false)
                    }
                };
                let sent = sender.try_send_request(request).await;
                let response = sent.map_err(|error| unsent(balancer, error, reused && repeatable))?;
                Ok((response, Some((self.clone(), sender))))
            }
        }
    }
}

fn checkout<B>(
    idle: &Mutex<Vec<http1::SendRequest<B>>>,
    balancer: &Balancer,
    endpoint: &Endpoint,
) -> Option<http1::SendRequest<B>> {
    let mut idle = lock(idle);
    let before = idle.len();
    idle.retain(|sender| !sender.is_closed());
    let closed = before - idle.len();
    let ready = idle.iter().rposition(http1::SendRequest::is_ready);
    let sender = ready.map(|at| idle.swap_remove(at));
    drop(idle);
    for _ in 0..closed {
        balancer.hear(Some(endpoint), &Event::Disconnected);
    }
    sender
}

/// Waits for the connection that is being made, or makes it.
async fn made<B>(
    flight: &Flight<B>,
    balancer: &Balancer,
    endpoint: &Endpoint,
    config: &ConnectConfig,
) -> Result<http2::SendRequest<B>, TransportError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    // Should the caller that makes the connection go away, another that waits takes over.
    let made = flight.get_or_init(|| open(balancer, endpoint, config, handshake2)).await;
    made.clone().map_err(Refused::into_error)
}

/// The connection that is there or being made; a new one in place of one that failed or closed.
fn current<B>(flight: &Mutex<Arc<Flight<B>>>, balancer: &Balancer, endpoint: &Endpoint) -> Arc<Flight<B>> {
    let mut flight = lock(flight);
    match flight.get() {
        None => return flight.clone(),
        Some(Ok(sender)) if !sender.is_closed() => return flight.clone(),
        Some(Ok(_)) => balancer.hear(Some(endpoint), &Event::Disconnected),
        Some(Err(_)) => {}
    }
    *flight = Arc::default();
    flight.clone()
}

async fn open<S, F>(
    balancer: &Balancer,
    endpoint: &Endpoint,
    config: &ConnectConfig,
    handshake: impl FnOnce(TcpStream) -> F,
) -> Result<S, Refused>
where
    F: Future<Output = Result<S, hyper::Error>>,
{
    let opened = timeout(config.timeout, async {
        let tcp = dial(&endpoint.addresses()).await?;
        handshake(tcp).await.map_err(io::Error::other)
    });
    let refused = match opened.await {
        Ok(Ok(sender)) => {
            balancer.connected(now(), endpoint);
            return Ok(sender);
        }
        Ok(Err(error)) => Refused(Arc::new(error), Failure::Connect),
        Err(_) => {
            let text = format!("no connection to {} within {:?}", endpoint.name(), config.timeout);
            Refused(Arc::new(io::Error::new(io::ErrorKind::TimedOut, text)), Failure::Connect)
        }
    };
    balancer.unreachable(now(), endpoint, refused.0.clone());
    Err(refused)
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => failed = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(failed)
}

async fn handshake1<B>(tcp: TcpStream) -> Result<http1::SendRequest<B>, hyper::Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (io, flusher) = coalesce(tcp);
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(io)).await?;
    tokio::spawn(flusher.turn(connection));
    Ok(sender)
}

async fn handshake2<B>(tcp: TcpStream) -> Result<http2::SendRequest<B>, hyper::Error>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (io, flusher) = coalesce(tcp);
    let mut builder = http2::Builder::new(flusher.clone());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    tokio::spawn(flusher.turn(connection));
    Ok(sender)
}

/// A stream may run ahead of its reader by this much: the bandwidth-delay product of 1 Gbit/s at 8 ms.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Finds a peer that is gone without a word while calls wait for it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

impl Refused {
    fn into_error(self) -> TransportError {
        TransportError::new(self.1, Reach::NotSent, self)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Says how far a request came that has no response. `stale` tells that it was idempotent and its connection had been
/// used before: the peer may just have closed it (RFC 9112, 9.3.1 allows to repeat such a request).
fn unsent<B>(balancer: &Balancer, mut error: TrySendError<Request<B>>, stale: bool) -> BoxError {
    if error.take_message().is_some() {
        return TransportError::new(Failure::Reset, Reach::NotSent, error.into_error()).into();
    }
    let error = error.into_error();
    if by_sender(&error) {
        let broken = Rejection::new(RejectionKind::RequestBroken, balancer.name().into());
        return broken.with_cause(Arc::new(error)).into();
    }
    if stale && (error.is_incomplete_message() || error.is_closed() || error.is_canceled() || hung_up(&error)) {
        return TransportError::new(Failure::Reset, Reach::Unprocessed, error).into();
    }
    broken(error).into()
}

/// Tells whether the request's body failed, which ends the stream but says nothing about the peer.
fn by_sender(error: &hyper::Error) -> bool {
    match error::find::<h2::Error>(error) {
        // The reset of a body that failed is the only one that we send before there is an answer.
        Some(h2) => h2.is_reset() && !h2.is_remote() && !h2.is_library(),
        None => error.is_user(),
    }
}

/// Tells whether the peer had closed the connection before it got the request, or all of it.
fn hung_up(error: &hyper::Error) -> bool {
    let kind = error::find::<io::Error>(error).map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe))
}

/// Says how far a request came whose stream or connection broke.
///
/// h2 reports a GOAWAY of the peer only for streams beyond the last one that it names, so such an error proves that
/// the stream was not processed (RFC 9113, 6.8).
pub(crate) fn broken(error: hyper::Error) -> TransportError {
    let (failure, reach, reset) = match error::find::<h2::Error>(&error) {
        None if error.is_parse() => (Failure::Protocol, Reach::Processed, None),
        None => (Failure::Reset, Reach::Processed, None),
        Some(h2) => {
            let code = h2.reason().map(u32::from);
            match h2.reason() {
                _ if h2.is_go_away() && h2.is_remote() => (Failure::Reset, Reach::Unprocessed, None),
                Some(h2::Reason::REFUSED_STREAM) if h2.is_remote() => (Failure::Reset, Reach::Unprocessed, code),
                Some(_) if h2.is_remote() && h2.is_reset() => (Failure::Reset, Reach::Processed, code),
                Some(_) if h2.is_library() => (Failure::Protocol, Reach::Processed, code),
                _ => (Failure::Reset, Reach::Processed, None),
            }
        }
    };
    let transport = TransportError::new(failure, reach, error);
    match reset {
        Some(code) => transport.with_reset(code),
        None => transport,
    }
}
