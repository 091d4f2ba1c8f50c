//! Reads settings from a document's tree: a serde deserializer over [`Node`].
//!
//! A scalar is read as what its field asks for, so `${WORKERS:-2}` and `"2"` are numbers where a number is wanted.

use std::fmt;

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error as _;
use serde::de::Expected;
use serde::de::IntoDeserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;
use serde::de::value::StrDeserializer;
use serde::forward_to_deserialize_any;

use super::document::Entry;
use super::document::Node;
use super::document::Step;
use super::document::Value;
use super::error::Position;
use super::error::closest;
use super::error::suggestion;

/// Why a node could not be read, and where it is.
#[derive(Debug)]
pub(crate) struct ReadError {
    pub(crate) what: Refusal,
    /// From the innermost step to the outermost, until the outermost reader turns it.
    pub(crate) path: Vec<Step>,
    pub(crate) position: Option<Position>,
}

/// Why a node could not be read.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A value where something else is allowed.
    Value { value: String, allowed: String },
    /// A field that has to be there is not.
    Missing(&'static str),
    /// A field that is not known, and the known one that is probably meant.
    Unknown { known: &'static [&'static str], meant: Option<&'static str> },
    /// Anything else.
    Message(String),
}

/// Reads a tree.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(node: &'a Node) -> Result<T, ReadError> {
    T::deserialize(Reader(node)).map_err(|mut error| {
        error.path.reverse();
        error
    })
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl<'a> Reader<'a> {
    // The innermost place wins: outer readers only add their step to the path.
    fn here<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|mut error| {
            error.position.get_or_insert(self.0.at);
            error
        })
    }

    fn unexpected(self) -> Unexpected<'a> {
        match &self.0.value {
            Value::Null | Value::Dropped => Unexpected::Other("empty"),
            Value::Scalar { text, .. } => Unexpected::Str(text),
            Value::List(_) => Unexpected::Other("a list"),
            Value::Map(_) => Unexpected::Other("a map"),
        }
    }

    fn refuse<T>(self, allowed: &dyn Expected) -> Result<T, ReadError> {
        self.here(Err(ReadError::invalid_value(self.unexpected(), allowed)))
    }

    fn number<V: Visitor<'a>, N: std::str::FromStr>(
        self,
        visit: impl FnOnce(N) -> Result<V::Value, ReadError>,
        allowed: &dyn Expected,
    ) -> Result<V::Value, ReadError> {
        let Value::Scalar { text, .. } = &self.0.value else { return self.refuse(allowed) };
        match text.parse() {
            Ok(number) => self.here(visit(number)),
            Err(_) => self.refuse(allowed),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Null | Value::Dropped => self.refuse(&visitor as &dyn Expected),
            Value::Scalar { text, .. } => self.here(visitor.visit_borrowed_str(text)),
            Value::List(nodes) => self.here(visitor.visit_seq(List(nodes.iter().enumerate()))),
            Value::Map(entries) => self.here(visitor.visit_map(Map { entries: entries.iter(), value: None })),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number::<V, bool>(|value| visitor.visit_bool(value), &"true or false")
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number::<V, i64>(|value| visitor.visit_i64(value), &"a whole number")
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number::<V, u64>(|value| visitor.visit_u64(value), &"a whole number, 0 or more")
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number::<V, u32>(|value| visitor.visit_u32(value), &"a whole number from 0 to 4294967295")
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.number::<V, f64>(|value| visitor.visit_f64(value), &"a number")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Scalar { text, .. } => self.here(visitor.visit_enum(text.as_str().into_deserializer())),
            _ => self.refuse(&one_of(variants).as_str()),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::List(_) => self.deserialize_any(visitor),
            _ => self.refuse(&"a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => self.refuse(&"a map"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Map(_) => self.deserialize_any(visitor),
            _ => self.refuse(&format!("a map with the fields {}", fields.join(", ")).as_str()),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.value {
            Value::Scalar { .. } => self.deserialize_any(visitor),
            _ => self.refuse(&"a single value"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct List<'a>(std::iter::Enumerate<std::slice::Iter<'a, Node>>);

impl<'a> SeqAccess<'a> for List<'a> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, node)) = self.0.find(|(_, node)| !matches!(node.value, Value::Dropped)) else {
            return Ok(None);
        };
        seed.deserialize(Reader(node)).map(Some).map_err(|error| error.within(node.at, Step::Index(index)))
    }
}

struct Map<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Map<'a> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let entry = self.entries.find(|entry| !matches!(entry.node.value, Value::Dropped));
        let Some(entry) = entry else { return Ok(None) };
        self.value = Some(entry);
        let key: StrDeserializer<'_, ReadError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.of_key().within(entry.at, Step::Key(entry.key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let entry = self.value.take().expect("serde asks for a key before its value");
        seed.deserialize(Reader(&entry.node)).map_err(|error| error.within(entry.node.at, Step::Key(entry.key.clone())))
    }
}

impl ReadError {
    fn new(what: Refusal) -> Self {
        Self { what, path: Vec::new(), position: None }
    }

    // What was read stands at `at`, a step away from what is around it.
    fn within(mut self, at: Position, step: Step) -> Self {
        self.position.get_or_insert(at);
        self.path.push(step);
        self
    }

    // Where serde reads a key as one of several variants, the key is an unknown field to the reader.
    fn of_key(mut self) -> Self {
        if let Refusal::Value { allowed, .. } = self.what {
            self.what = Refusal::Message(format!("unknown field; it must be {allowed}"));
        }
        self
    }
}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Refusal::Message(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::invalid_value(unexpected, allowed)
    }

    fn invalid_value(unexpected: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        // For serde, a type that cannot be 0 has a name of its own.
        let allowed = match allowed.to_string() {
            nonzero if nonzero.starts_with("a nonzero ") => "a whole number, at least 1".to_owned(),
            allowed => allowed,
        };
        let value = match unexpected {
            Unexpected::Str(text) => format!("`{text}`"),
            Unexpected::Other(text) => text.to_owned(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Map => "a map".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        Self::new(Refusal::Value { value, allowed })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Refusal::Value { value: format!("`{variant}`"), allowed: one_of(expected) })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Refusal::Unknown { known: expected, meant: closest(field, expected.iter().copied()) })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Refusal::Missing(field))
    }
}

fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Refusal::Value { value, allowed } => write!(f, "{value}, but it must be {allowed}"),
            Refusal::Missing(_) => f.write_str("this field is missing"),
            Refusal::Unknown { known, meant } => {
                write!(f, "unknown field{}; known here: {}", suggestion(*meant), known.join(", "))
            }
            Refusal::Message(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}
