//! What a peer says about another attempt: `grpc-retry-pushback-ms` and `Retry-After`.

use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::HeaderName;
use http::header::RETRY_AFTER;

use crate::outcome::Pushback;

/// The trailer by which a gRPC server orders or forbids a retry (gRFC A6).
pub static GRPC_RETRY_PUSHBACK_MS: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Reads `grpc-retry-pushback-ms` out of trailers, or nothing if there is none.
///
/// "If the value [...] is negative or unparseable, then it will be seen as the server asking the client not to retry
/// at all" - A6. More than one value is unparseable too.
#[must_use]
pub fn grpc(trailers: &HeaderMap) -> Option<Pushback> {
    let mut values = trailers.get_all(&GRPC_RETRY_PUSHBACK_MS).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(Pushback::Stop);
    }
    Some(parse_grpc(value.as_bytes()))
}

/// Reads the value of `grpc-retry-pushback-ms`: a signed 32-bit decimal, of which only digits are a wait.
#[must_use]
pub fn parse_grpc(value: &[u8]) -> Pushback {
    match parse_digits(value) {
        Some(millis) if millis <= u64::from(i32::MAX.unsigned_abs()) => Pushback::After(Duration::from_millis(millis)),
        _ => Pushback::Stop,
    }
}

/// Reads `Retry-After` in seconds out of the head of an answer. A date is nothing here, since it needs a clock: see
/// [`retry_after`].
#[must_use]
pub fn http(headers: &HeaderMap) -> Option<Pushback> {
    parse_seconds(headers.get(RETRY_AFTER)?.as_bytes()).map(Pushback::After)
}

/// Reads the value of `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3): how long after `now` that is.
///
/// A date that has passed is zero. Nothing for what is neither, nor for the two obsolete forms of a date.
#[must_use]
pub fn retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    if let Some(seconds) = parse_seconds(value) {
        return Some(seconds);
    }
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(parse_date(value)?))?;
    Some(at.duration_since(now).unwrap_or_default())
}

fn parse_seconds(value: &[u8]) -> Option<Duration> {
    // What is too large is cut to 2^31, as RFC 9111, 1.2.2 has it for delta-seconds.
    parse_digits(value).map(|seconds| Duration::from_secs(seconds.min(1 << 31)))
}

fn parse_digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Reads an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`, as seconds since 1970. Nothing before that.
fn parse_date(value: &[u8]) -> Option<u64> {
    let value: &[u8; 29] = value.try_into().ok()?;
    let (weekday, rest) = (&value[..3], &value[3..]);
    if !WEEKDAYS.iter().any(|name| name.as_bytes() == weekday) {
        return None;
    }
    let separators = [(0, b", ".as_slice()), (4, b" "), (8, b" "), (13, b" "), (16, b":"), (19, b":"), (22, b" GMT")];
    if separators.iter().any(|(at, expected)| !rest[*at..].starts_with(expected)) {
        return None;
    }
    let day = parse_digits(&rest[2..4])?;
    let month = 1 + MONTHS.iter().position(|name| name.as_bytes() == &rest[5..8])? as u64;
    let year = parse_digits(&rest[9..13])?;
    let (hour, minute, second) =
        (parse_digits(&rest[14..16])?, parse_digits(&rest[17..19])?, parse_digits(&rest[20..22])?);
    // 60 is a leap second.
    if day == 0 || day > days_in(month, year) || hour > 23 || minute > 59 || second > 60 || year < 1970 {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn days_in(month: u64, year: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // The leap days before a year: every fourth year, but of the hundredth only every fourth.
    let leaps = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let months: u64 = (1..month).map(|month| days_in(month, year)).sum();
    (year - 1970) * 365 + leaps(year) - leaps(1970) + months + day - 1
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
