//! What a retry policy repeats: the words of its `on` list.
//!
//! The words are Envoy's, for HTTP and for gRPC, since operators know them. HTTP words look at an HTTP status or at
//! the lack of an answer, gRPC words at the status that a gRPC client sees. An answer with a `grpc-status` is matched
//! by gRPC words only: its HTTP status is 200 whatever happened.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;
use crate::outcome::Answer;
use crate::outcome::Ending;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::Reach;

/// One thing that a retry policy repeats.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Condition {
    /// `5xx`: an HTTP status from 500 to 599, or no answer at all.
    Http5xx,
    /// `gateway-error`: HTTP 502, 503 or 504, or no answer at all.
    GatewayError,
    /// `reset`: no answer at all, because the connection or stream died or the attempt took too long.
    Reset,
    /// `connect-failure`: no connection could be made.
    ConnectFailure,
    /// `refused-stream`: the peer's transport says that no application saw the request.
    RefusedStream,
    /// `retriable-4xx`: HTTP 409, as in Envoy.
    Retriable4xx,
    /// `timeout`: the attempt took longer than one attempt may.
    Timeout,
    /// `cancelled`: gRPC 1.
    Cancelled,
    /// `unknown`: gRPC 2.
    Unknown,
    /// `invalid-argument`: gRPC 3.
    InvalidArgument,
    /// `deadline-exceeded`: gRPC 4, or an attempt without a gRPC status that took longer than one attempt may.
    DeadlineExceeded,
    /// `not-found`: gRPC 5.
    NotFound,
    /// `already-exists`: gRPC 6.
    AlreadyExists,
    /// `permission-denied`: gRPC 7.
    PermissionDenied,
    /// `resource-exhausted`: gRPC 8.
    ResourceExhausted,
    /// `failed-precondition`: gRPC 9.
    FailedPrecondition,
    /// `aborted`: gRPC 10.
    Aborted,
    /// `out-of-range`: gRPC 11.
    OutOfRange,
    /// `unimplemented`: gRPC 12.
    Unimplemented,
    /// `internal`: gRPC 13.
    Internal,
    /// `unavailable`: gRPC 14, or what a gRPC client sees as that: a failure without an answer, or one of HTTP 429,
    /// 502, 503 and 504 without a gRPC status.
    Unavailable,
    /// `data-loss`: gRPC 15.
    DataLoss,
    /// `unauthenticated`: gRPC 16.
    Unauthenticated,
    /// An HTTP status, written as a number from 100 to 599.
    Status(u16),
}

/// A set of [`Condition`]s. Empty by default, which repeats nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    // Bit n is the n-th of WORDS.
    words: u32,
    // Sorted, each once.
    statuses: Vec<u16>,
}

const WORDS: [(Condition, &str); 23] = [
    (Condition::Http5xx, "5xx"),
    (Condition::GatewayError, "gateway-error"),
    (Condition::Reset, "reset"),
    (Condition::ConnectFailure, "connect-failure"),
    (Condition::RefusedStream, "refused-stream"),
    (Condition::Retriable4xx, "retriable-4xx"),
    (Condition::Timeout, "timeout"),
    (Condition::Cancelled, "cancelled"),
    (Condition::Unknown, "unknown"),
    (Condition::InvalidArgument, "invalid-argument"),
    (Condition::DeadlineExceeded, "deadline-exceeded"),
    (Condition::NotFound, "not-found"),
    (Condition::AlreadyExists, "already-exists"),
    (Condition::PermissionDenied, "permission-denied"),
    (Condition::ResourceExhausted, "resource-exhausted"),
    (Condition::FailedPrecondition, "failed-precondition"),
    (Condition::Aborted, "aborted"),
    (Condition::OutOfRange, "out-of-range"),
    (Condition::Unimplemented, "unimplemented"),
    (Condition::Internal, "internal"),
    (Condition::Unavailable, "unavailable"),
    (Condition::DataLoss, "data-loss"),
    (Condition::Unauthenticated, "unauthenticated"),
];

/// Where gRPC 1 stands in [`WORDS`]; the other codes follow in order.
const FIRST_GRPC: usize = 7;

