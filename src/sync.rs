//! Locks and atomics, from `std` or, under `--cfg mainstay_loom`, from loom. `Arc` is always `std`'s: loom's holds no
//! `str` and no trait object, and what we check with loom is what is inside.

pub(crate) use std::sync::Arc;

#[cfg(mainstay_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

#[cfg(not(mainstay_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Locks, and takes over the data of a lock whose holder panicked.
///
/// Only arithmetic runs under our locks, so the data of a poisoned one is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
