//! The four upstreams of the demo, and the drill they go through.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep_until;

use crate::proxy::demo::greeter::Manners;
use crate::proxy::demo::greeter::Tail;
use crate::proxy::demo::upstream::Upstream;
use crate::time::now;

/// When the dying upstream goes away and when it comes back, as fractions of a run.
const AWAY: (f64, f64) = (0.4, 0.75);

/// One upstream that is well, and three each with a trouble of its own.
pub(super) struct Fleet {
    steady: [Upstream; 3],
    dying: Upstream,
}

impl Fleet {
    /// Starts all four on free loopback ports. Two fleets behave alike: the seeds are always the same.
    pub(super) fn start() -> io::Result<Self> {
        let usual = Duration::from_millis(3);
        let healthy = Manners { latency: usual, seed: 1, ..Manners::new("healthy") };
        let flaky = Manners { latency: usual, seed: 2, unavailable: 0.3, ..Manners::new("flaky") };
        let tail = Tail { share: 0.05, from: Duration::from_millis(300), to: Duration::from_millis(900) };
        let slow = Manners { latency: usual, seed: 3, tail: Some(tail), ..Manners::new("slow") };
        let dying = Manners { latency: usual, seed: 4, ..Manners::new("dying") };
        let start = |manners| Upstream::start(manners, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(Self { steady: [start(healthy)?, start(flaky)?, start(slow)?], dying: start(dying)? })
    }

    /// Name and address of each upstream.
    pub(super) fn members(&self) -> Vec<(String, SocketAddr)> {
        let all = self.steady.iter().chain([&self.dying]);
        all.map(|upstream| (upstream.name().to_owned(), upstream.address())).collect()
    }

    /// Lets the dying upstream die and come back in the course of this long.
    pub(super) async fn drill(&mut self, time: Duration) -> io::Result<()> {
        let start = now();
        sleep_until(start + time.mul_f64(AWAY.0)).await;
        self.dying.kill();
        sleep_until(start + time.mul_f64(AWAY.1)).await;
        self.dying.revive()?;
        sleep_until(start + time).await;
        Ok(())
    }
}
