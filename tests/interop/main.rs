//! Real peers, as processes, against the real `mainstay run`.
//!
//! Python's gRPC client comes from `tests/interop/install.sh`, curl from the system. Where a peer is missing its tests
//! say so and pass; with `MAINSTAY_INTEROP=required` in the environment they fail instead. Upstreams and the proxy
//! choose free ports and print them. Every wait has a bound, and no process outlives its guard.
//!
//! The `direct` tests run the same checks without the proxy: if one of those fails, look at the peers first.

mod admin;
mod grpc;
mod http1;
mod lifecycle;
mod peers;
mod process;
mod proxy;
