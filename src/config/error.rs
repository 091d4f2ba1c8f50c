//! What is wrong with a document, and where.

use std::error::Error;
use std::fmt;

use crate::error::ConfigError;

/// One thing that is wrong with a document.
///
/// Prints as one line, with the place first in the form that editors and terminals make a link of:
///
/// ```text
/// mesh.yaml:31:21: clusters.greeter.breaker.failure_rate is 1.5, but it must be more than 0 and at most 1
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocumentError(Box<Problem>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Problem {
    file: String,
    position: Option<Position>,
    field: String,
    what: What,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum What {
    // A value out of its range.
    Value { value: String, allowed: String },
    // Anything else, in words.
    Message(String),
}

/// A place in a document, counted from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl DocumentError {
    pub(crate) fn message(file: &str, position: Option<Position>, field: String, message: impl Into<String>) -> Self {
        Self::new(file, position, field, What::Message(message.into()))
    }

    pub(crate) fn value_of(file: &str, position: Option<Position>, error: &ConfigError) -> Self {
        let what = What::Value { value: error.value().to_owned(), allowed: error.allowed().to_owned() };
        Self::new(file, position, error.field().to_owned(), what)
    }

    fn new(file: &str, position: Option<Position>, field: String, what: What) -> Self {
        Self(Box::new(Problem { file: file.to_owned(), position, field, what }))
    }

    /// The name of the document: its path, or what the caller of [`Config::parse`](super::Config::parse) called it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The line, from 1, unless the error is about the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<u64> {
        self.0.position.map(|position| position.line)
    }

    /// The column, from 1 and in characters, unless the error is about the file as a whole.
    #[must_use]
    pub fn column(&self) -> Option<u64> {
        self.0.position.map(|position| position.column)
    }

    /// The path of the field, such as `clusters.greeter.endpoints[0]`; empty if the error is not about one.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// The value that was refused, if the error is about a value.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        match &self.0.what {
            What::Value { value, .. } => Some(value),
            What::Message(_) => None,
        }
    }

    /// What is allowed instead, if the error is about a value.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        match &self.0.what {
            What::Value { allowed, .. } => Some(allowed),
            What::Message(_) => None,
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.file)?;
        if let Some(Position { line, column }) = self.0.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        match &self.0.what {
            What::Value { value, allowed } => write!(f, "{} is {value}, but it must be {allowed}", self.0.field),
            What::Message(message) if self.0.field.is_empty() => f.write_str(message),
            What::Message(message) => write!(f, "{}: {message}", self.0.field),
        }
    }
}

impl Error for DocumentError {}

/// All that is wrong with a document, at least one thing, in the order of the document.
///
/// Prints as one line each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors(Vec<DocumentError>);

impl ConfigErrors {
    pub(crate) fn new(mut errors: Vec<DocumentError>) -> Self {
        errors.sort_by_key(|error| (error.line(), error.column()));
        Self(errors)
    }

    /// Walks the errors in the order of the document.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &DocumentError> {
        self.0.iter()
    }
}

impl From<DocumentError> for ConfigErrors {
    fn from(error: DocumentError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

/// The known word that is closest to the unknown one, if it is close.
pub(crate) fn closest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // As rustc: a third of the letters may differ.
    let limit = unknown.chars().count() / 3;
    let near = known.into_iter().map(|word| (distance(unknown, word), word)).filter(|(far, _)| *far <= limit);
    near.min().map(|(_, word)| word)
}

/// How a message names the closest word.
pub(crate) fn suggestion(closest: Option<&str>) -> String {
    closest.map(|word| format!(" (did you mean `{word}`?)")).unwrap_or_default()
}

/// How many letters to insert, remove, replace, or swap with their neighbour (Damerau and Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut table = vec![vec![0; to.len() + 1]; from.len() + 1];
    for i in 0..=from.len() {
        for j in 0..=to.len() {
            if i == 0 || j == 0 {
                table[i][j] = i + j;
                continue;
            }
            let replaced = table[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            table[i][j] = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                table[i][j] = table[i][j].min(table[i - 2][j - 2] + 1);
            }
        }
    }
    table[from.len()][to.len()]
}
