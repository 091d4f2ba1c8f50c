//! Settings that are allowed and yet hardly meant.

use std::fmt;

use super::Cluster;
use super::Config;
use super::Listener;
use super::Route;
use super::RouteMatch;
use super::duration;

/// Something in the settings that is allowed and yet hardly meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    field: String,
    message: String,
}

impl Warning {
    /// The path of the field, such as `listeners.ingress.routes[1]`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Looks for settings that are allowed and yet hardly meant.
#[must_use]
pub fn lint(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (name, listener) in config.listeners.iter() {
        for (index, route) in listener.routes.iter().enumerate() {
            let field = format!("listeners.{name}.routes[{index}]");
            shadowed(listener, index, &field, &mut warnings);
            if let Some(cluster) = config.clusters.get(&route.cluster) {
                retries(route, cluster, &field, &mut warnings);
            }
        }
    }
    for (name, cluster) in config.clusters.iter() {
        let field = format!("clusters.{name}");
        if !config.listeners.is_empty() && !uses(config, name) {
            warn(&mut warnings, field.clone(), "no route leads to it");
        }
        endpoints(cluster, &field, &mut warnings);
    }
    warnings
}

fn uses(config: &Config, cluster: &str) -> bool {
    config.listeners.iter().any(|(_, listener)| listener.routes.iter().any(|route| route.cluster == cluster))
}

// envoy.md 3.1: the first match wins, so `/ring` before `/ringw` takes all of it.
fn shadowed(listener: &Listener, index: usize, field: &str, warnings: &mut Vec<Warning>) {
    let route = &listener.routes[index].matches;
    if let Some(earlier) = listener.routes[..index].iter().position(|earlier| covers(&earlier.matches, route)) {
        warn(
            warnings,
            field.to_owned(),
            format!("unreachable: routes[{earlier}] comes first and takes all its requests"),
        );
    }
}

// Whether every request that `later` is for is one that `earlier` is for. Says no where that is not plain to see.
fn covers(earlier: &RouteMatch, later: &RouteMatch) -> bool {
    let later_path = later.path.as_ref().or(later.prefix.as_ref());
    let path = match (&earlier.prefix, &earlier.path, &earlier.regex) {
        (Some(prefix), _, _) => {
            prefix == "/" && later.regex.is_none() || later_path.is_some_and(|path| path.starts_with(prefix))
        }
        (None, Some(path), _) => later.path.as_ref() == Some(path),
        (None, None, Some(regex)) => later.regex.as_ref() == Some(regex),
        (None, None, None) => true,
    };
    let methods = earlier.methods.is_empty()
        || !later.methods.is_empty() && later.methods.iter().all(|method| earlier.methods.contains(method));
    let headers = earlier.headers.iter().all(|(name, value)| {
        later.headers.iter().any(|(other, wanted)| other.eq_ignore_ascii_case(name) && wanted == value)
    });
    let host = match (&earlier.host, &later.host) {
        (None, _) => true,
        (Some(earlier), Some(later)) => earlier.eq_ignore_ascii_case(later),
        (Some(_), None) => false,
    };
    path && methods && headers && host
}

fn retries(route: &Route, cluster: &Cluster, field: &str, warnings: &mut Vec<Warning>) {
    let Some(retry) = &route.retry else { return };
    let per_try = retry.per_try_timeout;
    if let (Some(per_try), Some(timeout)) = (per_try, route.timeout) {
        let (one, all) = (duration::format(per_try), duration::format(timeout));
        let attempts = retry.max_attempts;
        if per_try >= timeout {
            let message =
                format!("{one} is not shorter than the route's timeout of {all}, so there is no time for a retry");
            warn(warnings, format!("{field}.retry.per_try_timeout"), message);
        } else if per_try.saturating_mul(attempts) > timeout {
            let message = format!("{attempts} attempts of {one} each take longer than the route's timeout of {all}");
            warn(warnings, format!("{field}.retry.max_attempts"), message);
        }
    }
    if retry.max_attempts == 1 {
        warn(warnings, format!("{field}.retry.max_attempts"), "1 is the first attempt, so nothing is tried again");
    }
    if cluster.budget.is_none() && cluster.limits.max_retries.is_none() {
        let message =
            format!("no budget and no limits.max_retries in `{}`: retries can multiply an outage", route.cluster);
        warn(warnings, format!("{field}.retry"), message);
    }
    for (index, method) in retry.methods.iter().enumerate() {
        // RFC 9110, 9.2.2
        if matches!(method.as_str(), "POST" | "PATCH" | "CONNECT") {
            let message = format!("{method} is not idempotent: what it does may happen twice");
            warn(warnings, format!("{field}.retry.methods[{index}]"), message);
        }
    }
}

fn endpoints(cluster: &Cluster, field: &str, warnings: &mut Vec<Warning>) {
    // It is on by default, so only worth a word where somebody has set it.
    if cluster.outlier != Cluster::default().outlier && cluster.outlier.is_some() && cluster.endpoints.len() == 1 {
        let message = "ejects nothing: the last endpoint always stays, and there is only one";
        warn(warnings, format!("{field}.outlier"), message);
    }
}

fn warn(warnings: &mut Vec<Warning>, field: String, message: impl Into<String>) {
    warnings.push(Warning { field, message: message.into() });
}
