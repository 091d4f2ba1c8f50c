//! What happened: events, and the one trait that hears them.
//!
//! Events are told, never asked: an observer cannot change a decision. It is called outside of every lock, on the
//! thread that made the decision, sometimes from `Drop`; it must be quick and must not panic. An observer that panics
//! poisons no policy, but the panic reaches whoever polled.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::Rejection;
use crate::outcome::Answer;
use crate::outcome::Outcome;

/// Hears events.
///
/// Closures are observers: `|scope: &Scope<'_>, event: &Event<'_>| { .. }`.
pub trait Observer: Send + Sync + 'static {
    /// Is told that something happened. See [`Event`] for when each one fires.
    fn on_event(&self, scope: &Scope<'_>, event: &Event<'_>);
}

impl<F> Observer for F
where
    F: Fn(&Scope<'_>, &Event<'_>) + Send + Sync + 'static,
{
    fn on_event(&self, scope: &Scope<'_>, event: &Event<'_>) {
        self(scope, event);
    }
}

/// Where an event happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Scope<'a> {
    /// The name of the guard, retrier or channel that speaks; in the proxy the cluster.
    pub name: &'a str,
    /// The endpoint that it is about, as configured, or nothing.
    pub endpoint: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// The scope of a whole target.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        Self { name, endpoint: None }
    }

    /// The scope of one endpoint of a target.
    #[must_use]
    pub fn at(mut self, endpoint: &'a str) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call or an attempt was handed down. Fires in `call`, before the inner service is called.
    Started {
        /// Whether it is one attempt or the whole call.
        span: Span,
    },
    /// A call or an attempt ended: its answer's body ended, it failed, or its caller dropped it. Fires once for each
    /// `Started`.
    Ended {
        /// Whether it is one attempt or the whole call.
        span: Span,
        /// How it ended.
        outcome: Outcome,
        /// What the peer answered, as far as it did.
        answer: Answer,
        /// The time from `Started` to here.
        latency: Duration,
    },
    /// A guard refused a call. Fires in `call`.
    Rejected(&'a Rejection),
    /// A breaker changed its state. Fires when the call that made it change is admitted or settled.
    BreakerChanged {
        /// The state before.
        from: BreakerState,
        /// The state now.
        to: BreakerState,
    },
    /// Another attempt will be made. Fires when the attempt before it has ended, before the wait.
    RetryScheduled {
        /// How the attempt ended that is repeated.
        outcome: Outcome,
        /// The number of the attempt that ended; the first is 1.
        attempt: u32,
        /// How long the retrier waits before the next one.
        after: Duration,
        /// Whether the attempt provably never reached an application, so that it is repeated without asking the
        /// policy or the budget.
        transparent: bool,
    },
    /// An attempt that failed is not repeated. Fires when it has ended. Successes fire nothing.
    RetryDenied {
        /// How the attempt ended.
        outcome: Outcome,
        /// The number of the attempt that ended; the first is 1.
        attempt: u32,
        /// Why there is no other.
        stop: Stop,
    },
    /// An endpoint was ejected for failing. Fires when the call that was one too many is settled.
    Ejected {
        /// How long it stays out.
        duration: Duration,
    },
    /// An endpoint should have been ejected, but as many as are allowed already are. Fires like `Ejected`.
    EjectionOverflow,
    /// An ejected endpoint came back. Fires at the first pick after its time.
    Returned,
    /// A connection to an endpoint was made.
    Connected,
    /// No connection to an endpoint could be made.
    ConnectFailed {
        /// What went wrong.
        error: &'a (dyn Error + 'static),
    },
    /// A connection to an endpoint ended. Fires when a call finds it closed.
    Disconnected,
    /// The set of endpoints changed.
    EndpointsChanged {
        /// How many there are now.
        count: usize,
    },
    /// The names of endpoints could not be resolved. The endpoints from before stay.
    ResolveFailed {
        /// What went wrong.
        error: &'a (dyn Error + 'static),
    },
}

/// Whether an event is about one attempt or about the call that may consist of several.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Span {
    /// What the caller asked for.
    Call,
    /// One try at it.
    Attempt {
        /// The first is 1.
        number: u32,
    },
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Every call is admitted and counted.
    #[default]
    Closed,
    /// A few probes are admitted; they decide.
    HalfOpen,
    /// No call is admitted until the open time is over.
    Open,
    /// Closed by hand: every call is admitted, none is counted.
    ForcedClosed,
    /// Opened by hand: no call is admitted until it is reset.
    ForcedOpen,
}

/// Why a retrier did not make another attempt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Stop {
    /// As many attempts as the policy allows were made.
    AttemptsSpent,
    /// The request's body is larger than what is kept for a replay, or part of it is gone.
    BodyTooLarge,
    /// The retry budget is spent, or as many retries as are allowed are already running.
    BudgetSpent,
    /// The response's head or its first data was already handed to the caller.
    Committed,
    /// The wait would outlast the deadline.
    DeadlineTooNear,
    /// The request may not be sent twice.
    NotIdempotent,
    /// The answer is not one that the policy repeats, or there is no policy.
    NotRetryable,
    /// The peer asked not to be asked again, or to be left alone for longer than is waited.
    PushedBack,
    /// One of our own layers refused the attempt.
    Rejected,
    /// The attempt succeeded.
    Succeeded,
}

impl Stop {
    /// Names the reason in lower case, as metrics and logs print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsSpent => "attempts_spent",
            Self::BodyTooLarge => "body_too_large",
            Self::BudgetSpent => "budget_spent",
            Self::Committed => "committed",
            Self::DeadlineTooNear => "deadline_too_near",
            Self::NotIdempotent => "not_idempotent",
            Self::NotRetryable => "not_retryable",
            Self::PushedBack => "pushed_back",
            Self::Rejected => "rejected",
            Self::Succeeded => "succeeded",
        }
    }
}

impl BreakerState {
    /// Names the state in lower case, as metrics and logs print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
            Self::ForcedClosed => "forced_closed",
            Self::ForcedOpen => "forced_open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
