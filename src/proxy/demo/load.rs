//! The client's side of the demo: the same calls at the same pace, whoever answers them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;
use tokio::time::timeout;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::BoxError;
use crate::proto::demo::v1::HelloRequest;
use crate::proto::demo::v1::greeter_client::GreeterClient;
use crate::time::Instant;
use crate::time::now;

/// How long a caller waits for one answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// Sends unary calls at a steady rate to one address after the other.
///
/// An open loop: a slow answer does not hold back the next call, and time is counted from the moment a call was due. A
/// closed loop would ask less of a struggling server and so flatter it.
pub(super) struct Load {
    clients: Vec<GreeterClient<Channel>>,
    per_second: u32,
}

/// How the calls of a load went.
#[derive(Debug, Default)]
pub(super) struct Tally {
    latencies: Vec<Duration>,
    failed: usize,
}

impl Load {
    /// Prepares so many calls per second to these addresses; connects when the first call is made.
    pub(super) fn new(targets: impl IntoIterator<Item = SocketAddr>, per_second: u32) -> Result<Self, BoxError> {
        let mut clients = Vec::new();
        for target in targets {
            let endpoint = Endpoint::from_shared(format!("http://{target}"))?.connect_timeout(DEADLINE);
            clients.push(GreeterClient::new(endpoint.connect_lazy()));
        }
        Ok(Self { clients, per_second: per_second.max(1) })
    }

    /// Makes calls for this long and waits for their answers.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls that are under way.
    pub(super) async fn run(&self, time: Duration) -> Tally {
        let end = now() + time;
        let mut clock = interval(Duration::from_secs(1) / self.per_second);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = JoinSet::new();
        let mut tally = Tally::default();
        for client in self.clients.iter().cycle() {
            let due = clock.tick().await;
            if due >= end {
                break;
            }
            calls.spawn(call(client.clone(), due));
            while let Some(Ok(ended)) = calls.try_join_next() {
                tally.add(ended);
            }
        }
        while let Some(Ok(ended)) = calls.join_next().await {
            tally.add(ended);
        }
        tally.latencies.sort_unstable();
        tally
    }
}

struct Ended {
    ok: bool,
    took: Duration,
}

async fn call(mut client: GreeterClient<Channel>, due: Instant) -> Ended {
    let mut request = Request::new(HelloRequest { name: "world".to_owned(), replies: 0 });
    request.set_timeout(DEADLINE);
    let answer = timeout(DEADLINE, client.say_hello(request)).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the caller gave up")));
    Ended { ok: answer.is_ok(), took: now().saturating_duration_since(due) }
}

impl Tally {
    fn add(&mut self, ended: Ended) {
        self.latencies.push(ended.took);
        self.failed += usize::from(!ended.ok);
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> usize {
        self.latencies.len()
    }

    /// How many of them did not get their answer.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// How long the `fraction` quickest calls took at most, good or bad: 0.99 gives p99. Zero if there were none.
    ///
    /// The nearest rank: a time that some call really took.
    pub(super) fn percentile(&self, fraction: f64) -> Duration {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (self.latencies.len() as f64 * fraction).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let tally = Tally { latencies: (1..=200).map(Duration::from_millis).collect(), failed: 0 };
        assert_eq!(tally.percentile(0.5), Duration::from_millis(100));
        assert_eq!(tally.percentile(0.99), Duration::from_millis(198));
        assert_eq!(tally.percentile(0.999), Duration::from_millis(200));
        assert_eq!(Tally::default().percentile(0.5), Duration::ZERO);
    }
}
