//! Keeps services standing when the services they call are slow, failing or overloaded, and shows why.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod context;
pub mod error;
pub mod event;
mod host_port;
pub mod outcome;
pub mod rng;
mod sync;
pub mod time;

pub mod guard;
pub mod layer;
pub mod policy;
pub mod protocol;

#[cfg(feature = "client")]
pub mod balance;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "proxy")]
pub mod lifecycle;
#[cfg(feature = "proto")]
pub mod proto;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod server;
#[cfg(feature = "metrics")]
pub mod telemetry;

#[cfg(feature = "client")]
pub use client::Channel;
#[cfg(feature = "config")]
pub use config::Config;
pub use error::BoxError;
pub use error::ConfigError;
pub use error::Rejection;
pub use error::RejectionKind;
pub use error::TransportError;
pub use event::Event;
pub use event::Observer;
pub use event::Scope;
pub use host_port::HostPort;
pub use outcome::Failure;
pub use outcome::Outcome;
pub use server::server;
