//! Settings that can be switched off as a whole: `off`, `on` (all defaults), or a map. For serde's `with`.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::Unexpected;
use serde::de::value::MapAccessDeserializer;

pub(crate) fn serialize<T: Serialize, S: Serializer>(settings: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match settings {
        Some(settings) => settings.serialize(serializer),
        None => serializer.serialize_str("off"),
    }
}

pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Visitor(PhantomData))
}

struct Visitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> serde::de::Visitor<'de> for Visitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`on`, `off` or a map of settings")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Option<T>, E> {
        Ok(on.then(T::default))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        match text {
            "on" | "true" => Ok(Some(T::default())),
            "off" | "false" => Ok(None),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}
