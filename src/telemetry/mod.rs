//! Observers: what happened, as metrics and as lines of an access log.

#[cfg(feature = "proxy")]
pub mod access_log;
#[cfg(feature = "metrics")]
pub mod stats;

/// Reads the wall clock, to stamp what people read.
#[cfg(feature = "proxy")]
#[allow(clippy::disallowed_methods)] // the one place that may
pub(crate) fn wall_clock() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
