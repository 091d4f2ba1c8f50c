//! How an attempt ended: the only words for it in this crate.

use std::time::Duration;

/// How an attempt ended.
///
/// | | breaker | limiter | retry | budget | outlier | metrics |
/// |---|---|---|---|---|---|---|
/// | `Success` | counts, resets a run | sample | stop | deposit | success | success |
/// | `Failure(Overload)` | counts in a ratio, not in a run | drop signal | again, honour pushback | withdraw | counts | failure |
/// | other `Failure` | counts | no sample | again if safe | withdraw | counts | failure |
/// | `Cancelled` | frees the probe only | release, no sample | stop | - | ignored | cancelled |
/// | `Rejected` | frees the probe only | release, no sample | stop | - | ignored | rejected, by whom |
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The peer answered, and the answer is not a failure (NOT_FOUND is a success).
    Success,
    /// The peer or the path to it is at fault.
    Failure(Failure),
    /// The caller went away: nobody is at fault.
    Cancelled,
    /// One of our own inner layers refused: says nothing about the peer.
    Rejected,
}

/// What went wrong with an attempt that failed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Failure {
    /// No connection to the peer could be made.
    Connect,
    /// The peer says that it has too much to do.
    Overload,
    /// The peer broke the protocol, for example by ending a gRPC call without a status.
    Protocol,
    /// The connection or stream died before the answer was complete.
    Reset,
    /// The peer answered that it failed.
    Server,
    /// No answer in time.
    Timeout,
}

/// How an attempt ended, with all that a decision about another one needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// What the peer answered, as far as it did.
    pub answer: Answer,
    /// How far the request can have come.
    pub reach: Reach,
    /// What the peer says about another attempt.
    pub pushback: Option<Pushback>,
}

/// How far a request can have come.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Reach {
    /// Not a byte of it left: there was no connection, or it closed before the request was taken.
    NotSent,
    /// The peer's transport got it and says that no application saw it: REFUSED_STREAM, or a stream beyond the last
    /// one that a GOAWAY names.
    Unprocessed,
    /// An application may have seen it.
    Processed,
}

/// What a peer says about another attempt: `grpc-retry-pushback-ms` or `Retry-After`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Pushback {
    /// Try again after this long, and not before.
    After(Duration),
    /// Do not try again.
    Stop,
}

/// What a peer answered, as far as it did.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Answer {
    /// The HTTP status, or nothing if there was no response head.
    pub http: Option<u16>,
    /// The gRPC status, from the head or from the trailers.
    pub grpc: Option<u8>,
}

impl Ending {
    /// An ending with no answer, in which an application may have seen the request.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome, answer: Answer::default(), reach: Reach::Processed, pushback: None }
    }
}

impl Outcome {
    /// Tells whether the peer or the path to it is at fault.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failure(_))
    }

    /// Names the outcome in lower case, as metrics and logs print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(failure) => failure.as_str(),
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

impl Failure {
    /// Names the failure in lower case, as metrics and logs print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Overload => "overload",
            Self::Protocol => "protocol",
            Self::Reset => "reset",
            Self::Server => "server",
            Self::Timeout => "timeout",
        }
    }
}
