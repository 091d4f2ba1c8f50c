//! The proxy.

use std::net::SocketAddr;

use crate::BoxError;
use crate::config::Config;

pub mod demo;

/// Stands where the proxy will be; `demo` is written against it.
pub async fn start(_: Config) -> Result<Running, BoxError> {
    Err("the proxy is not part of this build".into())
}

/// A running proxy.
pub struct Running(());

impl Running {
    /// Where the listener of that name listens.
    pub fn listener(&self, _: &str) -> Option<SocketAddr> {
        None
    }

    /// Where the admin pages are.
    pub fn admin(&self) -> Option<SocketAddr> {
        None
    }

    /// Ends it.
    pub async fn shutdown(self) {}
}
