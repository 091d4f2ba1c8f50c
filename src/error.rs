//! Errors: [`Rejection`] for calls that one of our layers refused, [`ConfigError`] for settings out of range.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::outcome::Failure;
use crate::outcome::Reach;

/// What every layer returns as its error: its own [`Rejection`], or what the inner service failed with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A call that one of our own layers refused or cut short.
///
/// Found through any stack of layers with [`Rejection::find`]; one layer at the edge (`layer::respond`) turns it into
/// an HTTP or gRPC answer.
#[derive(Clone, Debug)]
pub struct Rejection {
    kind: RejectionKind,
    by: Arc<str>,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RejectionKind {
    /// A circuit breaker is open.
    BreakerOpen,
    /// The deadline of the call has passed, or one attempt took longer than it may.
    DeadlineExceeded,
    /// The request names its deadline in a way that cannot be understood.
    DeadlineMalformed,
    /// No endpoint is usable. The last connection error, if there was one, is the [`source`](Error::source).
    NoEndpoint,
    /// As many calls as are allowed are already running.
    Overloaded,
    /// More calls came in than the rate allows.
    RateLimited,
    /// The body of the request broke off or was malformed: its sender is at fault.
    RequestBroken,
    /// This process is shutting down.
    ShuttingDown,
}

impl Rejection {
    /// Makes a rejection by the guard or layer that is called `by`.
    #[must_use]
    pub fn new(kind: RejectionKind, by: Arc<str>) -> Self {
        Self { kind, by, retry_after: None, cause: None }
    }

    /// Says how long from now it is worth asking again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Keeps the error that led to this.
    #[must_use]
    pub fn with_cause(mut self, cause: Arc<dyn Error + Send + Sync>) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Finds the rejection in an error or in the chain of its sources.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find(error)
    }

    /// Why the call was refused.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.kind
    }

    /// The name of the guard or layer that refused.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// How long from the refusal it is worth asking again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl RejectionKind {
    /// Names the kind in lower case, as metrics and logs print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::DeadlineMalformed => "deadline_malformed",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::RequestBroken => "request_broken",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = &self.by;
        match self.kind {
            RejectionKind::BreakerOpen => write!(f, "circuit breaker `{by}` is open")?,
            RejectionKind::DeadlineExceeded => write!(f, "deadline exceeded in `{by}`")?,
            RejectionKind::DeadlineMalformed => write!(f, "malformed grpc-timeout")?,
            RejectionKind::NoEndpoint => write!(f, "no usable endpoint in `{by}`")?,
            RejectionKind::Overloaded => write!(f, "`{by}` has as many calls in flight as it may")?,
            RejectionKind::RateLimited => write!(f, "`{by}` has had as many calls as its rate allows")?,
            RejectionKind::RequestBroken => write!(f, "the request's body broke off")?,
            RejectionKind::ShuttingDown => write!(f, "`{by}` is shutting down")?,
        }
        match self.retry_after {
            Some(after) => write!(f, ", ask again in {after:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// A failure of the connection to a peer, or of one stream on it.
///
/// Made where the transport is known (`balance`), so that the judge need not know hyper or h2.
#[derive(Debug)]
pub struct TransportError(Box<TransportProblem>);

#[derive(Debug)]
struct TransportProblem {
    failure: Failure,
    reach: Reach,
    reset: Option<u32>,
    source: BoxError,
}

impl TransportError {
    /// Makes an error of the transport: how the attempt failed, and how far the request can have come.
    #[must_use]
    pub fn new(failure: Failure, reach: Reach, source: impl Into<BoxError>) -> Self {
        Self(Box::new(TransportProblem { failure, reach, reset: None, source: source.into() }))
    }

    /// Keeps the code of the RST_STREAM or GOAWAY that the peer sent (RFC 9113, 7).
    #[must_use]
    pub fn with_reset(mut self, code: u32) -> Self {
        self.0.reset = Some(code);
        self
    }

    /// Finds the transport error in an error or in the chain of its sources.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find(error)
    }

    /// How the attempt failed.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.0.failure
    }

    /// How far the request can have come.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.0.reach
    }

    /// The code of the RST_STREAM or GOAWAY that the peer sent, if it sent one.
    #[must_use]
    pub fn reset(&self) -> Option<u32> {
        self.0.reset
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.failure {
            Failure::Connect => f.write_str("connection failure"),
            Failure::Protocol => f.write_str("protocol error"),
            Failure::Timeout => f.write_str("connection timeout"),
            _ if self.0.reach == Reach::Unprocessed => f.write_str("refused stream"),
            _ if self.0.reset.is_some() => f.write_str("remote reset"),
            _ => f.write_str("connection termination"),
        }
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0.source)
    }
}

/// Finds an error of one type in an error or in the chain of its sources.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // What `io::Error::other` wraps is not its source, only the source of that is.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// A setting that is out of its range.
///
/// Says which field, which value, and what is allowed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError(Box<ConfigProblem>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct ConfigProblem {
    field: String,
    value: String,
    allowed: String,
}

impl ConfigError {
    /// Makes an error about `field`, which holds `value` where only `allowed` is.
    #[must_use]
    pub fn new(field: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self(Box::new(ConfigProblem { field: field.into(), value: value.to_string(), allowed: allowed.into() }))
    }

    /// The same error about a field of a larger whole: `breaker` and `open_for` give `breaker.open_for`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.0.field = format!("{parent}.{}", self.0.field);
        self
    }

    /// The path of the field, its parts joined by dots.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// The value that was refused.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.0.value
    }

    /// What is allowed instead.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.0.allowed
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, but it must be {}", self.0.field, self.0.value, self.0.allowed)
    }
}

impl Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_send_and_static() {
        fn check<E: Error + Send + Sync + 'static>() {}
        check::<Rejection>();
        check::<ConfigError>();
        assert_eq!(size_of::<ConfigError>(), size_of::<usize>());
        assert_eq!(size_of::<BoxError>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_rejection_is_found_behind_other_errors() {
        #[derive(Debug)]
        struct Outer(Rejection);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error: BoxError = Box::new(Outer(Rejection::new(RejectionKind::BreakerOpen, "orders".into())));
        let found = Rejection::find(&*error).expect("it is the source");
        assert_eq!((found.kind(), found.by()), (RejectionKind::BreakerOpen, "orders"));
    }

    #[test]
    fn a_rejection_is_found_in_an_io_error() {
        let rejection = Rejection::new(RejectionKind::Overloaded, "orders".into());
        let error = io::Error::other(io::Error::other(rejection));
        assert_eq!(Rejection::find(&error).map(Rejection::kind), Some(RejectionKind::Overloaded));
    }
}
