//! Many endpoints as one service.
//!
//! ```text
//! discovery  ->  Balancer::update  ->  snapshot        in a task of its own
//! call       ->  Balancer::pick(snapshot)  ->  endpoint's connection  ->  Tracked body  ->  Balancer::settle
//! ```
//!
//! What is known of an endpoint (load, latency, ejection, breaker) is one value for everybody; connections belong to
//! the [`Balance`] that made them. Endpoints that cannot be used are left out of the snapshot, so a pick never looks
//! for one that can.

mod balancer;
mod coalesce;
mod connection;
mod discovery;
mod endpoint;
mod service;

pub use balancer::Balancer;
pub use balancer::BalancerConfig;
pub use balancer::Balancing;
pub use balancer::Target;
#[cfg(feature = "proxy")]
pub(crate) use coalesce::coalesce;
pub use connection::ConnectConfig;
pub use connection::Protocol;
pub use discovery::Discovery;
pub use discovery::Updater;
pub use endpoint::Endpoint;
pub use endpoint::Unusable;
pub use service::Balance;
pub use service::EndpointBody;
pub use service::Visit;
