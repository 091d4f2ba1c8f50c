//! Requests that hyper takes and a proxy does not.

use http::Method;
use http::StatusCode;
use http::Version;
use http::header::HOST;
use http::header::UPGRADE;
use http::request::Parts;

/// Finds what makes a request too ambiguous to be passed on. hyper lets these through.
///
/// A Content-Length beside a Transfer-Encoding is gone by now: `proxy::inspect` looks for it in what is received.
pub(crate) fn malformed(head: &Parts) -> Option<(StatusCode, &'static str)> {
    match head.version {
        Version::HTTP_2 => return None,
        Version::HTTP_11 => {}
        _ => return Some((StatusCode::UPGRADE_REQUIRED, "HTTP/1.1 or HTTP/2 is required")),
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => {}
        (None, _) => return Some((StatusCode::BAD_REQUEST, "the request has no Host header")),
        (Some(_), Some(_)) => return Some((StatusCode::BAD_REQUEST, "the request has more than one Host header")),
    }
    // A custom method is a valid token, and more often the rest of a request that was read wrongly.
    if METHODS.binary_search(&head.method.as_str()).is_err() {
        return Some((StatusCode::BAD_REQUEST, "the request's method is not a known one"));
    }
    let path = head.uri.path().starts_with('/');
    if !path && head.method != Method::CONNECT && (head.method != Method::OPTIONS || head.uri.path() != "*") {
        return Some((StatusCode::BAD_REQUEST, "the request's target does not begin with a slash"));
    }
    if head.headers.get_all(UPGRADE).iter().any(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Some((StatusCode::FORBIDDEN, "no upgrade of the protocol is possible"));
    }
    None
}

/// The registered methods, and some that are in wide use; sorted.
const METHODS: [&str; 43] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];
