//! Reads the proxy's own figures from its admin address, as Prometheus would.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http::StatusCode;
use http::header::HOST;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::BoxError;

/// How long the admin address may take to answer: it is in this process.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the proxy counted, over all its clusters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) attempts: u64,
    pub(super) retries: u64,
    pub(super) ejections: u64,
    pub(super) breaker_trips: u64,
}

impl Counts {
    /// Asks the admin address.
    pub(super) async fn scrape(admin: SocketAddr) -> Result<Self, BoxError> {
        let text =
            timeout(PATIENCE, get(admin, "/metrics")).await.map_err(|_| "no answer from the admin address")??;
        Self::read(&text)
    }

    // What rarely happens may have no series yet. Calls and attempts have happened, or something is wrong.
    fn read(text: &str) -> Result<Self, BoxError> {
        let must = |metric: &str| sum(text, metric).ok_or_else(|| format!("/metrics has no `{metric}`"));
        Ok(Self {
            calls: must("mainstay_calls_total")?,
            attempts: must("mainstay_attempts_total")?,
            retries: sum(text, "mainstay_retries_total").unwrap_or(0),
            ejections: sum(text, "mainstay_ejections_total").unwrap_or(0),
            breaker_trips: sum(text, "mainstay_breaker_opens_total").unwrap_or(0),
        })
    }

    /// How many attempts a call took on average. Zero if there was no call.
    pub(super) fn attempts_per_call(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let (calls, attempts) = (self.calls as f64, self.attempts as f64);
        if self.calls == 0 { 0.0 } else { attempts / calls }
    }
}

/// Adds up a counter over all its labels. None if there is no such counter.
fn sum(text: &str, metric: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| line.strip_prefix(metric));
    let values = samples.filter(|rest| rest.starts_with(['{', ' '])).filter_map(value);
    values.reduce(u64::saturating_add)
}

/// The value of a sample whose name has been cut off. A label's value may hold a brace, but what follows them may not.
fn value(sample: &str) -> Option<u64> {
    let after_labels = sample.rsplit_once('}').map_or(sample, |(_, rest)| rest);
    let value: f64 = after_labels.split_whitespace().next()?.parse().ok()?;
    // The text format has floating point numbers only. The cast saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = value.round() as u64;
    Some(count)
}

async fn get(address: SocketAddr, path: &str) -> Result<String, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("{address}{path} answered {status}").into());
        }
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.into())?)
    };
    // The connection ends when the exchange has dropped its sender; what goes wrong on it fails the exchange.
    let (text, _) = tokio::join!(exchange, connection);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_over_their_labels() {
        let text = "# TYPE mainstay_calls_total counter\n\
                    mainstay_calls_total{cluster=\"a\",route=\"r {x}\"} 40\n\
                    mainstay_calls_total{cluster=\"b\"} 60 1700000000\n\
                    mainstay_calls_total_seconds 7\n\
                    mainstay_attempts_total 125\n";
        let counts = Counts::read(text).expect("calls and attempts are there");
        assert_eq!(counts, Counts { calls: 100, attempts: 125, ..Counts::default() });
        assert!((counts.attempts_per_call() - 1.25).abs() < f64::EPSILON);
    }

    #[test]
    fn metrics_without_calls_are_not_taken_for_zero() {
        assert!(Counts::read("mainstay_attempts_total 1\n").is_err());
    }
}
