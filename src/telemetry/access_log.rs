//! One JSON line for each call, with Envoy's field names and response flags.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::context::Record;
use crate::error::RejectionKind;
use crate::event::Stop;
use crate::outcome::Ending;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// What a line says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When the call came in.
    pub start_time: SystemTime,
    /// The request's method; nothing if the request could not be read.
    pub method: Option<&'a str>,
    /// The request's path and query; nothing if the request could not be read.
    pub path: Option<&'a str>,
    /// The request's authority.
    pub authority: Option<&'a str>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The request's `user-agent`.
    pub user_agent: Option<&'a str>,
    /// The request's `x-request-id`, as it went on.
    pub request_id: Option<&'a str>,
    /// Who called: an address and a port.
    pub remote_address: &'a str,
    /// The cluster that it was for; nothing if no route matched.
    pub cluster: Option<&'a str>,
    /// The endpoint that was tried last.
    pub upstream_host: Option<&'a str>,
    /// The name of the gRPC status, if it was a gRPC call that got one.
    pub grpc_status: Option<&'static str>,
    /// How it ended.
    pub ending: Ending,
    /// What happened to it on the way.
    pub record: Record,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// From the request's head to the response's head.
    pub response_duration: Option<Duration>,
}

impl Line<'_> {
    /// Appends the line, its keys in alphabetical order, and a line break.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"attempts\":");
        number(out, u64::from(self.record.attempts));
        text(out, ",\"authority\":", self.authority);
        out.push_str(",\"bytes_received\":");
        number(out, self.bytes_received);
        out.push_str(",\"bytes_sent\":");
        number(out, self.bytes_sent);
        text(out, ",\"cluster\":", self.cluster);
        text(out, ",\"downstream_remote_address\":", Some(self.remote_address));
        out.push_str(",\"duration\":");
        number(out, milliseconds(self.duration));
        text(out, ",\"grpc_status\":", self.grpc_status);
        text(out, ",\"method\":", self.method);
        text(out, ",\"path\":", self.path);
        text(out, ",\"protocol\":", Some(self.protocol));
        text(out, ",\"request_id\":", self.request_id);
        out.push_str(",\"response_code\":");
        number(out, u64::from(self.ending.answer.http.unwrap_or(0)));
        out.push_str(",\"response_duration\":");
        match self.response_duration {
            Some(duration) => number(out, milliseconds(duration)),
            None => out.push_str("null"),
        }
        out.push_str(",\"response_flags\":\"");
        flags(out, &self.ending, &self.record, self.cluster.is_some());
        out.push_str("\",\"start_time\":\"");
        timestamp(out, self.start_time);
        out.push('"');
        text(out, ",\"upstream_host\":", self.upstream_host);
        text(out, ",\"user_agent\":", self.user_agent);
        out.push_str("}\n");
    }
}

/// Appends Envoy's response flags, joined by commas, or `-`.
pub fn flags(out: &mut String, ending: &Ending, record: &Record, routed: bool) {
    let before = out.len();
    let mut flag = |name: &str| {
        if out.len() > before {
            out.push(',');
        }
        out.push_str(name);
    };
    if !routed && (ending.answer.http == Some(404) || ending.answer.grpc == Some(12)) {
        flag("NR");
    }
    match record.stop {
        Some(Stop::AttemptsSpent) => flag("URX"),
        Some(Stop::BudgetSpent) => flag("UO"),
        _ => {}
    }
    match record.rejected {
        Some(RejectionKind::BreakerOpen | RejectionKind::Overloaded) if record.stop != Some(Stop::BudgetSpent) => {
            flag("UO");
        }
        Some(RejectionKind::NoEndpoint) => flag("UH"),
        Some(RejectionKind::RateLimited) => flag("RL"),
        Some(RejectionKind::RequestBroken) if ending.outcome != Outcome::Cancelled => flag("DPE"),
        _ => {}
    }
    // What ended the last attempt, unless it was the peer's own answer.
    let failure = match (ending.outcome, ending.answer.http, ending.answer.grpc) {
        _ if record.rejected == Some(RejectionKind::DeadlineExceeded) => Some(Failure::Timeout),
        (Outcome::Failure(Failure::Timeout), Some(504), _) => record.failure,
        (Outcome::Failure(Failure::Timeout), _, _) => Some(Failure::Timeout),
        (Outcome::Failure(failure), _, None) => record.failure.or(Some(failure)),
        (Outcome::Failure(_), _, Some(_)) => record.failure,
        (Outcome::Success | Outcome::Cancelled | Outcome::Rejected, _, _) => None,
    };
    match failure {
        Some(Failure::Connect) => flag("UF"),
        Some(Failure::Protocol) => flag("UPE"),
        Some(Failure::Reset) if record.reset => flag("UR"),
        Some(Failure::Reset) => flag("UC"),
        Some(Failure::Timeout) => flag("UT"),
        Some(Failure::Overload | Failure::Server) | None => {}
    }
    if ending.outcome == Outcome::Cancelled {
        flag("DC");
    }
    if out.len() == before {
        out.push('-');
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Appends a time in UTC, to the millisecond (RFC 3339). The seconds are written anew only when they have changed.
fn timestamp(out: &mut String, time: SystemTime) {
    thread_local! {
        static LATEST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    LATEST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            text.clear();
            let _ = write!(text, "{}", humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*second)));
        }
        out.push_str(text.trim_end_matches('Z'));
    });
    let millis = since.subsec_millis();
    out.push('.');
    for digit in [millis / 100, millis / 10 % 10, millis % 10] {
        out.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
    out.push('Z');
}

/// Appends a number without the machinery of `fmt`: there are seven in each line.
fn number(out: &mut String, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // The remainder is below ten.
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Appends a key and a JSON string, or `null`.
fn text(out: &mut String, key: &str, value: Option<&str>) {
    out.push_str(key);
    let Some(value) = value else { return out.push_str("null") };
    out.push('"');
    // All bytes are looked at, so that the loop has no exit and the compiler can take many at once.
    let plain = |byte: u8| (byte >= 0x20) & (byte != b'"') & (byte != b'\\');
    if value.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.push_str(value);
    } else {
        for letter in value.chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                control if control < ' ' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(control));
                }
                other => out.push(other),
            }
        }
    }
    out.push('"');
}
