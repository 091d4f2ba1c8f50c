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

mod breaker;
mod cluster;
mod condition;
mod document;
mod duration;
mod error;
mod expand;
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
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

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
pub use self::listener::DEFAULT_TIMEOUT;
pub use self::listener::HeaderMatch;
pub use self::listener::Listener;
pub use self::listener::Route;
pub use self::listener::RouteMatch;
pub use self::named::Named;
pub use self::retry::Backoff;
pub use self::retry::Retry;
pub use self::text::ByteSize;
pub use self::text::HostPort;
pub use self::text::Malformed;

/// The whole document.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the admin pages are served (readiness, metrics, this document), an IP address and a port. Default: nowhere.
    #[serde(with = "text::socket::optional")]
    pub admin: Option<SocketAddr>,
    /// How many worker threads there are, at least 1. Default: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// Where a line for each call goes: `json` is standard output, `{ path: FILE }` a file. Default: nowhere.
    pub access_log: Option<AccessLog>,
    /// What comes in, by name.
    pub listeners: Named<Listener>,
    /// Where it goes, by name.
    pub clusters: Named<Cluster>,
}

/// Where a line for each call goes, as JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum AccessLog {
    /// To standard output.
    #[serde(rename = "json")]
    Stdout,
    /// To the end of this file, which is made if it is not there.
    #[serde(rename = "path")]
    File(PathBuf),
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
}
