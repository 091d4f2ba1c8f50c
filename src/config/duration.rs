//! Durations as people write them: `250ms`, `2s`, `1m30s`, `0.25s`. For serde's `with`.

use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serializer;
use serde::de::Error as _;
use serde::de::Unexpected;

/// What a duration must be, for messages.
pub(crate) const ALLOWED: &str = "a duration with a unit, at most ten years, such as 250ms, 2s or 1m30s";

/// No timer needs more, and sums of a few of these never overflow an `Instant`.
pub(crate) const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Reads a duration; `0` needs no unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST)
}

/// Writes a duration the way [`parse`] reads it, without blanks: `1m30s`.
pub(crate) fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &ALLOWED))
}

/// A duration that may be left out.
pub(crate) mod optional {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Text(#[serde(with = "super")] Duration);
        Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(duration)| duration))
    }
}

/// A duration that may be `off`; nothing at all, `0s`, means the same.
pub(crate) mod or_off {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error as _;
    use serde::de::Unexpected;

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_str("off"),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(None);
        }
        match super::parse(&text) {
            Some(duration) => Ok((!duration.is_zero()).then_some(duration)),
            None => {
                let allowed = format!("`off` or {}", super::ALLOWED);
                Err(D::Error::invalid_value(Unexpected::Str(&text), &allowed.as_str()))
            }
        }
    }
}
