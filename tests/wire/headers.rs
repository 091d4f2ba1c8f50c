//! The header rules of a proxy.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use mainstay::protocol::headers;
use proptest::prelude::*;

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn stripped(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = map(lines);
    headers::strip_hop_by_hop(&mut headers);
    headers
}

#[test]
fn grpc_is_known_by_its_content_type() {
    let cases = [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("Application/GRPC+json", true),
        ("application/grpc-web", false),
        ("application/grpcx", false),
        ("application/grp", false),
        ("application/json", false),
        ("", false),
    ];
    for (value, expected) in cases {
        assert_eq!(headers::is_grpc(&map(&[("content-type", value)])), expected, "{value}");
    }
    assert!(!headers::is_grpc(&HeaderMap::new()));
}

#[test]
fn hop_by_hop_headers_are_stripped_and_all_others_kept() {
    let kept = [("host", "a"), ("content-type", "application/grpc"), ("trailer", "x-sum"), ("x-a", "1"), ("x-a", "2")];
    let mut lines = kept.to_vec();
    lines.extend([
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ]);
    assert_eq!(stripped(&lines), map(&kept));
}

#[test]
fn what_connection_names_is_stripped_whatever_its_case_and_in_every_line() {
    let headers = stripped(&[
        ("connection", "X-One,  x-two ,, bad name"),
        ("connection", "x-three, Connection"),
        ("connection", "x-five"),
        ("x-five", "5"),
        ("x-one", "1"),
        ("x-one", "again"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("x-four", "4"),
    ]);
    assert_eq!(headers, map(&[("x-four", "4")]));
}

#[test]
fn a_name_that_is_none_hides_no_other() {
    let mut headers = map(&[("x-one", "1"), ("x-two", "2")]);
    headers.insert("connection", HeaderValue::from_bytes(b"\xff, x-one, x\xc3\xbc").expect("it is a header value"));
    headers::strip_hop_by_hop(&mut headers);
    assert_eq!(headers, map(&[("x-two", "2")]));
}

#[test]
fn of_te_only_trailers_is_kept() {
    for lines in [
        [("te", "trailers"), ("x", "y")].as_slice(),
        &[("te", "gzip, Trailers"), ("x", "y")],
        &[("te", "gzip"), ("te", "trailers"), ("x", "y")],
        &[("connection", "TE"), ("te", "trailers"), ("x", "y")],
    ] {
        assert_eq!(stripped(lines), map(&[("te", "trailers"), ("x", "y")]), "{lines:?}");
    }
    for value in ["gzip", "trailersx", ""] {
        assert_eq!(stripped(&[("te", value)]), HeaderMap::new(), "{value}");
    }
}

#[test]
fn addresses_are_appended_in_one_line() {
    let cases: [(&[&'static str], &'static str, &str); 5] = [
        (&[], "192.0.2.5", "192.0.2.5"),
        (&["203.0.113.1"], "192.0.2.5", "203.0.113.1, 192.0.2.5"),
        (&["203.0.113.1, 203.0.113.2", "203.0.113.3"], "192.0.2.5", "203.0.113.1, 203.0.113.2, 203.0.113.3, 192.0.2.5"),
        (&[""], "192.0.2.5", "192.0.2.5"),
        (&["a"], "2001:db8::1", "a, 2001:db8::1"),
    ];
    for (before, address, after) in cases {
        let mut headers = HeaderMap::new();
        for value in before {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        headers::append_forwarded_for(&mut headers, &HeaderValue::from_static(address));
        let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(values, [after], "{before:?}");
    }
}

proptest! {
    #[test]
    fn rules_are_total_and_leave_nothing_hop_by_hop(
        lines in proptest::collection::vec((0usize..8, proptest::collection::vec(any::<u8>(), 0..24)), 0..12),
    ) {
        const NAMES: [&str; 8] =
            ["connection", "te", "keep-alive", "x-forwarded-for", "upgrade", "x-a", "content-type", "transfer-encoding"];
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(HeaderName::from_static(NAMES[*name]), value);
            }
        }
        let _ = headers::is_grpc(&headers);
        headers::append_forwarded_for(&mut headers, &HeaderValue::from_static("192.0.2.1"));
        prop_assert!(headers["x-forwarded-for"].as_bytes().ends_with(b"192.0.2.1"));
        headers::strip_hop_by_hop(&mut headers);
        for name in ["connection", "keep-alive", "upgrade", "transfer-encoding"] {
            prop_assert!(!headers.contains_key(name));
        }
        prop_assert!(headers.get("te").is_none_or(|te| te == "trailers"));
    }
}
