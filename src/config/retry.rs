//! What a route tries again, how often, and how long it waits in between.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::policy::Condition;
use crate::policy::Conditions;

use super::ByteSize;
use super::condition;
use super::duration;

/// What is tried again, and how.
///
/// A call of which nothing has reached a server is always tried again; this is about the others.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often a call is tried in all, the first time included. Default 3, from 1 to 100.
    pub max_attempts: u32,
    /// After which ends of an attempt there is another one, at least one: gRPC statuses (`unavailable`), HTTP statuses
    /// (`503`, `5xx`), and what happened to the connection (`connect-failure`, `reset`); [`Condition`](crate::policy::Condition)
    /// has all the words. Default `unavailable`, `connect-failure` and `refused-stream`.
    #[serde(with = "condition")]
    pub on: Conditions,
    /// How long one attempt may take, more than 0. Default: as long as the call has left. Should be shorter than the
    /// route's timeout.
    #[serde(with = "duration::optional")]
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
    /// The HTTP methods that may be tried again after a server has seen them. Default: the ones that RFC 9110 (9.2.2) calls
    /// idempotent; name `POST` to have it too. gRPC calls do not ask this: naming a retry in their route is the consent.
    pub methods: Vec<String>,
    /// How much of a request's body is kept for another attempt. Default `64KiB`. A call with a longer body is no longer
    /// tried again once it has sent more than this. Raising it costs up to that much memory for each call in flight.
    pub buffer: ByteSize,
}

/// Exponential waits with full jitter: a random time up to `base`, then up to twice that, and so on up to `max`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "BackoffFields")]
pub struct Backoff {
    /// The longest the first wait can be. Default `25ms`.
    #[serde(with = "duration")]
    pub base: Duration,
    /// The longest that any wait can be. Default: ten times `base`.
    #[serde(with = "duration")]
    pub max: Duration,
}

// What a document may leave out, where one default depends on another field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BackoffFields {
    #[serde(with = "duration")]
    base: Duration,
    #[serde(with = "duration::optional")]
    max: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            on: [Condition::Unavailable, Condition::ConnectFailure, Condition::RefusedStream].into(),
            per_try_timeout: None,
            backoff: Backoff::default(),
            methods: ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].map(str::to_owned).to_vec(),
            buffer: ByteSize(64 << 10),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        BackoffFields::default().into()
    }
}

impl Default for BackoffFields {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: None }
    }
}

impl From<BackoffFields> for Backoff {
    fn from(BackoffFields { base, max }: BackoffFields) -> Self {
        Self { base, max: max.unwrap_or(base.saturating_mul(10)) }
    }
}
