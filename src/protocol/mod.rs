//! What HTTP and gRPC mean: the judge, the codecs, and the bodies that watch, replay and peek.
//!
//! | question | answered in |
//! |---|---|
//! | how did this attempt end? | [`judge`] |
//! | when is a body over, and how did it end? | [`tracked`] |
//! | can this request be sent again? | [`replay`] |
//! | has the answer begun? | [`peek`] |
//! | what does `grpc-timeout` say? | [`grpc_timeout`] |
//! | what do `grpc-status` and `grpc-message` say, and what are they in HTTP? | [`status`] |
//! | when may one ask again? | [`pushback`] |
//! | which headers may a proxy pass on? | [`headers`] |
//!
//! Nothing here knows a runtime, a clock or a socket. Every parser is total: bad input is an error or a default, never
//! a panic.

pub mod grpc_timeout;
pub mod headers;
pub mod judge;
pub mod peek;
pub mod pushback;
pub mod replay;
pub mod status;
pub mod tracked;

pub use judge::Auto;
pub use judge::Classify;
pub use judge::End;
pub use judge::Judge;
pub use peek::Peek;
pub use peek::Peeked;
pub use replay::Replay;
pub use replay::Replayer;
pub use status::Code;
pub use tracked::OnEnd;
pub use tracked::Tracked;
