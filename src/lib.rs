//! Keeps services standing when the services they call are slow, failing or overloaded, and shows why.
//!
//! Tower layers for services over `http::Request` and `http::Response`, gRPC above all: deadlines, retries with a
//! budget, circuit breakers, concurrency limits; a client that balances over many endpoints ([`Channel`], feature
//! `client`), a layer for servers ([`server()`]), and a proxy made of the same parts (feature `proxy`).
//!
//! ```
//! use std::time::Duration;
//!
//! use mainstay::Rejection;
//! use mainstay::guard::Breaker;
//! use mainstay::layer::DeadlineLayer;
//! use mainstay::policy::BreakerConfig;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), mainstay::ConfigError> {
//! # let peer = |_: http::Request<String>| async { Ok::<_, std::io::Error>(http::Response::new("hello".to_owned())) };
//! let payments = Breaker::new("payments", BreakerConfig::default())?;
//! let mut client = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(2)))
//!     .layer(payments.layer())
//!     .service(service_fn(peer));
//!
//! payments.force_open(); // the handle stays yours to read and to control
//! let error = client.ready().await.expect("it is").call(http::Request::default()).await.expect_err("it is open");
//! assert_eq!(Rejection::find(&*error).expect("it is ours").by(), "payments");
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! | room | what is in it |
//! |---|---|
//! | [`policy`] | the rules, as plain values: no clock, no lock, no runtime |
//! | [`protocol`] | what HTTP and gRPC mean: how a call ended, codecs, bodies that watch, replay and peek |
//! | [`guard`] | handles: a policy behind a lock, with a name and an observer, to clone, read and control |
//! | [`layer`] | tower layers around guards and rules; the contract that each of them keeps |
//! | `balance` | many endpoints as one service: discovery, picks, ejection, connections |
//! | `client`, [`mod@server`] | the assembled stacks |
//! | `config` | the document of settings |
//! | `telemetry` | observers: metrics, the access log |
//! | `lifecycle` | readiness and drain |
//! | `proxy` | listeners, routes, admin pages, the demo |
//! | [`outcome`], [`event`], [`error`], [`context`] | the words that all rooms share |
//! | [`time`], [`rng`] | the one place that reads a clock, the one that draws random numbers |
//!
//! A call goes down from layer to guard to policy, which say who may start; how it ended goes back up, as one
//! [`Outcome`]; and what happened is told sideways, as an [`Event`], to whoever listens.
//!
//! # Stacks
//!
//! The order of the layers decides what they mean. [`Channel`] and [`server()`] keep to these, outermost first.
//!
//! A client:
//!
//! | layer | why it is there |
//! |---|---|
//! | [`RespondLayer`](layer::RespondLayer) | a generated client expects answers; nothing above it sees an error |
//! | [`ObserveLayer::calls`](layer::ObserveLayer::calls) | outside of the deadline, so that it tells what the caller saw |
//! | [`DeadlineLayer`](layer::DeadlineLayer) | outside of the retry, so that it bounds all attempts and the waits between them |
//! | [`RetryLayer`](layer::RetryLayer) | all below it happens once for each attempt |
//! | [`ObserveLayer::attempts`](layer::ObserveLayer::attempts) | outside of the limit, so that refused attempts are told as well |
//! | [`Bulkhead`](guard::Bulkhead) | inside of the retry: a call that waits for its next attempt takes no place |
//! | [`TimeoutLayer`](layer::TimeoutLayer) | bounds one attempt, so that there is time for another one |
//! | `balance::Balance` | each attempt picks anew, an endpoint that the call has not tried if there is one |
//! | [`Breaker`](guard::Breaker), ejection, load | at each endpoint: one bad endpoint says nothing about the others |
//!
//! A server:
//!
//! | layer | why it is there |
//! |---|---|
//! | [`RespondLayer`](layer::RespondLayer) | refusals, timeouts and panics become statuses |
//! | [`ObserveLayer::calls`](layer::ObserveLayer::calls) | hears of every call, refused ones too |
//! | [`DeadlineLayer::server`](layer::DeadlineLayer::server) | before the limit: a call without time left takes no place |
//! | [`Bulkhead`](guard::Bulkhead) | next to the work that it bounds |
//! | [`CatchPanicLayer`](layer::CatchPanicLayer) | next to the handler, so that a panic unwinds through nothing of ours |
//!
//! Another order can be right for you; each layer works alone.
//!
//! # Features
//!
//! None is on by default. A feature adds names and changes nothing else.
//!
//! | feature | adds |
//! |---|---|
//! | `client` | `Channel` and `balance`: discovery, picks, connections |
//! | `config` | `Config`: the document, in YAML or JSON |
//! | `metrics` | `telemetry::stats`: observers that write to the `metrics` facade |
//! | `tonic` | tonic as a dependency, for `proto` |
//! | `proto` | `proto`: messages, client and server of the demo service |
//! | `proxy` | `proxy`, `lifecycle`, the access log and the `mainstay` binary, with all of the above |
//!
//! # Cancel safety
//!
//! Dropping a future or a response's body is how callers give up, and every layer is made for it. No layer spawns a
//! task: what is dropped takes its attempts, its timers and its permits along, and the stream is reset. Guards hear of
//! it as [`Outcome::Cancelled`], which counts against nobody, or as a timeout if the call's deadline had passed. What
//! goes on in the background are connections and name resolution; those belong to the [`Channel`] and end with it.
//! Each layer's page has a section on what a drop means there.
//!
//! # Contract
//!
//! What you can rely on from each layer is written down in [`layer`], in ten points.
#![cfg_attr(docsrs, feature(doc_cfg))]
// `Channel` is there with the feature `client` only.
#![cfg_attr(not(feature = "client"), allow(rustdoc::broken_intra_doc_links))]

pub mod context;
pub mod error;
pub mod event;
mod host_port;
pub mod outcome;
pub mod rng;
mod sync;
pub mod time;

pub mod guard;
pub mod layer;
pub mod policy;
pub mod protocol;

#[cfg(feature = "client")]
pub mod balance;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "proxy")]
pub mod lifecycle;
#[cfg(feature = "proto")]
pub mod proto;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod server;
#[cfg(feature = "metrics")]
pub mod telemetry;

#[cfg(feature = "client")]
pub use client::Channel;
#[cfg(feature = "config")]
pub use config::Config;
pub use error::BoxError;
pub use error::ConfigError;
pub use error::Rejection;
pub use error::RejectionKind;
pub use error::TransportError;
pub use event::Event;
pub use event::Observer;
pub use event::Scope;
pub use host_port::HostPort;
pub use outcome::Failure;
pub use outcome::Outcome;
pub use server::server;

/// The README's examples are compiled with all that they need.
#[cfg(all(doctest, feature = "proxy"))]
#[doc = include_str!("../README.md")]
struct Readme;
