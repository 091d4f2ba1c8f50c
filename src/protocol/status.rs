//! gRPC status codes, their tables to and from HTTP, and the codecs of `grpc-status` and `grpc-message`.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::HeaderName;
use http::StatusCode;

/// The header or trailer that holds the code.
pub static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header or trailer that holds the text, percent-encoded.
pub static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A gRPC status code.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
// Not `non_exhaustive`: the set has not changed since gRPC's first release, and peers read any other number as UNKNOWN.
pub enum Code {
    /// Not an error.
    Ok = 0,
    /// The call was cancelled, usually by its caller.
    Cancelled = 1,
    /// An error that says no more, or a status that could not be read.
    Unknown = 2,
    /// An argument is wrong, whatever the state of the system.
    InvalidArgument = 3,
    /// The deadline passed before the call was done.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// The thing to be created is there already.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A quota or a resource is used up.
    ResourceExhausted = 8,
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9,
    /// A conflict with another call: repeat the whole transaction.
    Aborted = 10,
    /// An argument points past the end.
    OutOfRange = 11,
    /// The server does not know the method.
    Unimplemented = 12,
    /// Something that must not happen did.
    Internal = 13,
    /// The service cannot be reached at the moment.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller has not shown who it is.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number, or nothing above 16.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number, as it is sent.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The number in decimal, as `grpc-status` holds it.
    #[must_use]
    pub fn digits(self) -> &'static str {
        const DIGITS: [&str; 17] =
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        DIGITS[usize::from(self.number())]
    }

    /// The name in capitals, as the protocol's documents and service configs write it: `NOT_FOUND`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The name in camel case, as Envoy's access logs and grpc-go print it: `NotFound`, and `Canceled` with one l.
    #[must_use]
    pub fn camel_name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    /// The code with this name, in capitals.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// What an HTTP status means to a gRPC caller when the answer holds no `grpc-status`.
    ///
    /// After gRPC's `http-grpc-status-mapping`, where 431 is INTERNAL; older peers make it UNKNOWN.
    #[must_use]
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The HTTP status that says the same, as Envoy maps it for detection and for its JSON bridge.
    #[must_use]
    pub fn http(self) -> StatusCode {
        let number = match self {
            Self::Ok => 200,
            Self::Cancelled => 499,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
        };
        StatusCode::from_u16(number).expect("every number above is a three-digit status")
    }

    /// What the code of a RST_STREAM means to a gRPC caller (gRPC over HTTP/2, "Errors").
    ///
    /// CANCEL becomes CANCELLED; a caller whose own deadline has passed reports that instead.
    #[must_use]
    pub fn from_reset(code: u32) -> Self {
        match code {
            7 => Self::Unavailable,        // REFUSED_STREAM
            8 => Self::Cancelled,          // CANCEL
            11 => Self::ResourceExhausted, // ENHANCE_YOUR_CALM
            12 => Self::PermissionDenied,  // INADEQUATE_SECURITY
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads the status out of a head or of trailers, or nothing if there is none. Of several, the last counts.
#[must_use]
pub fn find_status(headers: &HeaderMap) -> Option<Code> {
    // Heads and trailers are short: to look at each name costs less than to hash one.
    let values = headers.iter().filter(|(name, _)| **name == GRPC_STATUS).map(|(_, value)| value);
    values.last().map(|value| parse_status(value.as_bytes()))
}

/// Reads a `grpc-status`: digits only, leading zeros allowed. Whatever else it is, it is [`Code::Unknown`].
#[must_use]
pub fn parse_status(value: &[u8]) -> Code {
    if value.is_empty() {
        return Code::Unknown;
    }
    let mut number = 0u8;
    for byte in value {
        if !byte.is_ascii_digit() {
            return Code::Unknown;
        }
        number = number.saturating_mul(10).saturating_add(byte - b'0');
    }
    Code::from_number(number).unwrap_or(Code::Unknown)
}

/// Percent-encodes a `grpc-message`: printable ASCII but `%` stays as it is. Borrows where nothing is to be encoded.
#[must_use]
pub fn encode_message(message: &str) -> Cow<'_, str> {
    let Some(first) = message.bytes().position(|byte| !is_plain(byte)) else {
        return Cow::Borrowed(message);
    };
    let mut encoded = String::with_capacity(message.len() + 16);
    encoded.push_str(&message[..first]);
    for byte in message.bytes().skip(first) {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(hex_digit(byte >> 4));
            encoded.push(hex_digit(byte & 0xf));
        }
    }
    Cow::Owned(encoded)
}

/// Decodes a `grpc-message`. Never fails, since a bad text must not cost the code beside it.
///
/// Escapes that are none stay as they are, and bytes that are not UTF-8 become U+FFFD.
#[must_use]
pub fn decode_message(message: &[u8]) -> Cow<'_, str> {
    if !message.contains(&b'%') {
        return String::from_utf8_lossy(message);
    }
    let mut decoded = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    match String::from_utf8(decoded) {
        Ok(text) => Cow::Owned(text),
        Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// "Unescaped: space and visible ASCII without `%`" - gRPC over HTTP/2, Percent-Byte-Unencoded.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'%'
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
