//! A document as a tree in which every node knows its place in the text.
//!
//! The YAML library resolves anchors, aliases and merge keys, refuses duplicate keys and bounds depth and size; the tree
//! keeps scalars as text. What a scalar means is decided by the field that it is read into (`read.rs`), after its
//! variables are in (`expand.rs`): that is why the library does not read the settings' types itself.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde_saphyr::DuplicateKeyPolicy;
use serde_saphyr::Location;
use serde_saphyr::MessageFormatter;
use serde_saphyr::Spanned;
use serde_saphyr::UserMessageFormatter;

use super::error::DocumentError;
use super::error::Position;

/// A value and its place. What came through an alias or a merge key has the place where it is written.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing: `~`, `null`, or no value at all.
    Null,
    /// One word or text; `quoted` tells "" from nothing.
    Scalar { text: String, quoted: bool },
    /// A list.
    List(Vec<Node>),
    /// A map, in its order.
    Map(Vec<Entry>),
    /// Something wrong that is already reported. Readers pass over it.
    Dropped,
}

/// One key of a map and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// One step from a node to a node in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Twice as deep as any document of ours. The library's reader is recursive and takes 36 KiB of stack for each level
/// in a debug build, so its own limit is more than a thread has.
const DEEPEST: usize = 20;
/// As many nodes as some thousand clusters have; what comes through an alias counts each time.
const MOST: usize = 200_000;

impl Node {
    /// Reads YAML, of which JSON is a part.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::Error,
            with_snippet: false,
            emit_comments: false,
            reject_non_finite_typeless_float: false,
            budget: serde_saphyr::budget! { max_depth: DEEPEST, max_events: MOST },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST },
        };
        let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let position = error.location().filter(|location| *location != Location::UNKNOWN).map(position);
            DocumentError::message(file, position, String::new(), reason(&error))
        })?;
        Ok(raw.into_node(text))
    }

    /// Finds the node that a path leads to.
    pub(crate) fn find_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let child = match (&mut self.value, step) {
            (Value::Map(entries), Step::Key(key)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Value::List(nodes), Step::Index(index)) => nodes.get_mut(*index),
            _ => None,
        };
        child?.find_mut(rest)
    }

    /// Walks this node and all in it, with the path of each as messages print it.
    pub(crate) fn walk<'a>(&'a self, path: &str, visit: &mut impl FnMut(&str, &'a Self)) {
        visit(path, self);
        match &self.value {
            Value::Null | Value::Scalar { .. } | Value::Dropped => {}
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    node.walk(&join(path, &Step::Index(index)), visit);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    entry.node.walk(&join(path, &Step::Key(entry.key.clone())), visit);
                }
            }
        }
    }
}

/// Says what is wrong with the syntax. The library's messages about its limits are for developers, so those are ours.
fn reason(error: &serde_saphyr::Error) -> String {
    let message = UserMessageFormatter.format_message(error);
    if message.contains("Depth {") || message.contains("recursion limit") {
        return "the document is nested too deeply".to_owned();
    }
    if message.contains("breached") || message.contains("limit exceeded") {
        return "the document is too large, with what comes through its aliases".to_owned();
    }
    message.into_owned()
}

/// Prints a path: `clusters.greeter.endpoints[0]`.
pub(crate) fn join(path: &str, step: &Step) -> String {
    match step {
        Step::Key(key) if path.is_empty() => key.clone(),
        Step::Key(key) => format!("{path}.{key}"),
        Step::Index(index) => format!("{path}[{index}]"),
    }
}

// What the library hands over before places and texts are put in order.
enum Raw {
    Null,
    // A string, after escapes.
    Text(String),
    // A scalar that YAML reads as a number or a truth value: its text is in the document.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait IntoNode {
    fn into_node(self, text: &str) -> Node;
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, text: &str) -> Node {
        let source = source(text, self.defined);
        let value = match self.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => {
                Value::Scalar { text, quoted: source.is_some_and(|source| source.starts_with(['"', '\'', '|', '>'])) }
            }
            Raw::Typed(typed) => {
                // As written, so that messages print 0.50 as 0.50, and so that a header's value 1.10 stays 1.10.
                Value::Scalar { text: source.map_or(typed, |source| source.trim().to_owned()), quoted: false }
            }
            Raw::List(nodes) => Value::List(nodes.into_iter().map(|node| node.into_node(text)).collect()),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry { at: position(key.defined), key: key.value, node: node.into_node(text) })
                    .collect(),
            ),
        };
        Node { at: position(self.defined), value }
    }
}

fn source(text: &str, location: Location) -> Option<&str> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    text.get(start..end)
}

fn position(location: Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Raw::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
