//! Locks and atomics, from `std` or, under `--cfg mainstay_loom`, from loom.

#[cfg(mainstay_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};

#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

/// Locks, and takes over the data of a lock whose holder panicked.
///
/// Only arithmetic runs under our locks, so the data of a poisoned one is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
