//! How did an attempt end? The one place of this crate that decides it.
//!
//! The judge is asked up to three times: [`Judge::head`] when the head of the answer is there, [`Judge::end`] when its
//! body is over, or [`Judge::error`] when there is no answer. It needs the *request* too: an HTML page with status 200
//! from a broken middlebox is a success of a GET and a failure of a gRPC call.
//!
//! | gRPC answer | ending |
//! |---|---|
//! | head with `grpc-status` and an empty body (trailers-only) | that status |
//! | head with `grpc-status` and an HTTP status other than 200 | that status |
//! | head without, HTTP status other than 200 | by the HTTP status; 2xx and 3xx are `Failure(Protocol)` |
//! | head without, another content-type or an empty body | `Failure(Protocol)` |
//! | trailers with `grpc-status` | that status, whatever the head says |
//! | body ends without, and the head names an error | the head's status |
//! | body ends without | `Failure(Protocol)` |
//!
//! The row before the last is there because a server may send trailers-only answers as a head and an empty last frame,
//! of which the end is not known when the head comes. An OK in the head proves nothing, since the body can have been
//! cut.
//!
//! | gRPC status | outcome |
//! |---|---|
//! | DEADLINE_EXCEEDED | `Failure(Timeout)` |
//! | RESOURCE_EXHAUSTED, UNAVAILABLE with a pushback | `Failure(Overload)` |
//! | UNAVAILABLE, UNKNOWN, INTERNAL, DATA_LOSS | `Failure(Server)` |
//! | CANCELLED, which we did not ask for: a server's own timeout or panic | `Failure(Reset)` |
//! | any other | `Success`: the peer works, and this is its answer |
//!
//! | HTTP status | outcome |
//! |---|---|
//! | 429, 503 | `Failure(Overload)` |
//! | 504 | `Failure(Timeout)` |
//! | 501, 505, 511 | `Success` |
//! | other 5xx | `Failure(Server)` |
//! | any other | `Success`, once the body is complete |
//!
//! # Examples
//! ```
//! use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
//! use mainstay::protocol::{Auto, Classify, End};
//! use mainstay::{Failure, Outcome};
//!
//! let mut request = HeaderMap::new();
//! request.insert("content-type", HeaderValue::from_static("application/grpc"));
//! let mut judge = Auto.judge(&Method::POST, &Uri::from_static("/demo.Orders/Place"), &request);
//!
//! // The head of a gRPC answer decides nothing, its trailers do.
//! assert!(judge.head(StatusCode::OK, &request, false).is_none());
//! let mut trailers = HeaderMap::new();
//! trailers.insert("grpc-status", HeaderValue::from_static("8"));
//! let ending = judge.end(End::Eos(Some(&trailers)));
//! assert_eq!(ending.outcome, Outcome::Failure(Failure::Overload));
//!
//! // A body that ends without any is no success.
//! assert_eq!(judge.end(End::Eos(None)).outcome, Outcome::Failure(Failure::Protocol));
//! ```

use std::error::Error;

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use http::Uri;

use super::headers;
use super::pushback;
use super::status;
use super::status::Code;
use crate::error::Rejection;
use crate::error::RejectionKind;
use crate::error::TransportError;
use crate::outcome::Answer;
use crate::outcome::Ending;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::Pushback;
use crate::outcome::Reach;

/// Chooses the judge of a request.
pub trait Classify: Clone + Send + Sync + 'static {
    /// Is asked once for each call, with the head of its request.
    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Judge;
}

/// Judges requests whose `content-type` is `application/grpc` as gRPC, and all others as HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl Classify for Auto {
    fn judge(&self, _method: &Method, _uri: &Uri, headers: &HeaderMap) -> Judge {
        if headers::is_grpc(headers) { Judge::grpc() } else { Judge::http() }
    }
}

/// Decides how an attempt ended. See the [module](self) for the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judge {
    grpc: bool,
    http: Option<u16>,
    /// The `grpc-status` of a head that was not final.
    hint: Option<Code>,
}

/// How a body ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It is complete, with or without trailers.
    Eos(Option<&'a HeaderMap>),
    /// It failed.
    Error(&'a (dyn Error + 'static)),
    /// It was dropped before its end.
    Dropped,
}

impl Judge {
    /// The judge of a gRPC call.
    #[must_use]
    pub fn grpc() -> Self {
        Self { grpc: true, http: None, hint: None }
    }

    /// The judge of an HTTP request.
    #[must_use]
    pub fn http() -> Self {
        Self { grpc: false, http: None, hint: None }
    }

