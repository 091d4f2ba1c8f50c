//! Mainstay.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "config")]
pub mod config;
pub mod context;
pub mod error;
pub mod event;
pub mod outcome;
pub mod rng;
mod sync;
pub mod time;

#[cfg(feature = "client")]
pub mod balance;
pub mod guard;
pub mod layer;
pub mod policy;
pub mod protocol;

#[cfg(feature = "client")]
pub mod client;
pub mod server;

#[cfg(feature = "client")]
pub use client::Channel;
pub use server::server;

pub use error::BoxError;
pub use error::ConfigError;
pub use error::Rejection;
pub use error::RejectionKind;
pub use error::TransportError;
pub use event::Event;
pub use event::Observer;
pub use event::Scope;
pub use outcome::Failure;
pub use outcome::Outcome;

#[cfg(feature = "proto")]
pub mod proto;
#[cfg(feature = "proxy")]
pub mod proxy;
