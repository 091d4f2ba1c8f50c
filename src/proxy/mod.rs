//! The proxy: configuration and I/O around the library's layers.

pub mod routes;
