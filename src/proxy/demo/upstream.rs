//! Upstreams that can die: each has a thread and a runtime of its own, so that all its connections go down with it.

use std::io;
use std::net::SocketAddr;
use std::thread;

use tokio::net::TcpSocket;
use tokio::runtime;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::proto::demo::v1::greeter_server::GreeterServer;
use crate::proxy::demo::greeter::Greeter;
use crate::proxy::demo::greeter::Manners;

/// A `Greeter` server on a loopback port that stays its own while it is dead.
///
/// Dropping it kills it.
pub struct Upstream {
    manners: Manners,
    address: SocketAddr,
    // Bound and never listening. It keeps others, above all outgoing connections, from taking the port while the server
    // is away; the server shares it through SO_REUSEADDR.
    _seat: TcpSocket,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Upstream {
    /// Starts a server on `address`, where port 0 means any free one.
    ///
    /// # Errors
    /// When the address cannot be bound or the thread not be started.
    pub fn start(manners: Manners, address: SocketAddr) -> io::Result<Self> {
        let seat = bind(address)?;
        let address = seat.local_addr()?;
        let mut upstream = Self { manners, address, _seat: seat, running: None };
        upstream.revive()?;
        Ok(upstream)
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manners.name
    }

    /// Where it listens, dead or alive.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server as the end of a process would: the listener and every connection close at once, and whatever
    /// was running is lost. Blocks until that is done, which is a matter of microseconds. Does nothing to a dead one.
    pub fn kill(&mut self) {
        let Some(running) = self.running.take() else { return };
        let _ = running.stop.send(());
        let _ = running.thread.join();
    }

    /// Starts the server again on the same port. Does nothing to a living one.
    ///
    /// # Errors
    /// When the address cannot be bound or the thread not be started.
    pub fn revive(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            bind(self.address)?.listen(1024)?
        };
        let greeter = GreeterServer::new(Greeter::new(self.manners.clone()));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(self.manners.name.clone()).spawn(move || {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            runtime.block_on(async {
                tokio::select! {
                    _ = Server::builder().add_service(greeter).serve_with_incoming(incoming) => {}
                    _ = stopped => {}
                }
            });
        })?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
