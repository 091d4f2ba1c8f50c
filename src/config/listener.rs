//! What comes in: listeners, their routes, and which requests a route is for.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;

use super::Named;
use super::Retry;
use super::duration;
use super::text;

/// A port to listen on, and where its requests go.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address to listen on, an IP address and a port. Required. Port 0 lets the system choose one. HTTP/1.1 and
    /// HTTP/2 without TLS share the port. No two listeners, nor the admin, may have the same one.
    #[serde(with = "text::socket")]
    pub bind: SocketAddr,
    /// The routes, of which the first that matches takes the request. Required, at least one. A request that none
    /// matches is answered with 404, a gRPC call with UNIMPLEMENTED.
    pub routes: Vec<Route>,
}

/// Which requests go to which cluster, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Which requests this route is for. Default: all of them.
    #[serde(rename = "match", default)]
    pub matches: RouteMatch,
    /// The name of the cluster that gets the requests. Required.
    pub cluster: String,
    /// How long the whole call may take, all its attempts and the pauses between them included. Default `15s`; `off`
    /// or `0s` is no limit, for streams that last. An earlier `grpc-timeout` of the caller wins.
    #[serde(with = "duration::or_off", default = "default_timeout")]
    pub timeout: Option<Duration>,
    /// What is tried again. Default: only what provably never reached a server.
    #[serde(default)]
    pub retry: Option<Retry>,
}

/// Which requests a route is for: all that is given must hold; nothing given is every request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteMatch {
    /// What the path begins with, byte for byte: `/foo` is also for `/foobar`. Begins with `/`. At most one of
    /// `prefix`, `path` and `regex` may be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The whole path, without the query. Begins with `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A regular expression that the whole path, without the query, must match. Without Unicode classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// The methods, in capital letters. Default: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// What the headers must hold, by name. Names in any case. A header that comes several times counts as one, its
    /// values joined with commas.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub headers: Named<HeaderMatch>,
    /// The authority the request is for, in any case: `a.example` exactly, so not `a.example:8080`; `a.example:*` with
    /// any port or none; `*.example` for all that end so. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What one header must hold: an exact value, `{ present: true }`, or `{ regex: ... }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum HeaderMatch {
    /// The value is this, byte for byte.
    Exact(String),
    /// The header is there (`true`) or is not (`false`).
    Present {
        /// Whether it must be there.
        present: bool,
    },
    /// The whole value matches this regular expression.
    Regex {
        /// The expression. Without Unicode classes.
        regex: String,
    },
}

/// How long a call may take if its route does not say: as Envoy's routes.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

fn default_timeout() -> Option<Duration> {
    Some(DEFAULT_TIMEOUT)
}

impl Route {
    /// A route for every request to the cluster called `cluster`, with all defaults.
    #[must_use]
    pub fn to(cluster: impl Into<String>) -> Self {
        Self { matches: RouteMatch::default(), cluster: cluster.into(), timeout: default_timeout(), retry: None }
    }
}

// By hand, since serde's untagged enums lose both the place and the reason of an error.
impl<'de> Deserialize<'de> for HeaderMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeaderVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum HeaderFields {
    Present(bool),
    Regex(String),
}

struct HeaderVisitor;

impl<'de> serde::de::Visitor<'de> for HeaderVisitor {
    type Value = HeaderMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, { present: true } or { regex: ... }")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<HeaderMatch, E> {
        Ok(HeaderMatch::Exact(value.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderMatch, A::Error> {
        Ok(match HeaderFields::deserialize(MapAccessDeserializer::new(map))? {
            HeaderFields::Present(present) => HeaderMatch::Present { present },
            HeaderFields::Regex(regex) => HeaderMatch::Regex { regex },
        })
    }
}
