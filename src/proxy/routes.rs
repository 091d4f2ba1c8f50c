//! Which route a request takes: the first of its listener's that matches.

use std::borrow::Cow;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use regex_lite::Regex;

use crate::config::HeaderMatch;
use crate::config::Listener;
use crate::config::RouteMatch;
use crate::error::ConfigError;

/// The routes of a listener, ready to be asked.
#[derive(Clone, Debug)]
pub struct Router(Vec<Matcher>);

#[derive(Clone, Debug)]
struct Matcher {
    path: PathMatcher,
    // Empty for any.
    methods: Vec<Method>,
    host: Option<HostMatcher>,
    headers: Vec<(HeaderName, HeaderMatcher)>,
}

#[derive(Clone, Debug)]
enum PathMatcher {
    Any,
    Prefix(String),
    Exact(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
struct HostMatcher {
    name: String,
    // The name is an ending, of something longer.
    suffix: bool,
    any_port: bool,
}

#[derive(Clone, Debug)]
enum HeaderMatcher {
    Present(bool),
    Exact(String),
    Regex(Regex),
}

impl Router {
    /// Makes a router of a listener's routes.
    ///
    /// # Errors
    /// If a regular expression, a method or a header's name is malformed, which a document that was parsed has not.
    pub fn new(listener: &Listener) -> Result<Self, ConfigError> {
        let matchers = listener.routes.iter().enumerate().map(|(index, route)| {
            Matcher::new(&route.matches).map_err(|error| error.within(&format!("routes[{index}].match")))
        });
        matchers.collect::<Result<_, _>>().map(Self)
    }

    /// Finds the first route for a request and says its place in the listener's list.
    ///
    /// `path` has no query; `host` is the authority as the request names it, with its port.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str, host: Option<&str>, headers: &HeaderMap) -> Option<usize> {
        self.0.iter().position(|matcher| matcher.matches(method, path, host, headers))
    }
}

impl Matcher {
    fn new(rules: &RouteMatch) -> Result<Self, ConfigError> {
        let path = match (&rules.prefix, &rules.path, &rules.regex) {
            (Some(prefix), _, _) => PathMatcher::Prefix(prefix.clone()),
            (None, Some(path), _) => PathMatcher::Exact(path.clone()),
            (None, None, Some(pattern)) => PathMatcher::Regex(regex("regex", pattern)?),
            (None, None, None) => PathMatcher::Any,
        };
        let methods = rules.methods.iter().map(|method| {
            Method::from_bytes(method.as_bytes())
                .map_err(|_| ConfigError::new("methods", method, "a method such as GET"))
        });
        let headers = rules.headers.iter().map(|(name, rule)| {
            let field = format!("headers.{name}");
            let known =
                HeaderName::try_from(name).map_err(|_| ConfigError::new(&field, name, "the name of a header"))?;
            let matcher = match rule {
                HeaderMatch::Exact(value) => HeaderMatcher::Exact(value.clone()),
                HeaderMatch::Present { present } => HeaderMatcher::Present(*present),
                HeaderMatch::Regex { regex: pattern } => HeaderMatcher::Regex(regex(&field, pattern)?),
            };
            Ok((known, matcher))
        });
        Ok(Self {
            path,
            methods: methods.collect::<Result<_, _>>()?,
            host: rules.host.as_deref().map(HostMatcher::new),
            headers: headers.collect::<Result<_, ConfigError>>()?,
        })
    }

    fn matches(&self, method: &Method, path: &str, host: Option<&str>, headers: &HeaderMap) -> bool {
        self.path.matches(path)
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.host.as_ref().is_none_or(|matcher| host.is_some_and(|host| matcher.matches(host)))
            && self.headers.iter().all(|(name, matcher)| matcher.matches(name, headers))
    }
}

// Anchored at both ends: the whole text must match (envoy.md 3.1, `safe_regex`).
fn regex(field: &str, pattern: &str) -> Result<Regex, ConfigError> {
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| ConfigError::new(field, pattern, format!("a regular expression ({error})")))
}