impl Condition {
    /// The word for it, or nothing for a [`Status`](Self::Status), which is printed as its number.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        WORDS.iter().find(|(condition, _)| *condition == self).map(|(_, word)| *word)
    }

    /// The condition for a gRPC status code, or nothing for 0, which is OK, and for codes that do not exist.
    #[must_use]
    pub fn from_grpc(code: u8) -> Option<Self> {
        let index = FIRST_GRPC + usize::from(code.checked_sub(1)?);
        WORDS.get(index).map(|(condition, _)| *condition)
    }

    /// Tells whether an attempt ended in this way.
    #[must_use]
    pub fn matches(self, ending: &Ending) -> bool {
        let http = ending.answer.http;
        let failure = match ending.outcome {
            Outcome::Failure(failure) => Some(failure),
            Outcome::Success | Outcome::Cancelled | Outcome::Rejected => None,
        };
        // Not for a gRPC answer, which says all there is to say.
        let no_grpc = ending.answer.grpc.is_none();
        let no_answer = no_grpc && http.is_none() && failure.is_some();
        match self {
            Self::Http5xx => no_answer || no_grpc && matches!(http, Some(500..=599)),
            Self::GatewayError => no_answer || no_grpc && matches!(http, Some(502..=504)),
            Self::Reset => no_answer,
            Self::ConnectFailure => no_answer && (failure == Some(Failure::Connect) || ending.reach == Reach::NotSent),
            Self::RefusedStream => no_answer && ending.reach == Reach::Unprocessed,
            Self::Retriable4xx => no_grpc && http == Some(409),
            // A 408 or 504 is the peer's answer, not our patience.
            Self::Timeout => no_grpc && failure == Some(Failure::Timeout) && http.is_none_or(|status| status < 400),
            Self::Status(status) => no_grpc && http == Some(status),
            grpc => grpc_code(ending, failure).and_then(Self::from_grpc) == Some(grpc),
        }
    }
}

/// The gRPC status that a gRPC client sees.
fn grpc_code(ending: &Ending, failure: Option<Failure>) -> Option<u8> {
    if ending.answer.grpc.is_some() {
        return ending.answer.grpc;
    }
    let failure = failure?;
    Some(match ending.answer.http {
        // The mapping for answers without a grpc-status: "HTTP to gRPC Status Code Mapping" of the gRPC documents.
        Some(400 | 431) => 13,
        Some(401) => 16,
        Some(403) => 7,
        Some(404) => 12,
        Some(429 | 502..=504) => 14,
        None | Some(200) => match failure {
            Failure::Timeout => 4,
            Failure::Protocol if ending.answer.http.is_some() => 2,
            Failure::Connect | Failure::Overload | Failure::Protocol | Failure::Reset | Failure::Server => 14,
        },
        Some(_) => 2,
    })
}

impl FromStr for Condition {
    type Err = ConfigError;

    fn from_str(word: &str) -> Result<Self, ConfigError> {
        if let Some((condition, _)) = WORDS.iter().find(|(_, known)| *known == word) {
            return Ok(*condition);
        }
        match word.parse() {
            // Three digits: `parse` would take a sign and leading zeros too.
            Ok(status @ 100..=599) if word.len() == 3 => Ok(Self::Status(status)),
            _ => Err(ConfigError::new("on", word, allowed())),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            word => f.write_str(word.as_str().unwrap_or_default()),
        }
    }
}

impl Conditions {
    /// Adds a condition.
    pub fn insert(&mut self, condition: Condition) {
        match (condition, WORDS.iter().position(|(word, _)| *word == condition)) {
            (_, Some(bit)) => self.words |= 1 << bit,
            (Condition::Status(status), None) => {
                if let Err(place) = self.statuses.binary_search(&status) {
                    self.statuses.insert(place, status);
                }
            }
            // Every word is in the table; a test goes through them.
            (_, None) => {}
        }
    }

    /// The conditions, words first.
    pub fn iter(&self) -> impl Iterator<Item = Condition> + '_ {
        let mut words = self.words;
        let words = std::iter::from_fn(move || {
            let bit = words.trailing_zeros() as usize;
            words &= words.wrapping_sub(1);
            // None of 32 bits is the 33rd, which is no word.
            WORDS.get(bit).map(|(condition, _)| *condition)
        });
        words.chain(self.statuses.iter().copied().map(Condition::Status))
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == 0 && self.statuses.is_empty()
    }

    /// Tells whether a condition is in the set.
    #[must_use]
    pub fn contains(&self, condition: Condition) -> bool {
        self.iter().any(|other| other == condition)
    }

    /// Tells whether an attempt ended in one of these ways.
    #[must_use]
    pub fn matches(&self, ending: &Ending) -> bool {
        // Most answers are like this, and no word is about one.
        let plain = matches!(ending.answer, Answer { http: Some(200..=399), grpc: None | Some(0) });
        if plain && ending.outcome == Outcome::Success && self.statuses.is_empty() {
            return false;
        }
        self.iter().any(|condition| condition.matches(ending))
    }

    /// Checks that every HTTP status can be one.
    ///
    /// # Errors
    ///
    /// Names the first that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.statuses.iter().find(|status| !(100..=599).contains(*status)) {
            None => Ok(()),
            Some(status) => Err(ConfigError::new("on", status, allowed())),
        }
    }
}

impl FromIterator<Condition> for Conditions {
    fn from_iter<I: IntoIterator<Item = Condition>>(conditions: I) -> Self {
        let mut set = Self::default();
        conditions.into_iter().for_each(|condition| set.insert(condition));
        set
    }
}

impl<const N: usize> From<[Condition; N]> for Conditions {
    fn from(conditions: [Condition; N]) -> Self {
        conditions.into_iter().collect()
    }
}

fn allowed() -> String {
    let words: Vec<_> = WORDS.iter().map(|(_, word)| *word).collect();
    format!("one of {}, or an HTTP status from 100 to 599", words.join(", "))
}
