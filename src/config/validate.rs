//! What types cannot say: ranges, choices of one, and names that must be there.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::ConfigError;

use super::Breaker;
use super::Budget;
use super::Cluster;
use super::Config;
use super::HeaderMatch;
use super::Listener;
use super::Outlier;
use super::Retry;
use super::Route;
use super::RouteMatch;
use super::duration;
use super::error::closest;
use super::error::suggestion;

/// More threads than any machine of today has cores.
const MOST_WORKERS: usize = 1024;

impl Config {
    /// Lists all that is wrong with settings that code has built; what [`Config::parse`] returns has nothing wrong.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut problems = Problems(Vec::new());
        if let Some(workers) = self.workers {
            problems.check(workers.get() <= MOST_WORKERS, "workers", workers, "a whole number from 1 to 1024");
        }
        self.check_addresses(&mut problems);
        for (field, name) in self
            .listeners
            .names()
            .map(|name| ("listeners", name))
            .chain(self.clusters.names().map(|name| ("clusters", name)))
        {
            // Names are labels of metrics.
            let fine = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '$');
            problems.check(
                fine,
                &format!("{field}.{name}"),
                format!("`{name}`"),
                "named with letters, without blanks and `$`",
            );
        }
        for (name, listener) in self.listeners.iter() {
            problems.within(&format!("listeners.{name}"), |problems| listener.check(self, problems));
        }
        for (name, cluster) in self.clusters.iter() {
            problems.within(&format!("clusters.{name}"), |problems| cluster.check(problems));
        }
        problems.0
    }

    fn check_addresses(&self, problems: &mut Problems) {
        let mut taken: HashMap<SocketAddr, String> = HashMap::new();
        if let Some(admin) = self.admin {
            taken.insert(admin, "admin".to_owned());
        }
        for (name, listener) in self.listeners.iter() {
            // Port 0 is a new port each time.
            if listener.bind.port() == 0 {
                continue;
            }
            let field = format!("listeners.{name}.bind");
            match taken.get(&listener.bind) {
                Some(other) => problems.add(field, listener.bind, format!("another address than that of {other}")),
                None => drop(taken.insert(listener.bind, field)),
            }
        }
    }
}

impl Listener {
    fn check(&self, config: &Config, problems: &mut Problems) {
        problems.check(!self.routes.is_empty(), "routes", "an empty list", "at least one route");
        for (index, route) in self.routes.iter().enumerate() {
            problems.within(&format!("routes[{index}]"), |problems| route.check(config, problems));
        }
    }
}

impl Route {
    fn check(&self, config: &Config, problems: &mut Problems) {
        if config.clusters.get(&self.cluster).is_none() {
            let names: Vec<&str> = config.clusters.names().collect();
            let hint = suggestion(closest(&self.cluster, names.iter().copied()));
            let allowed = match names.is_empty() {
                true => "the name of a cluster, of which there is none".to_owned(),
                false => format!("the name of a cluster: {}{hint}", names.join(", ")),
            };
            problems.add("cluster", format!("`{}`", self.cluster), allowed);
        }
        problems.within("match", |problems| self.matches.check(problems));
        if let Some(retry) = &self.retry {
            problems.within("retry", |problems| retry.check(problems));
        }
    }
}

