//! Rules about headers that a proxy keeps, as functions of a header map.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;

/// The addresses that a request has come through, the first hop first.
pub static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Tells whether the `content-type` is gRPC's: `application/grpc`, alone or with `+` or `;` after it, in any case.
///
/// `application/grpc-web` is another protocol.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    // Every layer asks this of every call: among the few headers of a call, looking at each costs less than hashing.
    let Some((_, value)) = headers.iter().find(|(name, _)| **name == header::CONTENT_TYPE) else { return false };
    let Some((start, rest)) = value.as_bytes().split_at_checked(GRPC.len()) else { return false };
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Removes the headers that are for one connection only (RFC 9110, 7.6.1): `connection` and what it names,
/// `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`. Of `te` only `trailers` stays.
///
/// Allocates nothing.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut index = 0;
    // A value is cheap to clone; the map cannot be read and changed at once.
    while let Some(value) = headers.get_all(header::CONNECTION).iter().nth(index).cloned() {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            // Whoever sends `te` must name it here, and its one value that goes on is decided below.
            if !name.eq_ignore_ascii_case("connection") && !name.eq_ignore_ascii_case("te") {
                headers.remove(name);
            }
        }
        index += 1;
    }
    for name in [&header::CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &header::TRANSFER_ENCODING, &header::UPGRADE] {
        headers.remove(name);
    }
    strip_te(headers);
}

/// Adds an address to `x-forwarded-for`, in one line, since many servers read only the first.
pub fn append_forwarded_for(headers: &mut HeaderMap, address: &HeaderValue) {
    if !headers.contains_key(&X_FORWARDED_FOR) {
        headers.insert(&X_FORWARDED_FOR, address.clone());
        return;
    }
    let mut line = Vec::with_capacity(64);
    for value in headers.get_all(&X_FORWARDED_FOR) {
        if !value.is_empty() {
            line.extend_from_slice(value.as_bytes());
            line.extend_from_slice(b", ");
        }
    }
    line.extend_from_slice(address.as_bytes());
    let value = HeaderValue::from_maybe_shared(Bytes::from(line)).expect("it is made of header values");
    headers.insert(&X_FORWARDED_FOR, value);
}

fn strip_te(headers: &mut HeaderMap) {
    if !headers.contains_key(header::TE) {
        return;
    }
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
}

const GRPC: &[u8] = b"application/grpc";
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
