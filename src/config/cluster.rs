//! Where requests go: a cluster is a set of endpoints that serve the same, and what protects them.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::policy::BudgetConfig;
use crate::policy::OutlierConfig;

use super::Breaker;
use super::HostPort;
use super::duration;
use super::switch;

/// Endpoints that serve the same, and what protects them and their callers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// What is spoken to the endpoints. Default `http1`; gRPC needs `http2`.
    pub protocol: Protocol,
    /// The endpoints, `host:port` each, no two alike; a host is a name or an address. Exactly one of `endpoints` and `dns`
    /// must be given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<HostPort>,
    /// A name, `host:port`, each address of which is an endpoint. It is looked up again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<HostPort>,
    /// How long making a connection may take. Default `1s`. More than 0.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How an endpoint is picked. Default: `p2c` for `http2`, `round_robin` for `http1`.
    pub balance: Option<Balance>,
    /// How many retries there may be beside the calls. Default on; `off` leaves only `limits.max_retries`.
    #[serde(with = "switch")]
    pub budget: Option<Budget>,
    /// How much may be in flight at once.
    pub limits: Limits,
    /// When an endpoint that fails is left out for a while. Default on, `off` never leaves one out.
    #[serde(with = "switch")]
    pub outlier: Option<Outlier>,
    /// When an endpoint is left in peace for a while; each has a breaker of its own. Default `off`; `on` takes all
    /// defaults.
    #[serde(with = "switch")]
    pub breaker: Option<Breaker>,
}

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, one call at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2 without TLS, many calls at a time on a connection.
    Http2,
}

/// How an endpoint is picked for an attempt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Of two random ones, the one with less to do.
    P2c,
    /// One after the other.
    RoundRobin,
}

/// How many retries there may be, as a share of the calls.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// How many retries each call pays for. Default 0.2: one retry for five calls. 0, or from 0.001 to
    /// 1000.
    pub ratio: f64,
    /// How many retries a second there may be however few the calls are. Default 10.
    pub min_per_second: u32,
}

/// How much may be in flight at once, counted over all workers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many attempts may be in flight in the cluster. Default 1024, at least 1. Others are refused, not queued.
    pub max_requests: u32,
    /// How many of them may be retries. Default: no limit beside the budget. 0 allows none.
    pub max_retries: Option<u32>,
}

/// When an endpoint that fails is left out for a while (ejected).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outlier {
    /// How many failures in a row eject an endpoint. Default 5, from 1 to 1,000,000.
    pub consecutive_failures: u32,
    /// How long an endpoint must do well after an ejection for its next one to be a step shorter. Default `10s`, from 1 ms
    /// to 1 day.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long the first ejection lasts; the second lasts twice as long, the third three times, and so on.
    /// Default `30s`, from 1 ms to 1 day.
    #[serde(with = "duration")]
    pub base_ejection_time: Duration,
    /// How long an ejection can last. Default `300s`, from `base_ejection_time` to 1 day.
    #[serde(with = "duration")]
    pub max_ejection_time: Duration,
    /// How much of the cluster may be ejected at once, in percent. Default 10, from 1 to 100. One endpoint always may be,
    /// the last one never.
    pub max_ejection_percent: u32,
}

impl Cluster {
    /// How an endpoint is picked, as given or by default.
    #[must_use]
    pub fn balance(&self) -> Balance {
        match (self.balance, self.protocol) {
            (Some(balance), _) => balance,
            (None, Protocol::Http1) => Balance::RoundRobin,
            (None, Protocol::Http2) => Balance::P2c,
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            endpoints: Vec::new(),
            dns: None,
            connect_timeout: Duration::from_secs(1),
            balance: None,
            budget: Some(Budget::default()),
            limits: Limits::default(),
            outlier: Some(Outlier::default()),
            breaker: None,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        let BudgetConfig { ratio, min_per_second, .. } = BudgetConfig::default();
        Self { ratio, min_per_second }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_requests: 1024, max_retries: None }
    }
}

impl Default for Outlier {
    fn default() -> Self {
        let policy = OutlierConfig::default();
        Self {
            consecutive_failures: policy.consecutive_failures,
            interval: policy.interval,
            base_ejection_time: policy.base_ejection_time,
            max_ejection_time: policy.max_ejection_time,
            max_ejection_percent: policy.max_ejection_percent,
        }
    }
}
