//! Where a line for each call goes.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Unexpected;
use serde::de::value::MapAccessDeserializer;

/// Where a line for each call goes, as JSON.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub enum AccessLog {
    /// To standard output, written `json`.
    #[serde(rename = "json")]
    Stdout,
    /// To the end of this file, which is made if it is not there. Written `{ path: FILE }`.
    #[serde(rename = "path")]
    File(PathBuf),
}

impl<'de> Deserialize<'de> for AccessLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    path: PathBuf,
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = AccessLog;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`json` or { path: FILE }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AccessLog, E> {
        match text {
            "json" => Ok(AccessLog::Stdout),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AccessLog, A::Error> {
        let Fields { path } = Fields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(AccessLog::File(path))
    }
}
