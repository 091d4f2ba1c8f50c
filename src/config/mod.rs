//! The policy document: every setting of every service, in one YAML or JSON file or built in code.
//!
//! [`Config::parse`] reads a document; [`Config`] and the types in it are plain values with public fields, so that code
//! can build the same without one. The proxy and the library take the same types.
//!
//! What the reader adds to YAML:
//!
//! - `${VAR}` in a value is replaced by the environment variable, `${VAR:-default}` has a default for one that is not set,
//!   and `$$` is a dollar sign. The replacement happens within one value: whatever a variable holds, it adds no field.
//! - Merge keys (`<<: *anchor`, or a list of them) work; what the map itself holds wins.
//! - Top-level keys that begin with `x-` are free, as a place for anchors.
//! - A field that nobody reads is an error, and so is one that is there twice.
//!
//! All that is wrong is reported at once, each with its place in the file: see [`ConfigErrors`].

mod access_log;
mod breaker;
mod cluster;
mod condition;
mod document;
mod duration;
mod error;
mod expand;
mod lint;
mod listener;
mod load;
mod named;
mod parse;
mod policies;
mod read;
mod retry;
mod switch;
mod text;
mod validate;

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde::Deserialize;
use serde::Serialize;

use crate::error::BoxError;

pub use self::access_log::AccessLog;
pub use self::breaker::Breaker;
pub use self::breaker::OpenFor;
pub use self::cluster::Balance;
pub use self::cluster::Budget;
pub use self::cluster::Cluster;
pub use self::cluster::Limits;
pub use self::cluster::Outlier;
pub use self::cluster::Protocol;
pub use self::error::ConfigErrors;
pub use self::error::DocumentError;
pub use self::lint::Warning;
pub use self::lint::lint;
pub use self::listener::DEFAULT_TIMEOUT;
pub use self::listener::HeaderMatch;
pub use self::listener::Listener;
pub use self::listener::Route;
pub use self::listener::RouteMatch;
pub use self::named::Named;
pub use self::retry::Backoff;
pub use self::retry::Retry;
pub use self::text::ByteSize;
pub use self::text::Malformed;
pub use crate::host_port::HostPort;

/// The whole document.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the admin pages are served (readiness, metrics, this document), an IP address and a port. Default: nowhere.
    #[serde(with = "text::socket::optional")]
    pub admin: Option<SocketAddr>,
    /// How many worker threads there are, from 1 to 1024. Default: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// Where a line for each call goes: `json` is standard output, `{ path: FILE }` a file. Default: nowhere.
    pub access_log: Option<AccessLog>,
    /// What comes in, by name.
    pub listeners: Named<Listener>,
    /// Where it goes, by name. A name, here and of a listener, has no blanks and no `$`.
    pub clusters: Named<Cluster>,
}

impl Config {
    /// The same settings with every default written out that depends on another field.
    ///
    /// Serialized, it is the list of all settings that hold, and a document that reads back to the same.
    #[must_use]
    pub fn effective(&self) -> Self {
        let mut effective = self.clone();
        for cluster in effective.clusters.values_mut() {
            cluster.balance = Some(cluster.balance());
        }
        effective
    }

    /// Writes the settings as a document that [`parse`](Self::parse) reads back to the same.
    ///
    /// # Errors
    /// Only if a path in them is not UTF-8.
    pub fn to_yaml(&self) -> Result<String, BoxError> {
        let yaml = serde_saphyr::to_string(self)?;
        let mut out = String::with_capacity(yaml.len());
        let mut letters = yaml.chars().peekable();
        while let Some(letter) = letters.next() {
            out.push(letter);
            // Where a reader would see a variable, or one dollar sign in two.
            if letter == '$' && matches!(letters.peek(), Some('$' | '{')) {
                out.push('$');
            }
        }
        Ok(out)
    }
}