impl PathMatcher {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.as_bytes().starts_with(prefix.as_bytes()),
            Self::Exact(exact) => path == exact,
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

impl HostMatcher {
    fn new(pattern: &str) -> Self {
        let (pattern, any_port) = match pattern.strip_suffix(":*") {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        let (name, suffix) = match pattern.strip_prefix('*') {
            Some(name) => (name, true),
            None => (pattern, false),
        };
        Self { name: name.to_owned(), suffix, any_port }
    }

    fn matches(&self, host: &str) -> bool {
        let host = match host.rsplit_once(':') {
            Some((host, port)) if self.any_port && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        };
        match (self.suffix, host.len().checked_sub(self.name.len())) {
            (false, _) => host.eq_ignore_ascii_case(&self.name),
            // The star stands for at least one letter.
            (true, None | Some(0)) => false,
            (true, Some(start)) => host.as_bytes()[start..].eq_ignore_ascii_case(self.name.as_bytes()),
        }
    }
}

impl HeaderMatcher {
    fn matches(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        let value = joined(name, headers);
        match (self, value) {
            (Self::Present(present), value) => *present == value.is_some(),
            (Self::Exact(_) | Self::Regex(_), None) => false,
            (Self::Exact(exact), Some(value)) => *value == *exact.as_bytes(),
            (Self::Regex(regex), Some(value)) => std::str::from_utf8(&value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

// "several values joined by `,` before matching" - envoy.md 3.1
fn joined<'a>(name: &HeaderName, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut joined = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn router(matches: &[&str]) -> Router {
        let routes: String = matches.iter().map(|rule| format!("{{ cluster: a, match: {rule} }}, ")).collect();
        let listeners = format!("listeners: {{ a: {{ bind: 127.0.0.1:1, routes: [{routes}] }} }}");
        let config =
            Config::parse(&format!("{listeners}\nclusters: {{ a: {{ dns: 'a:1' }} }}"), "test", &|_| None).unwrap();
        Router::new(config.listeners.get("a").unwrap()).unwrap()
    }

    fn paths<const N: usize>(rule: &str, paths: [&str; N]) -> [bool; N] {
        paths.map(|path| router(&[rule]).find(&Method::GET, path, None, &HeaderMap::new()).is_some())
    }

    fn hosts<const N: usize>(rule: &str, hosts: [&str; N]) -> [bool; N] {
        let rule = format!("{{ host: '{rule}' }}");
        hosts.map(|host| router(&[&rule]).find(&Method::GET, "/", Some(host), &HeaderMap::new()).is_some())
    }

    fn with_headers(rules: &[&str], headers: &[(&'static str, &'static str)]) -> Option<usize> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        router(rules).find(&Method::GET, "/", None, &map)
    }

    /// envoy_rt_03
    #[test]
    fn the_first_match_wins() {
        let router = router(&["{ prefix: /ring }", "{ prefix: /ringw }", "{ methods: [POST] }"]);
        let find = |method, path| router.find(&method, path, None, &HeaderMap::new());
        assert_eq!(find(Method::GET, "/ringw"), Some(0));
        assert_eq!(find(Method::POST, "/other"), Some(2));
        assert_eq!(find(Method::GET, "/other"), None);
    }

    /// envoy_rt_04; a path comes without its query, so `/bit?x=1` is `/bit` here.
    #[test]
    fn a_regex_matches_the_whole_path() {
        assert_eq!(paths("{ regex: '/b[io]t' }", ["/bit", "/bot", "/bite", "/a/bit"]), [true, true, false, false]);
        assert_eq!(paths("{ regex: '/a|/b' }", ["/a", "/b", "/ab", "/a/b"]), [true, true, false, false]);
    }

    #[test]
    fn a_prefix_matches_bytes_and_a_path_all_of_them() {
        assert_eq!(
            paths("{ prefix: /foo }", ["/foo", "/foobar", "/foo/", "/fo", "/Foo"]),
            [true, true, true, false, false]
        );
        assert_eq!(paths("{ path: /foo }", ["/foo", "/foo/", "/"]), [true, false, false]);
        assert_eq!(paths("{}", ["/foo", "*"]), [true, true]);
    }

    /// envoy_rt_06
    #[test]
    fn a_header_chooses_the_route() {
        let rules = ["{ headers: { X-Canary: 'true' } }", "{}"];
        assert_eq!(with_headers(&rules, &[("x-canary", "true")]), Some(0));
        assert_eq!(with_headers(&rules, &[("x-canary", "True")]), Some(1));
        assert_eq!(with_headers(&rules, &[]), Some(1));
        assert_eq!(with_headers(&["{ headers: { a: 'b,c' } }"], &[("a", "b"), ("a", "c")]), Some(0));
        assert_eq!(with_headers(&["{ headers: { a: { present: true } } }"], &[("a", "")]), Some(0));
        assert_eq!(with_headers(&["{ headers: { a: { present: false } } }"], &[("a", "")]), None);
        assert_eq!(with_headers(&["{ headers: { a: { regex: 'b+' } } }"], &[("a", "bbb")]), Some(0));
        assert_eq!(with_headers(&["{ headers: { a: { regex: 'b+' } } }"], &[("a", "bbbc")]), None);
        assert_eq!(with_headers(&["{ headers: { a: { regex: 'b*' } } }"], &[]), None);
        assert_eq!(with_headers(&["{ headers: { a: b, c: d } }"], &[("a", "b")]), None);
    }

    /// envoy_rt_01 and envoy_rt_02
    #[test]
    fn a_host_matches_in_any_case_and_with_its_port() {
        assert_eq!(hosts("A.com", ["a.com", "A.COM", "b.com", "a.com:8080"]), [true, true, false, false]);
        assert_eq!(hosts("a.com:*", ["a.com", "a.com:8080", "b.com:80", "a.com:x"]), [true, true, false, false]);
        assert_eq!(hosts("*.com", ["b.Com", ".com", "x.org", "b.com:80"]), [true, false, false, false]);
        assert_eq!(hosts("*.com:*", ["b.com:80", "b.com"]), [true, true]);
        assert_eq!(hosts("[::1]:*", ["[::1]:80", "[::1]"]), [true, true]);
        assert_eq!(router(&["{ host: a }"]).find(&Method::GET, "/", None, &HeaderMap::new()), None);
    }
}
