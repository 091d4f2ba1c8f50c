//! Defects that other libraries were measured to have, each with the probe that shows that this one has it not.
//!
//! The ids are those of the comparison: CB circuit breakers, RB retry budgets, TW tower, TN tonic's transport.

#[path = "../layers/kit.rs"]
mod kit;

mod breaker;
mod retry;
#[cfg(feature = "client")]
#[path = "../balance/sites.rs"]
mod sites;
#[cfg(feature = "client")]
mod transport;