impl RouteMatch {
    fn check(&self, problems: &mut Problems) {
        let paths = [("prefix", &self.prefix), ("path", &self.path), ("regex", &self.regex)];
        let given: Vec<&str> = paths.iter().filter(|(_, path)| path.is_some()).map(|(name, _)| *name).collect();
        if let [_, second, ..] = given[..] {
            let value = format!("there beside {}", given[0]);
            problems.add(second, value, "the only one of prefix, path and regex");
        }
        for (name, path) in [("prefix", &self.prefix), ("path", &self.path)] {
            let Some(path) = path else { continue };
            // `*` is the path of `OPTIONS *`.
            let allowed = "a path that begins with `/` and has no `?` or `#`";
            let fine = (path.starts_with('/') || path == "*") && !path.contains(['?', '#', ' ']);
            problems.check(fine, name, format!("`{path}`"), allowed);
        }
        if let Some(regex) = &self.regex {
            problems.check_regex("regex", regex);
        }
        problems.check_methods("methods", &self.methods);
        if let Some(host) = &self.host {
            let name = host.strip_prefix('*').unwrap_or(host);
            let name = name.strip_suffix(":*").unwrap_or(name);
            let fine = !name.is_empty() && !name.contains(['*', '/', '@', ' ']);
            problems.check(
                fine,
                "host",
                format!("`{host}`"),
                "a host such as a.example, a.example:8080, a.example:* or *.example",
            );
        }
        for (name, header) in self.headers.iter() {
            let field = format!("headers.{name}");
            // A token: RFC 9110, 5.6.2.
            let fine = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
            problems.check(fine, &field, format!("`{name}`"), "named as a header can be (RFC 9110, 5.1)");
            if let HeaderMatch::Regex { regex } = header {
                problems.check_regex(&format!("{field}.regex"), regex);
            }
        }
    }
}

impl Retry {
    fn check(&self, problems: &mut Problems) {
        problems.0.extend(self.problems());
        problems.check(!self.on.is_empty(), "on", "an empty list", "at least one word, such as unavailable");
        if let Some(per_try) = self.per_try_timeout {
            problems.check_positive("per_try_timeout", per_try);
        }
        problems.check(!self.methods.is_empty(), "methods", "an empty list", "at least one method");
        problems.check_methods("methods", &self.methods);
    }
}

impl Cluster {
    fn check(&self, problems: &mut Problems) {
        match (self.endpoints.is_empty(), &self.dns) {
            (true, None) => problems.add("endpoints", "an empty list", "at least one host:port, unless `dns` is there"),
            (false, Some(dns)) => problems.add("dns", format!("`{dns}`"), "left out, since `endpoints` is there"),
            (true, Some(_)) | (false, None) => {}
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let fine = !self.endpoints[..index].contains(endpoint);
            problems.check(fine, &format!("endpoints[{index}]"), format!("`{endpoint}`"), "there only once");
        }
        problems.check_positive("connect_timeout", self.connect_timeout);
        let limits = &self.limits;
        problems.check(
            limits.max_requests >= 1,
            "limits.max_requests",
            limits.max_requests,
            "a whole number, at least 1",
        );
        for (name, found) in [
            ("budget", self.budget.as_ref().map(Budget::problems)),
            ("outlier", self.outlier.as_ref().map(Outlier::problems)),
            ("breaker", self.breaker.as_ref().map(Breaker::problems)),
        ] {
            problems.within(name, |problems| problems.0.extend(found.into_iter().flatten()));
        }
    }
}

struct Problems(Vec<ConfigError>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) {
        self.0.push(ConfigError::new(field, value, allowed));
    }

    fn check(&mut self, fine: bool, field: &str, value: impl fmt::Display, allowed: &str) {
        if !fine {
            self.add(field, value, allowed);
        }
    }

    fn check_positive(&mut self, field: &str, value: Duration) {
        self.check(!value.is_zero(), field, duration::format(value), "more than 0");
    }

    fn check_methods(&mut self, field: &str, methods: &[String]) {
        for (index, method) in methods.iter().enumerate() {
            // Methods are case-sensitive (RFC 9110, 9.1): `get` would never match.
            let fine = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            self.check(
                fine,
                &format!("{field}[{index}]"),
                format!("`{method}`"),
                "a method in capital letters, such as GET",
            );
        }
    }

    fn check_regex(&mut self, field: &str, regex: &str) {
        if let Err(error) = regex_lite::Regex::new(regex) {
            self.add(field, format!("`{regex}`"), format!("a regular expression ({error})"));
        }
    }

    // What `check` adds is about fields of `parent`.
    fn within(&mut self, parent: &str, check: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        check(&mut inner);
        self.0.extend(inner.0.into_iter().map(|problem| problem.within(parent)));
    }
}
