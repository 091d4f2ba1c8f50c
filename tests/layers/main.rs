//! Tests of the layers: the tables of their documentation, and the cases of their specifications.
//!
//! Names carry the case: `resilience_b12` and the like. Time is paused; every peer is a script.

mod kit;

mod breaker;
mod bulkhead;
mod context;
mod deadline;
mod observe;
mod outcomes;
mod respond;
mod retry;
mod retry_grpc;
