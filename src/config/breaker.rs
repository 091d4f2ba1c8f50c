//! When a whole cluster is left in peace for a while.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Unexpected;
use serde::de::value::MapAccessDeserializer;

use super::duration;

/// A circuit breaker: when it opens, and how it closes again.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// The share of failures in the window that opens the breaker. Default 0.5, more than 0 and at most 1.
    pub failure_rate: f64,
    /// How many calls the window must hold before their rate says anything. Default 20, at least 1.
    pub min_calls: u32,
    /// How far back calls are counted. Default `10s`.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How many failures in a row open the breaker, whatever the rate is. Default: none do.
    pub consecutive_failures: Option<u32>,
    /// How long the breaker stays open: `5s`, or `{ start: 5s, max: 60s }` for a time that doubles with each failed probe.
    pub open_for: OpenFor,
    /// How many calls at once try out whether the cluster is well again, all of which must succeed. Default 1.
    pub half_open_permits: u32,
}

/// How long a breaker stays open.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct OpenFor {
    /// How long it stays open the first time. Default `5s`.
    #[serde(with = "duration")]
    pub start: Duration,
    /// How long it can stay open. Default `60s`, or `start` if that is longer; the same as `start` where only one time
    /// is written.
    #[serde(with = "duration")]
    pub max: Duration,
}

impl OpenFor {
    /// Stays open for the same time every time.
    #[must_use]
    pub fn constant(duration: Duration) -> Self {
        Self { start: duration, max: duration }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            min_calls: 20,
            window: Duration::from_secs(10),
            consecutive_failures: None,
            open_for: OpenFor::default(),
            half_open_permits: 1,
        }
    }
}

impl Default for OpenFor {
    fn default() -> Self {
        Self { start: Duration::from_secs(5), max: Duration::from_secs(60) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OpenForFields {
    #[serde(with = "duration")]
    start: Duration,
    #[serde(with = "duration::optional")]
    max: Option<Duration>,
}

impl Default for OpenForFields {
    fn default() -> Self {
        Self { start: OpenFor::default().start, max: None }
    }
}

impl<'de> Deserialize<'de> for OpenFor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = OpenFor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or {{ start: 5s, max: 60s }}", duration::ALLOWED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OpenFor, E> {
        match duration::parse(text) {
            Some(duration) => Ok(OpenFor::constant(duration)),
            None => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OpenFor, A::Error> {
        let OpenForFields { start, max } = OpenForFields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(OpenFor { start, max: max.unwrap_or(OpenFor::default().max.max(start)) })
    }
}
