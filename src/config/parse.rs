//! From the text of a document to settings, or to all that is wrong with it.

use std::collections::HashMap;

use crate::error::ConfigError;

use super::Config;
use super::ConfigErrors;
use super::DocumentError;
use super::document::Node;
use super::document::Step;
use super::document::Value;
use super::document::join;
use super::error::Position;
use super::expand::Lookup;
use super::expand::expand;
use super::read::ReadError;
use super::read::Refusal;
use super::read::read;

impl Config {
    /// Reads a document in YAML or JSON.
    ///
    /// `name` is what errors call the document; `env` says what an environment variable holds, or that it is not set.
    ///
    /// # Errors
    /// All that is wrong with the document: its syntax (then nothing else), variables that are not set, fields that are
    /// unknown, missing or of the wrong type, values out of their range, and names of clusters that are not there.
    ///
    /// # Examples
    /// ```
    /// use mainstay::config::Config;
    ///
    /// let document = "
    /// listeners:
    ///   ingress: { bind: 127.0.0.1:10000, routes: [{ cluster: orders, timeout: 500ms }] }
    /// clusters:
    ///   orders: { protocol: http2, dns: \"${ORDERS:-orders.local}:50051\" }
    /// ";
    /// let config = Config::parse(document, "mesh.yaml", &|_| None)?;
    /// let orders = config.clusters.get("orders").expect("the document has it");
    /// assert_eq!(orders.dns.as_ref().unwrap().host(), "orders.local");
    ///
    /// let wrong = Config::parse("clusters: { orders: { endpoint: [] } }", "mesh.yaml", &|_| None);
    /// let message = wrong.unwrap_err().to_string();
    /// assert!(message.starts_with("mesh.yaml:1:23: clusters.orders.endpoint: unknown field (did you mean `endpoints`?)"));
    /// # Ok::<(), mainstay::config::ConfigErrors>(())
    /// ```
    pub fn parse(text: &str, name: &str, env: Lookup<'_>) -> Result<Self, ConfigErrors> {
        let mut document =
            Document { root: Node::parse(text, name)?, file: name, errors: Vec::new(), misspelt: Vec::new() };
        document.check_root()?;
        expand(&mut document.root, "", env, name, &mut document.errors);
        let Some(config) = document.read() else { return Err(ConfigErrors::new(document.errors)) };
        document.check(&config);
        match document.errors.is_empty() {
            true => Ok(config),
            false => Err(ConfigErrors::new(document.errors)),
        }
    }
}

struct Document<'a> {
    root: Node,
    file: &'a str,
    errors: Vec<DocumentError>,
    // The fields that were probably meant where an unknown one is.
    misspelt: Vec<String>,
}

impl Document<'_> {
    fn check_root(&mut self) -> Result<(), DocumentError> {
        match &mut self.root.value {
            Value::Map(entries) => {
                entries.retain(|entry| !entry.key.starts_with("x-"));
                Ok(())
            }
            Value::Null => Err(DocumentError::message(self.file, None, String::new(), "the document is empty")),
            _ => {
                let message =
                    "the document must be a map with the fields admin, workers, access_log, listeners, clusters";
                Err(DocumentError::message(self.file, Some(self.root.at), String::new(), message))
            }
        }
    }

    // Serde stops at the first error. So that all are found, what was wrong is dropped and the rest is read again;
    // each turn drops a node, so this ends.
    fn read(&mut self) -> Option<Config> {
        loop {
            match read(&self.root) {
                Ok(config) => return Some(config),
                Err(error) => {
                    if !self.refuse(error) {
                        return None;
                    }
                }
            }
        }
    }

    // Reports an error and drops its node. False if nothing is left to read.
    fn refuse(&mut self, error: ReadError) -> bool {
        let field = path_of(&error.path);
        let Some(node) = self.root.find_mut(&error.path) else { return false };
        let mut in_part = false;
        node.walk("", &mut |_, node| in_part |= matches!(node.value, Value::Dropped));
        let message = error.to_string();
        let report = match error.what {
            // A field that is only missing because it was wrong or misspelt is reported already.
            Refusal::Missing(name) => {
                let field = join(&field, &Step::Key(name.to_owned()));
                let known = is_dropped(node, name) || self.misspelt.contains(&field);
                (!known).then(|| DocumentError::message(self.file, error.position, field, message))
            }
            Refusal::Unknown { meant, .. } => {
                let parent = path_of(&error.path[..error.path.len().saturating_sub(1)]);
                self.misspelt.extend(meant.map(|name| join(&parent, &Step::Key(name.to_owned()))));
                Some(DocumentError::message(self.file, error.position, field, message))
            }
            Refusal::Value { .. } if in_part => None,
            Refusal::Value { value, allowed } => {
                Some(DocumentError::value_of(self.file, error.position, &ConfigError::new(field, value, allowed)))
            }
            Refusal::Message(_) => Some(DocumentError::message(self.file, error.position, field, message)),
        };
        self.errors.extend(report);
        let progress = !error.path.is_empty() && !matches!(node.value, Value::Dropped);
        node.value = Value::Dropped;
        progress
    }

    fn check(&mut self, config: &Config) {
        let problems = config.problems();
        if problems.is_empty() {
            return;
        }
        let mut places: HashMap<String, Position> = HashMap::new();
        let mut dropped: Vec<String> = Vec::new();
        self.root.walk("", &mut |path, node| {
            places.insert(path.to_owned(), node.at);
            if matches!(node.value, Value::Dropped) {
                dropped.push(path.to_owned());
            }
        });
        for problem in problems {
            // What is wrong only because it was misspelt, or because a part of it was dropped, is no news.
            let field = problem.field();
            let cluster = format!("clusters.{}", problem.value().trim_matches('`'));
            let excuses =
                |path: &String| is_within(path, field) || field.ends_with(".cluster") && is_within(&cluster, path);
            if dropped.iter().chain(&self.misspelt).any(excuses) {
                continue;
            }
            let position = ancestors(field).find_map(|path| places.get(path)).copied();
            self.errors.push(DocumentError::value_of(self.file, position, &problem));
        }
    }
}

fn path_of(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |path, step| join(&path, step))
}

fn is_dropped(node: &Node, name: &str) -> bool {
    let Value::Map(entries) = &node.value else { return false };
    entries.iter().any(|entry| entry.key == name && matches!(entry.node.value, Value::Dropped))
}

fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

// The field itself, then what it is part of: a value that holds by default has no place of its own.
fn ancestors(field: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(field), |path| path.rfind(['.', '[']).map(|end| &path[..end]).or(Some("")))
        .take(field.len() + 1)
}
