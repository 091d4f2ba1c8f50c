//! Where the endpoints of a target are: a fixed list, or what a DNS name resolves to.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::balance::balancer::Balancer;
use crate::balance::balancer::Target;
use crate::error::BoxError;
use crate::error::ConfigError;
use crate::host_port::HostPort;
use crate::policy::Backoff;
use crate::policy::BackoffConfig;
use crate::policy::Jitter;
use crate::policy::Schedule;
use crate::rng::Rng;
use crate::time::Instant;
use crate::time::now;

/// Where the endpoints of a target are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Discovery {
    source: Source,
    nameserver: Option<SocketAddr>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Source {
    Fixed(Vec<HostPort>),
    Dns(HostPort),
}

impl Discovery {
    /// One endpoint for each entry. An entry that is a name may have several addresses; they are tried in turn.
    #[must_use]
    pub fn fixed(endpoints: Vec<HostPort>) -> Self {
        Self { source: Source::Fixed(endpoints), nameserver: None }
    }

    /// One endpoint for each address of a name: its A records, or its AAAA records if it has no others.
    ///
    /// Resolved anew when the answer's time to live is over, but at least every 30 s and at most every second. If that
    /// fails, the endpoints stay as they are.
    #[must_use]
    pub fn dns(name: HostPort) -> Self {
        Self { source: Source::Dns(name), nameserver: None }
    }

    /// Asks this name server. Default: those of the system.
    #[must_use]
    pub fn nameserver(mut self, nameserver: SocketAddr) -> Self {
        self.nameserver = Some(nameserver);
        self
    }

    /// Gives the endpoints to a balancer, now if they are addresses, else as soon as their names are resolved.
    ///
    /// Names are resolved by a task on the current runtime, which ends when the [`Updater`] is dropped.
    ///
    /// # Errors
    /// If a name server or an endpoint cannot be used.
    ///
    /// # Panics
    /// If there is a name to resolve and this is not called on a tokio runtime.
    pub fn start(self, balancer: &Balancer) -> Result<Updater, ConfigError> {
        if let Source::Fixed(endpoints) = &self.source
            && let Some(targets) = endpoints.iter().map(literal).collect::<Option<Vec<_>>>()
        {
            balancer.update(now(), &targets)?;
            return Ok(Updater(None));
        }
        let resolver = resolver(self.nameserver).map_err(|error| {
            ConfigError::new("nameserver", format_args!("{:?} ({error})", self.nameserver), "a name server to ask")
        })?;
        let task = tokio::spawn(keep_resolving(self.source, resolver, balancer.clone()));
        Ok(Updater(Some(task)))
    }
}

/// Keeps the endpoints of a balancer up to date. Dropping it stops that; the endpoints stay.
#[derive(Debug)]
pub struct Updater(Option<JoinHandle<()>>);

impl Drop for Updater {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

async fn keep_resolving(source: Source, resolver: TokioResolver, balancer: Balancer) {
    let (rng, mut backoff) = (Rng::unseeded(), Backoff::default());
    loop {
        let wait = match resolve(&source, &resolver, &balancer).await {
            Ok((targets, fresh_until)) => {
                backoff.reset();
                // A breaker's settings were checked when the balancer was made.
                let _ = balancer.update(now(), &targets);
                fresh_until.saturating_duration_since(now()).clamp(SHORTEST, LONGEST)
            }
            Err(error) => {
                balancer.unresolved(&*error);
                backoff.next(&RETRY, rng.next())
            }
        };
        sleep(wait).await;
    }
}

/// However short a time to live is, a name server is not asked more often than this.
const SHORTEST: Duration = Duration::from_secs(1);
/// However long it is, a change is seen within this time; also for names that the hosts file answers.
const LONGEST: Duration = Duration::from_secs(30);
const RETRY: BackoffConfig = BackoffConfig {
    schedule: Schedule::Exponential { base: SHORTEST, factor: 2.0, max: LONGEST },
    jitter: Jitter::Proportional(0.2),
};

async fn resolve(
    source: &Source,
    resolver: &TokioResolver,
    balancer: &Balancer,
) -> Result<(Vec<Target>, Instant), BoxError> {
    let mut fresh_until = now() + LONGEST;
    match source {
        Source::Dns(name) => {
            let (addresses, until) = lookup(resolver, name).await?;
            let v4: Vec<_> = addresses.iter().copied().filter(SocketAddr::is_ipv4).collect();
            let chosen = if v4.is_empty() { addresses } else { v4 };
            let target = |address: SocketAddr| Target { name: address.to_string().into(), addresses: vec![address] };
            Ok((chosen.into_iter().map(target).collect(), until.min(fresh_until)))
        }
        Source::Fixed(endpoints) => {
            let mut targets = Vec::with_capacity(endpoints.len());
            for endpoint in endpoints {
                if let Some(target) = literal(endpoint) {
                    targets.push(target);
                    continue;
                }
                let (addresses, until) = lookup(resolver, endpoint).await.unwrap_or_else(|error| {
                    balancer.unresolved(&*error);
                    (Vec::new(), now() + SHORTEST)
                });
                fresh_until = fresh_until.min(until);
                targets.push(Target { name: endpoint.to_string().into(), addresses });
            }
            Ok((targets, fresh_until))
        }
    }
}

async fn lookup(resolver: &TokioResolver, name: &HostPort) -> Result<(Vec<SocketAddr>, Instant), BoxError> {
    let found = resolver.lookup_ip(name.host()).await?;
    let mut addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, name.port())).collect();
    // In an order of its own: name servers rotate theirs, and that is no change.
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!("{name} has no address").into());
    }
    Ok((addresses, Instant::from_std(found.valid_until())))
}

fn resolver(nameserver: Option<SocketAddr>) -> Result<TokioResolver, BoxError> {
    let Some(address) = nameserver else {
        let builder = TokioResolver::builder_tokio()
            // Without a readable resolv.conf the hosts file still answers.
            .unwrap_or_else(|_| {
                TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
            });
        return Ok(builder.build()?);
    };
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?)
}

/// The endpoint of an entry that is an address: there is nothing to resolve.
fn literal(entry: &HostPort) -> Option<Target> {
    let address = SocketAddr::new(entry.ip()?, entry.port());
    Some(Target { name: entry.to_string().into(), addresses: vec![address] })
}
