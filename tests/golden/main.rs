//! What users see, kept as text: a change shows up in review.
#![cfg(feature = "config")]

mod config;
