//! What HTTP and gRPC mean: codecs, the judge, and the bodies that watch, replay and peek.

mod bodies;
mod codecs;
mod headers;
mod judge;
mod over_hyper;
mod peek;
mod pushback;
mod replay;
mod replay_model;
mod tracked;
