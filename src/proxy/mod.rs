//! The proxy: the library's layers between a port and a cluster. Config and I/O only; it decides nothing.
//!
//! ```text
//! listener (one socket for each worker)  ->  forward: check, route, headers
//!     ->  client::Stack (the same layers as a Channel)  ->  endpoint
//! ```
//!
//! Each worker is a thread with a runtime, listening sockets and upstream connections of its own; what is known of
//! clusters and endpoints is shared.

mod admin;
mod check;
pub mod command;
pub mod demo;
mod forward;
mod inspect;
mod inspected;
mod log;
mod mesh;
pub mod routes;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::error::BoxError;
use crate::lifecycle::Lifecycle;
use crate::proxy::admin::Admin;
use crate::proxy::log::Log;
use crate::proxy::mesh::Mesh;
use crate::proxy::worker::Sockets;
use crate::telemetry::stats;
use crate::telemetry::stats::Registry;

/// How long a drain waits for the calls that are running.
pub const DRAIN: Duration = Duration::from_secs(25);

/// A proxy that runs until it is shut down.
pub struct Running {
    lifecycle: Lifecycle,
    listeners: BTreeMap<String, SocketAddr>,
    admin: Option<SocketAddr>,
    workers: Vec<JoinHandle<()>>,
    log: Option<log::Writer>,
    _stop_admin: oneshot::Sender<()>,
}

/// Starts the proxy: binds every port, starts the workers, and returns when all of them listen.
///
/// # Errors
/// If a port, the access log or a setting cannot be used.
pub async fn start(config: Config) -> Result<Running, BoxError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &stats::LATENCY_BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    let registry = Registry::new(Arc::new(recorder));
    for (name, help) in stats::HELP {
        registry.describe(name, help);
    }

    let workers =
        config.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let mut sockets = Vec::with_capacity(config.listeners.len());
    for (name, listener) in config.listeners.iter() {
        sockets.push(Sockets::bind(name, listener.bind, workers)?);
    }
    let listeners = sockets.iter().map(|sockets| (sockets.name().to_owned(), sockets.address())).collect();
    let admin_socket = config.admin.map(worker::bind_admin).transpose()?;
    let (log, writer) = match &config.access_log {
        Some(log) => Log::open(log, registry.counter(stats::LOG_DROPPED, Vec::new()))
            .map(|(log, writer)| (Some(log), Some(writer)))?,
        None => (None, None),
    };

    let lifecycle = Lifecycle::default();
    let mesh = Arc::new(Mesh::new(&config, registry)?);
    let mut threads = Vec::with_capacity(workers);
    for number in 0..workers {
        let listening = sockets.iter_mut().map(Sockets::take).collect::<Result<Vec<_>, _>>()?;
        threads.push(worker::start(
            number,
            listening,
            mesh.clone(),
            log.as_ref().map(Log::for_worker),
            lifecycle.work(),
        )?);
    }
    let (stop_admin, stopped) = oneshot::channel();
    let admin = match admin_socket {
        Some(socket) => {
            let page = Admin::new(&config, mesh, handle.clone(), lifecycle.clone())?;
            Some(page.serve(socket, stopped)?)
        }
        None => None,
    };
    tokio::spawn(admin::upkeep(handle, lifecycle.work()));
    lifecycle.ready();
    Ok(Running { lifecycle, listeners, admin, workers: threads, log: writer, _stop_admin: stop_admin })
}

impl Running {
    /// Where the listener of that name listens.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// Where all listeners listen, by name.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().map(|(name, address)| (name.as_str(), *address))
    }

    /// Where the admin pages are.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Takes no more connections, asks clients to go elsewhere, lets running calls finish, then ends.
    ///
    /// Gives up after [`DRAIN`], as it does when this future is dropped.
    pub async fn shutdown(mut self) {
        self.lifecycle.drain();
        for worker in self.workers.drain(..) {
            // A worker ends by itself, at the latest when the drain's time is over.
            let _ = tokio::task::spawn_blocking(move || worker.join()).await;
        }
        self.log.take();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("listeners", &self.listeners)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}
