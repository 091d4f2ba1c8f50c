//! Many endpoints as one service, over loopback connections and with paused time.
#![cfg(feature = "client")]

#[path = "../layers/kit.rs"]
mod kit;

mod connections;
mod discovery;
mod ejection;
mod picks;
mod sites;
mod wire;
