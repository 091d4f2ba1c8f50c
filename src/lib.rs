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

pub mod guard;
pub mod layer;
pub mod policy;
pub mod protocol;
#[cfg(feature = "proxy")]
pub mod proxy;

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
pub use outcome::Failure;
pub use outcome::Outcome;
