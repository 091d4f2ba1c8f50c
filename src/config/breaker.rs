//! When an endpoint is left in peace for a while.

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
    /// The share of failures in the window that opens the breaker. Default 0.5, more than 0 and at most 1. `off` looks at
    /// `consecutive_failures` only, which must then be there.
    #[serde(with = "rate_or_off")]
    pub failure_rate: Option<f64>,
    /// How many calls the window must hold before their rate says anything. Default 20, from 1 to 1,000,000.
    pub min_calls: u32,
    /// How far back calls are counted. Default `10s`, from 1 ms to 1 day.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How many failures in a row open the breaker, whatever the rate is. Default: none do. From 1 to 1,000,000. Suits
    /// endpoints with little traffic.
    pub consecutive_failures: Option<u32>,
    /// How long the breaker stays open: `5s`, or `{ start: 5s, max: 60s }` for a time that doubles with each failed probe.
    pub open_for: OpenFor,
    /// How many calls try out whether the endpoint is well again; their failure rate decides. Default 5, from 1 to 1000.
    pub half_open_permits: u32,
}

/// How long a breaker stays open.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct OpenFor {
    /// How long it stays open the first time, give or take some so that many proxies do not try at once. Default `5s`,
    /// from 1 ms to 1 day.
    #[serde(with = "duration")]
    pub start: Duration,
    /// How long it can stay open. Default `60s`, or `start` if that is longer; the same as `start` where only one time
    /// is written. At most 1 day.
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
            failure_rate: Some(0.5),
            min_calls: 20,
            window: Duration::from_secs(10),
            consecutive_failures: None,
            open_for: OpenFor::default(),
            half_open_permits: 5,
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

/// A fraction that may be `off`, for serde's `with`.
mod rate_or_off {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;
    use serde::de::Unexpected;

    pub(super) fn serialize<S: Serializer>(rate: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match rate {
            Some(rate) => serializer.serialize_f64(*rate),
            None => serializer.serialize_str("off"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"`off` or a fraction from 0 to 1"))
    }
}
