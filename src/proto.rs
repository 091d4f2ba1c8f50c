//! Generated messages, clients and servers of the project's own `proto/`.

/// The demo service, `Greeter`.
pub mod demo {
    /// Version 1: what `mainstay demo`, the examples and the interop tests speak.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("mainstay.demo.v1");
    }
}
