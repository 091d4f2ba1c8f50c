//! The proxy, started in the test's own process on ports that the system chooses, between scripted peers.

mod admin;
mod answers;
mod client;
mod fixture;
mod headers;
mod http1;
mod http2;
mod metrics;
mod retries;
mod streams;
mod upstream;
