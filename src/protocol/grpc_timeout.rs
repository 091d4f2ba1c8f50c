//! The `grpc-timeout` header: how long the caller still waits, one to eight digits and a unit.
//!
//! Written rounded up, so that the server does not give up before the caller does; read by the exact grammar, so that
//! a caller who gets it wrong is told instead of being served without a deadline (gRPC over HTTP/2, "Requests").

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

/// The header.
pub static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A `grpc-timeout` that its grammar does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Reads the timeout of a request. Of several, the last counts.
///
/// Zero means that the deadline has passed. The longest, `99999999H`, is eleven thousand years: add it to an instant
/// with `checked_add`.
///
/// # Errors
/// [`Malformed`] if the header is there and its grammar does not allow it.
pub fn from_headers(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    match headers.get_all(&GRPC_TIMEOUT).iter().next_back() {
        Some(value) => parse(value.as_bytes()).map(Some),
        None => Ok(None),
    }
}

/// Reads the value of the header.
///
/// # Errors
/// [`Malformed`] for anything but one to eight ASCII digits and one of `H M S m u n`.
pub fn parse(value: &[u8]) -> Result<Duration, Malformed> {
    let Some((unit, digits)) = value.split_last() else { return Err(Malformed) };
    // "TimeoutValue -> {positive integer as ASCII string of at most 8 digits}"
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(count * 3600)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'S' => Ok(Duration::from_secs(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'n' => Ok(Duration::from_nanos(count)),
        _ => Err(Malformed),
    }
}

/// Writes the finest unit in which `timeout`, rounded up, has at most eight digits; what is longer than `99999999H`
/// becomes that.
///
/// Nothing for zero: a call whose deadline has passed is not sent.
#[must_use]
pub fn encode(timeout: Duration) -> Option<Encoded> {
    if timeout.is_zero() {
        return None;
    }
    let nanos = timeout.as_nanos();
    for (unit, length) in UNITS {
        match u32::try_from(units(nanos, length)) {
            Ok(count) if count <= MAX_COUNT => return Some(Encoded::new(count, unit)),
            _ => {}
        }
    }
    Some(Encoded::new(MAX_COUNT, b'H'))
}

/// Divides, rounded up. Up to 584 years in 64 bits, which takes a twentieth of what 128 take.
fn units(nanos: u128, length: u64) -> u128 {
    match u64::try_from(nanos) {
        Ok(nanos) => nanos.div_ceil(length).into(),
        Err(_) => nanos.div_ceil(length.into()),
    }
}

/// A `grpc-timeout` ready to be sent, kept on the stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Encoded {
    bytes: [u8; MAX_DIGITS + 1],
    start: u8,
}

impl Encoded {
    fn new(mut count: u32, unit: u8) -> Self {
        let mut bytes = [b'0'; MAX_DIGITS + 1];
        bytes[MAX_DIGITS] = unit;
        let mut start = MAX_DIGITS;
        while count > 0 && start > 0 {
            start -= 1;
            bytes[start] = b'0' + (count % 10) as u8;
            count /= 10;
        }
        Self { bytes, start: start as u8 }
    }

    /// The value of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[usize::from(self.start)..]).expect("it is digits and a letter")
    }
}

impl From<Encoded> for HeaderValue {
    fn from(encoded: Encoded) -> Self {
        let mut value = Self::from_str(encoded.as_str()).expect("it is digits and a letter");
        // It hardly comes twice: it shall not take a place in the table of header compression (RFC 7541, 7.1.3).
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed grpc-timeout")
    }
}

impl Error for Malformed {}

const MAX_DIGITS: usize = 8;
const MAX_COUNT: u32 = 99_999_999;

/// Units and their nanoseconds, the finest first.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];