    /// Tells whether the call is judged as gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Judges the head of the answer. `end_of_stream`: its body is known to be empty. Nothing means: wait for the end.
    ///
    /// An ending from here is final, whatever the body does later.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap, end_of_stream: bool) -> Option<Ending> {
        self.http = Some(status.as_u16());
        if self.grpc {
            self.grpc_head(status, headers, end_of_stream)
        } else {
            self.http_head(status, headers, end_of_stream)
        }
    }

    /// Judges the end of the body, after [`head`](Self::head) said to wait for it.
    #[must_use]
    pub fn end(&self, end: End<'_>) -> Ending {
        match end {
            End::Eos(trailers) if self.grpc => self.grpc_end(trailers),
            End::Eos(_) => self.ending(Outcome::Success),
            // Whatever the transport says about an early end, an application has answered by now.
            End::Error(error) => Ending { reach: Reach::Processed, ..self.error(error) },
            End::Dropped => self.ending(Outcome::Cancelled),
        }
    }

    /// Judges an attempt that failed without an answer.
    ///
    /// A [`Rejection`] of ours comes first, then a [`TransportError`]; any other error is a `Failure(Reset)` of a
    /// request that an application may have seen.
    #[must_use]
    pub fn error(&self, error: &(dyn Error + 'static)) -> Ending {
        if let Some(rejection) = Rejection::find(error) {
            return match rejection.kind() {
                RejectionKind::DeadlineExceeded => self.ending(Outcome::Failure(Failure::Timeout)),
                _ => Ending { reach: Reach::NotSent, ..self.ending(Outcome::Rejected) },
            };
        }
        match TransportError::find(error) {
            Some(error) => Ending { reach: error.reach(), ..self.ending(Outcome::Failure(error.failure())) },
            None => self.ending(Outcome::Failure(Failure::Reset)),
        }
    }

    fn http_head(self, status: StatusCode, headers: &HeaderMap, end_of_stream: bool) -> Option<Ending> {
        let outcome = http_outcome(status);
        if outcome == Outcome::Success && !end_of_stream {
            return None;
        }
        let pushback = if status.as_u16() >= 400 { pushback::http(headers) } else { None };
        Some(Ending { pushback, ..self.ending(outcome) })
    }

    fn grpc_head(&mut self, status: StatusCode, headers: &HeaderMap, end_of_stream: bool) -> Option<Ending> {
        // "grpc-status wins even with HTTP 503": an intermediary may add the HTTP status that it finds fitting.
        if let Some(code) = status::find_status(headers) {
            if end_of_stream || status != StatusCode::OK {
                return Some(self.grpc_ending(code, headers));
            }
            self.hint = Some(code);
            return None;
        }
        if status != StatusCode::OK {
            let outcome = match status.as_u16() {
                400.. => http_outcome(status),
                _ => Outcome::Failure(Failure::Protocol),
            };
            let ending = self.ending(outcome);
            let answer = Answer { grpc: Some(Code::from_http(status).number()), ..ending.answer };
            return Some(Ending { answer, pushback: pushback::http(headers), ..ending });
        }
        if end_of_stream || !headers::is_grpc(headers) {
            return Some(self.ending(Outcome::Failure(Failure::Protocol)));
        }
        None
    }

    fn grpc_end(self, trailers: Option<&HeaderMap>) -> Ending {
        if let Some(trailers) = trailers
            && let Some(code) = status::find_status(trailers)
        {
            return self.grpc_ending(code, trailers);
        }
        match self.hint {
            None | Some(Code::Ok) => self.ending(Outcome::Failure(Failure::Protocol)),
            Some(code) => self.grpc_ending(code, trailers.unwrap_or(&HeaderMap::new())),
        }
    }

    fn grpc_ending(self, code: Code, headers: &HeaderMap) -> Ending {
        let pushback = match code {
            Code::Ok => None,
            _ => pushback::grpc(headers),
        };
        let ending = self.ending(grpc_outcome(code, pushback));
        Ending { answer: Answer { grpc: Some(code.number()), ..ending.answer }, pushback, ..ending }
    }

    fn ending(self, outcome: Outcome) -> Ending {
        Ending { answer: Answer { http: self.http, grpc: None }, ..Ending::new(outcome) }
    }
}

fn grpc_outcome(code: Code, pushback: Option<Pushback>) -> Outcome {
    match code {
        Code::DeadlineExceeded => Outcome::Failure(Failure::Timeout),
        Code::ResourceExhausted => Outcome::Failure(Failure::Overload),
        Code::Unavailable if pushback.is_some() => Outcome::Failure(Failure::Overload),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::DataLoss => Outcome::Failure(Failure::Server),
        // A caller who cancels gets no answer: then `end` or the drop of the future says so. A status that comes from
        // the peer is its own timeout, or a handler that panicked.
        Code::Cancelled => Outcome::Failure(Failure::Reset),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Outcome::Success,
    }
}

fn http_outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        429 | 503 => Outcome::Failure(Failure::Overload),
        504 => Outcome::Failure(Failure::Timeout),
        // The peer works and says what it does not do; 511 is a captive portal that wants a login.
        501 | 505 | 511 => Outcome::Success,
        500..=599 => Outcome::Failure(Failure::Server),
        600.. => Outcome::Failure(Failure::Protocol),
        _ => Outcome::Success,
    }
}
