//! Tower layers.
//!
//! Each works alone over `Service<http::Request<_>, Response = http::Response<_>>`, and all of them keep one contract,
//! which `tests/contract` runs over every layer:
//!
//! 1. `poll_ready` asks the inner service and nothing else; it reserves nothing of ours. Admission happens in `call`.
//! 2. A refused call costs no inner call: its future is ready at once with a [`Rejection`](crate::Rejection).
//! 3. Every admitted call settles exactly once: at its result, at the end of its body, or when its future or body is
//!    dropped.
//! 4. `Clone` copies no readiness and no permit; clones and repeated `layer()` share state through the handle.
//! 5. A layer that calls again (retry) calls the service that was ready first, then waits for it to be ready anew.
//! 6. No layer spawns a task. Dropping a future cancels its attempts.
//! 7. Observers run outside of locks, may run in `Drop`, must not panic; one that panics poisons nothing.
//! 8. Only `time::now` reads the clock (tokio's, so tests can pause it); only a handle's generator draws randomness.
//! 9. Futures are named types; nothing is boxed on the admitted path. Bounds stand on impls, never on structs.
//! 10. Errors are [`BoxError`](crate::BoxError); ours is found through any stack with
//!     [`Rejection::find`](crate::Rejection::find). [`RespondLayer`] turns errors into answers, at the edge.
//!
//! Layers of others that reserve in `poll_ready` (tower's `Buffer`, `ConcurrencyLimit`) belong outside of ours.

mod catch_panic;
mod deadline;
mod guard;
mod observe;
mod respond;
mod retry;
mod timeout;
mod watch;

pub use catch_panic::CatchPanic;
pub use catch_panic::CatchPanicFuture;
pub use catch_panic::CatchPanicLayer;
pub use catch_panic::Panicked;
pub use deadline::Deadline;
pub use deadline::DeadlineBody;
pub use deadline::DeadlineFuture;
pub use deadline::DeadlineLayer;
pub use guard::Guard;
pub use guard::GuardFuture;
pub use guard::GuardLayer;
pub use guard::Held;
pub use observe::Observe;
pub use observe::ObserveLayer;
pub use observe::Told;
pub use respond::Respond;
pub use respond::RespondBody;
pub use respond::RespondFuture;
pub use respond::RespondLayer;
#[cfg(feature = "proxy")]
pub(crate) use respond::reply;
pub use retry::Committed;
pub use retry::Retry;
pub use retry::RetryFuture;
pub use retry::RetryLayer;
pub use timeout::Timeout;
pub use timeout::TimeoutFuture;
pub use timeout::TimeoutLayer;
pub use watch::Finish;
pub use watch::Hold;
pub use watch::Watch;
pub use watch::Watched;
