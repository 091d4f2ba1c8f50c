//! The words of a retry's `on` list, for serde's `with`.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde::de::Unexpected;

use crate::policy::Condition;
use crate::policy::Conditions;

pub(crate) fn serialize<S: Serializer>(conditions: &Conditions, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(conditions.iter().map(Word))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Conditions, D::Error> {
    let words = Vec::<Word>::deserialize(deserializer)?;
    Ok(words.into_iter().map(|Word(condition)| condition).collect())
}

struct Word(Condition);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Condition::Status(status) => serializer.serialize_u16(status),
            word => serializer.collect_str(&word),
        }
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error: crate::error::ConfigError| {
            D::Error::invalid_value(Unexpected::Str(&text), &error.allowed())
        })
    }
}
