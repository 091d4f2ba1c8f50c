//! Servers on loopback, in the runtime of the test.

#![allow(dead_code)] // each test binary uses a part of it

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use mainstay::Channel;
use mainstay::client::ChannelBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::kit::*;

/// An HTTP/2 server that answers the n-th request as a closure says.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    hits: Arc<AtomicUsize>,
    connections: Census,
    task: JoinHandle<()>,
}

impl Site {
    pub(crate) async fn start(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (hits, connections) = (Arc::new(AtomicUsize::new(0)), Census::default());
        let (counted, open, act) = (hits.clone(), connections.clone(), Arc::new(act));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (alive, counted, act) = (open.enter(), counted.clone(), act.clone());
                let service = service_fn(move |_: Request<Incoming>| {
                    let act = act(counted.fetch_add(1, Ordering::Relaxed));
                    async move { Ok::<_, Infallible>(perform(act).await) }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                serving.spawn(async move {
                    let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
                    drop(alive);
                });
            }
        });
        Self { address, hits, connections, task }
    }

    pub(crate) async fn ok() -> Self {
        Self::start(|_| Act::Reply(grpc_reply(0))).await
    }

    pub(crate) async fn failing() -> Self {
        Self::start(|_| Act::Reply(trailers_only(13))).await
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.alive()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn perform(act: Act) -> Reply {
    match act {
        Act::Reply(reply) => reply,
        Act::After(time, reply) => {
            tokio::time::sleep(time).await;
            reply
        }
        _ => std::future::pending().await,
    }
}

/// An address where nobody listens: a port that was bound and is not listened on, kept so that nobody takes it.
pub(crate) fn nobody() -> (SocketAddr, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    (socket.local_addr().expect("it is bound"), socket)
}

pub(crate) fn builder(addresses: impl IntoIterator<Item = SocketAddr>) -> ChannelBuilder {
    let list: Vec<_> = addresses.into_iter().map(|address| address.to_string()).collect();
    Channel::builder(format!("static:///{}", list.join(",")))
}

/// Calls, reads the answer, and gives its gRPC status.
pub(crate) async fn ask(channel: &mut Channel<Plain>) -> u8 {
    let (_, grpc) = answer(channel, grpc_request()).await.expect("a channel answers");
    grpc.expect("a status")
}

/// Waits until something holds, for at most a minute of paused time.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(ms(1)).await;
    }
    panic!("never: {what}");
}
