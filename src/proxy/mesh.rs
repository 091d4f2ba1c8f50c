//! What all workers share: clusters with their policies, routes with their settings, metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::Label;

use crate::balance::Balancer;
use crate::balance::BalancerConfig;
use crate::balance::Balancing;
use crate::balance::ConnectConfig;
use crate::balance::Discovery;
use crate::balance::Protocol;
use crate::balance::Unusable;
use crate::balance::Updater;
use crate::client::Parts;
use crate::config;
use crate::config::Config;
use crate::error::ConfigError;
use crate::event::BreakerState;
use crate::guard::Bulkhead;
use crate::guard::Listener as Hearer;
use crate::guard::Retrier;
use crate::guard::RetrierConfig;
use crate::layer::DeadlineLayer;
use crate::layer::ObserveLayer;
use crate::layer::TimeoutLayer;
use crate::policy::RetryConfig;
use crate::proxy::routes::Router;
use crate::rng::Rng;
use crate::telemetry::stats;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::Registry;
use crate::telemetry::stats::RouteStats;
use crate::time::Instant;

/// Clusters and routes, ready to be called by every worker.
pub(crate) struct Mesh {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) listeners: Vec<Listener>,
    registry: Registry,
}

/// A cluster: what is known of its endpoints, and the policies that its routes share.
pub(crate) struct Cluster {
    pub(crate) name: Arc<str>,
    pub(crate) balancer: Balancer,
    pub(crate) connect: ConnectConfig,
    retrier: Retrier,
    limit: Bulkhead,
    hearer: Hearer,
    _updater: Updater,
}

/// A listener: where to find the route of a request, and what each route does.
pub(crate) struct Listener {
    pub(crate) router: Router,
    pub(crate) routes: Vec<Route>,
}

/// A route: its cluster, by number, and its layers.
pub(crate) struct Route {
    pub(crate) cluster: usize,
    pub(crate) parts: Parts,
}

impl Mesh {
    /// Makes the shared state of a checked document. Starts the discovery of endpoints on the current runtime.
    pub(crate) fn new(config: &Config, registry: Registry) -> Result<Self, ConfigError> {
        let mut clusters = Vec::with_capacity(config.clusters.len());
        let mut by_name = HashMap::with_capacity(config.clusters.len());
        for (name, cluster) in config.clusters.iter() {
            by_name.insert(name, clusters.len());
            clusters.push(Cluster::new(name, cluster, &registry).map_err(|error| error.within(name))?);
        }
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for (name, listener) in config.listeners.iter() {
            let mut routes = Vec::with_capacity(listener.routes.len());
            for (number, route) in listener.routes.iter().enumerate() {
                let cluster = *by_name.get(route.cluster.as_str()).ok_or_else(|| {
                    ConfigError::new("cluster", format_args!("`{}`", route.cluster), "one of the clusters")
                })?;
                let stats = RouteStats::new(&registry, &route.cluster, &format!("{name}/{number}"));
                routes.push(Route { cluster, parts: parts(route, &clusters[cluster], stats)? });
            }
            listeners.push(Listener { router: Router::new(listener)?, routes });
        }
        Ok(Self { clusters, listeners, registry })
    }

    /// Writes what is only known when it is asked for: the state of endpoints.
    pub(crate) fn gauge(&self, now: Instant) {
        for cluster in &self.clusters {
            let label = || Label::new("cluster", cluster.name.to_string());
            let endpoints = cluster.balancer.endpoints();
            self.set(stats::ENDPOINTS, vec![label()], endpoints.len());
            for endpoint in endpoints {
                let labels = || vec![label(), Label::new("endpoint", endpoint.name().to_owned())];
                self.set(stats::ENDPOINT_USABLE, labels(), usize::from(endpoint.unusable(now).is_none()));
                self.set(stats::ENDPOINT_IN_FLIGHT, labels(), endpoint.in_flight() as usize);
                let Some(state) = endpoint.breaker() else { continue };
                self.set(
                    stats::BREAKER_STATE,
                    labels(),
                    breaker_number(state, endpoint.unusable(now).map(|(why, _)| why)),
                );
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn set(&self, name: &'static str, labels: Vec<Label>, value: usize) {
        self.registry.gauge(name, labels).set(value as f64);
    }
}

// An open breaker whose time is over has not heard of it yet: it will probe at the next call.
fn breaker_number(state: BreakerState, unusable: Option<Unusable>) -> usize {
    match (state, unusable) {
        (BreakerState::Closed | BreakerState::ForcedClosed, _) => 0,
        (BreakerState::HalfOpen, _) => 1,
        (BreakerState::Open, None) => 1,
        (_, _) => 2,
    }
}

impl Cluster {
    fn new(name: &str, config: &config::Cluster, registry: &Registry) -> Result<Self, ConfigError> {
        let name: Arc<str> = name.into();
        let hearer = Hearer::new(Arc::new(ClusterStats::new(registry, &name)));
        let balancing = match config.balance() {
            config::Balance::P2c => Balancing::P2c,
            config::Balance::RoundRobin => Balancing::RoundRobin,
        };
        let balancer = BalancerConfig {
            balancing,
            outlier: config.outlier.as_ref().map(Into::into),
            breaker: config.breaker.as_ref().map(Into::into),
        };
        let balancer = Balancer::build(name.clone(), balancer, hearer.clone(), Rng::unseeded())?;
        let discovery = match &config.dns {
            Some(dns) => Discovery::dns(dns.clone()),
            None => Discovery::fixed(config.endpoints.clone()),
        };
        let retrier = RetrierConfig {
            retry: RetryConfig::default(),
            budget: config.budget.as_ref().map(Into::into),
            max_retries: config.limits.max_retries.unwrap_or(u32::MAX),
        };
        let protocol = match config.protocol {
            config::Protocol::Http1 => Protocol::Http1,
            config::Protocol::Http2 => Protocol::Http2,
        };
        Ok(Self {
            _updater: discovery.start(&balancer)?,
            balancer,
            connect: ConnectConfig { protocol, timeout: config.connect_timeout },
            retrier: Retrier::build(name.clone(), retrier, hearer.clone(), Rng::unseeded())?,
            limit: Bulkhead::build(name.clone(), config.limits.max_requests, hearer.clone()),
            hearer,
            name,
        })
    }
}

/// The layers of a route, in the library's canonical order.
fn parts(route: &config::Route, cluster: &Cluster, stats: RouteStats) -> Result<Parts, ConfigError> {
    let name = cluster.name.clone();
    let deadline = DeadlineLayer::inherited().named(name.clone());
    let retry = match &route.retry {
        None => cluster.retrier.layer(),
        Some(retry) => {
            let layer = cluster
                .retrier
                .with_policy(retry.into())?
                .layer()
                .buffer(usize::try_from(retry.buffer.0).unwrap_or(usize::MAX))
                .peek_trailers();
            layer.methods(retry.methods.iter().filter_map(|method| method.parse().ok()))
        }
    };
    let per_try = route.retry.as_ref().and_then(|retry| retry.per_try_timeout).unwrap_or(Duration::MAX);
    Ok(Parts {
        calls: ObserveLayer::heard(name.clone(), Hearer::new(Arc::new(stats)), true),
        deadline: route.timeout.into_iter().fold(deadline, DeadlineLayer::timeout),
        retry,
        attempts: ObserveLayer::heard(name.clone(), cluster.hearer.clone(), false),
        limit: cluster.limit.clone(),
        attempt_timeout: TimeoutLayer::new(per_try).named(name),
    })
}
