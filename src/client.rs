//! The assembled client: many endpoints behind all the layers, in canonical order.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::uri::Authority;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::balance::Balance;
use crate::balance::Balancer;
use crate::balance::BalancerConfig;
use crate::balance::Balancing;
use crate::balance::ConnectConfig;
use crate::balance::Discovery;
use crate::balance::Protocol;
use crate::balance::Updater;
use crate::error::BoxError;
use crate::error::ConfigError;
use crate::event::Observer;
use crate::guard::Bulkhead;
use crate::guard::Listener;
use crate::guard::Retrier;
use crate::guard::RetrierConfig;
use crate::host_port::HostPort;
use crate::layer::Deadline;
use crate::layer::DeadlineLayer;
use crate::layer::Guard;
use crate::layer::Observe;
use crate::layer::ObserveLayer;
use crate::layer::Respond;
use crate::layer::RespondLayer;
use crate::layer::Retry;
use crate::layer::RetryLayer;
use crate::layer::Timeout;
use crate::layer::TimeoutLayer;
use crate::policy::BreakerConfig;
use crate::policy::BudgetConfig;
use crate::policy::OutlierConfig;
use crate::policy::RetryConfig;
use crate::protocol::Code;
use crate::protocol::Replay;
use crate::rng::Rng;

/// A service over many endpoints with all the layers, for a generated tonic client or any HTTP/2 caller.
///
/// Outermost first: errors to answers, call events, deadline, retry, attempt events, limit, attempt timeout, balance,
/// and at each endpoint a breaker, ejection and load. A clone is the same channel.
///
/// With nothing set it repeats only what provably never reached a server, obeys `grpc-timeout` and the deadline of the
/// call around it, leaves endpoints out that fail five times in a row, and has a breaker at each endpoint.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use mainstay::Channel;
/// use mainstay::policy::{Condition, RetryConfig};
/// # type Body = http_body_util::Full<bytes::Bytes>;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), mainstay::ConfigError> {
/// let channel: Channel<Body> = Channel::builder("dns:///orders.prod:50051").deadline(Duration::from_secs(2)).build()?;
///
/// let channel: Channel<Body> = Channel::builder("static:///10.0.0.1:50051,10.0.0.2:50051")
///     .retry(RetryConfig { on: [Condition::Unavailable].into_iter().collect(), ..RetryConfig::default() })
///     .attempt_timeout(Duration::from_millis(500))
///     .build()?;
/// # let _ = channel;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// Dropping a call's future or body cancels its attempts and resets its stream.
pub struct Channel<B> {
    stack: Stack<B>,
    balancer: Balancer,
    retrier: Retrier,
    _updater: Arc<Updater>,
}

/// All the layers of a client, in canonical order.
pub(crate) type Stack<B> = Respond<Observe<Deadline<Retry<Observe<Guard<Timeout<Balance<Replay<B>>>, Bulkhead>>>>>>;

/// The body of what a [`Stack`] answers.
#[cfg(feature = "proxy")]
pub(crate) type StackBody<B> = <<Stack<B> as Service<Request<B>>>::Response as Answer>::Body;

/// Names the body of a response type.
#[cfg(feature = "proxy")]
pub(crate) trait Answer {
    /// The body.
    type Body;
}

#[cfg(feature = "proxy")]
impl<B> Answer for http::Response<B> {
    type Body = B;
}

/// What a [`Stack`] is made of.
pub(crate) struct Parts {
    pub(crate) calls: ObserveLayer,
    pub(crate) deadline: DeadlineLayer,
    pub(crate) retry: RetryLayer,
    pub(crate) attempts: ObserveLayer,
    pub(crate) limit: Bulkhead,
    pub(crate) attempt_timeout: TimeoutLayer,
}

/// Puts the layers of a client around its endpoints.
pub(crate) fn assemble<B>(parts: &Parts, balance: Balance<Replay<B>>) -> Stack<B> {
    let stack = parts.attempt_timeout.layer(balance);
    // Inside of the retry, so that a call that waits for its next attempt takes no place.
    let stack = parts.limit.layer().layer(stack);
    let stack = parts.attempts.layer(stack);
    let stack = parts.retry.layer(stack);
    // Outside of the retry: the deadline bounds all attempts and the waits between them.
    let stack = parts.deadline.layer(stack);
    // Outside of the deadline: a call that ran out of time is told as what its caller saw.
    let stack = parts.calls.layer(stack);
    // gRFC A32: a call that a client's limit refuses is UNAVAILABLE.
    RespondLayer::new().overloaded(Code::Unavailable).layer(stack)
}

impl Channel<()> {
    /// Starts a channel to a target.
    ///
    /// | target | endpoints |
    /// |---|---|
    /// | `dns:///host:port`, `host:port` | one for each address of the name, resolved again and again |
    /// | `dns://nameserver:port/host:port` | the same, asking that name server |
    /// | `http://host:port` | one, at that host |
    /// | `static:///host:port,host:port` | one for each entry |
    #[must_use]
    pub fn builder(target: impl Into<String>) -> ChannelBuilder {
        ChannelBuilder {
            target: target.into(),
            name: None,
            authority: None,
            deadline: None,
            attempt_timeout: Duration::MAX,
            retrier: RetrierConfig::default(),
            balancer: BalancerConfig { breaker: Some(BreakerConfig::default()), ..BalancerConfig::default() },
            max_requests: u32::MAX,
            connect: ConnectConfig::default(),
            listener: Listener::default(),
        }
    }
}

impl<B> Channel<B> {
    /// Its endpoints: which there are, which can be used, how they do.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Its retry policy and budget.
    #[must_use]
    pub fn retrier(&self) -> &Retrier {
        &self.retrier
    }
}

impl<B> Service<Request<B>> for Channel<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = <Stack<B> as Service<Request<B>>>::Response;
    type Error = Infallible;
    type Future = <Stack<B> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.stack.call(request)
    }
}

impl<B> Clone for Channel<B> {
    fn clone(&self) -> Self {
        Self {
            stack: self.stack.clone(),
            balancer: self.balancer.clone(),
            retrier: self.retrier.clone(),
            _updater: self._updater.clone(),
        }
    }
}

impl<B> fmt::Debug for Channel<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("balancer", &self.balancer)
            .field("retrier", &self.retrier)
            .finish_non_exhaustive()
    }
}

/// The settings of a [`Channel`]. Made by [`Channel::builder`]; the order of its methods does not matter.
#[derive(Clone, Debug)]
pub struct ChannelBuilder {
    target: String,
    name: Option<Arc<str>>,
    authority: Option<Authority>,
    deadline: Option<Duration>,
    attempt_timeout: Duration,
    retrier: RetrierConfig,
    balancer: BalancerConfig,
    max_requests: u32,
    connect: ConnectConfig,
    listener: Listener,
}

impl ChannelBuilder {
    /// Names the channel in events and errors. Default: the target's host.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the authority of requests that name none. Default: the target's host and port.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Sets the longest time that a call may take, all attempts and its response's body included. Default: none but
    /// the call's `grpc-timeout` and the deadline of the call around it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the longest time to the head of one attempt's response. Default: none.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets which attempts are repeated. Default: only those that provably never reached a server.
    #[must_use]
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.retrier.retry = retry;
        self
    }

    /// Sets how much extra load retries may make; `None` for no bound. Default: 20%, and 10 a second.
    #[must_use]
    pub fn budget(mut self, budget: Option<BudgetConfig>) -> Self {
        self.retrier.budget = budget;
        self
    }

    /// Sets how an endpoint is picked. Default: p2c.
    #[must_use]
    pub fn balancing(mut self, balancing: Balancing) -> Self {
        self.balancer.balancing = balancing;
        self
    }

    /// Sets when a failing endpoint is left out; `None` never. Default: after five failures in a row.
    #[must_use]
    pub fn outlier(mut self, outlier: Option<OutlierConfig>) -> Self {
        self.balancer.outlier = outlier;
        self
    }

    /// Sets the breaker of each endpoint; `None` for none. Default: half of at least 20 calls in 10 s failed.
    #[must_use]
    pub fn breaker(mut self, breaker: Option<BreakerConfig>) -> Self {
        self.balancer.breaker = breaker;
        self
    }

    /// Sets how many attempts run at once. Default: no bound.
    #[must_use]
    pub fn max_requests(mut self, requests: u32) -> Self {
        self.max_requests = requests;
        self
    }

    /// Sets how long making a connection may take. Default: 1 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect.timeout = timeout;
        self
    }

    /// Sets the protocol that endpoints speak. Default: HTTP/2.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.connect.protocol = protocol;
        self
    }

    /// Tells `observer` what happens. Default: nobody.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.listener = Listener::new(observer);
        self
    }

    /// Makes the channel. Connections are made by the calls that need them.
    ///
    /// # Errors
    /// If the target or a setting cannot be used.
    ///
    /// # Panics
    /// If the target has a name to resolve and this is not called on a tokio runtime.
    pub fn build<B>(self) -> Result<Channel<B>, ConfigError> {
        let (host, discovery) = target(&self.target)?;
        let name = self.name.unwrap_or_else(|| host.host().into());
        let authority = self.authority.or_else(|| host.to_string().parse().ok());
        let balancer = Balancer::build(name.clone(), self.balancer, self.listener.clone(), Rng::unseeded())?;
        let updater = discovery.start(&balancer)?;
        let retrier = Retrier::build(name.clone(), self.retrier, self.listener.clone(), Rng::unseeded())?;
        let deadline = DeadlineLayer::inherited().named(name.clone());
        let parts = Parts {
            calls: ObserveLayer::heard(name.clone(), self.listener.clone(), true),
            deadline: self.deadline.into_iter().fold(deadline, DeadlineLayer::timeout),
            retry: retrier.layer(),
            attempts: ObserveLayer::heard(name.clone(), self.listener.clone(), false),
            limit: Bulkhead::build(name.clone(), self.max_requests, self.listener),
            attempt_timeout: TimeoutLayer::new(self.attempt_timeout).named(name),
        };
        let balance = Balance::new(balancer.clone(), self.connect);
        let balance = authority.into_iter().fold(balance, Balance::authority);
        Ok(Channel { stack: assemble(&parts, balance), balancer, retrier, _updater: Arc::new(updater) })
    }
}

/// Reads a target: the host that names it, and where its endpoints are.
fn target(text: &str) -> Result<(HostPort, Discovery), ConfigError> {
    let wrong = |allowed: &str| ConfigError::new("target", format_args!("`{text}`"), allowed);
    let host = |text: &str| -> Result<HostPort, ConfigError> {
        text.parse().map_err(|_| wrong("`dns:///host:port`, `static:///host:port,host:port` or `http://host:port`"))
    };
    if let Some(rest) = text.strip_prefix("dns://") {
        let (nameserver, name) = rest.split_once('/').ok_or_else(|| wrong("`dns:///host:port`: three slashes"))?;
        let name = host(name)?;
        let discovery = Discovery::dns(name.clone());
        if nameserver.is_empty() {
            return Ok((name, discovery));
        }
        let nameserver = nameserver.parse().map_err(|_| wrong("`dns://address:port/host:port`"))?;
        return Ok((name, discovery.nameserver(nameserver)));
    }
    if let Some(list) = text.strip_prefix("static:///") {
        let hosts = list.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        let first = hosts.first().cloned().ok_or_else(|| wrong("at least one endpoint"))?;
        return Ok((first, Discovery::fixed(hosts)));
    }
    if let Some(rest) = text.strip_prefix("http://") {
        let host = host(rest.trim_end_matches('/'))?;
        return Ok((host.clone(), Discovery::fixed(vec![host])));
    }
    if text.contains("://") {
        return Err(wrong("without TLS: `dns:///host:port`, `static:///host:port,host:port` or `http://host:port`"));
    }
    let host = host(text)?;
    Ok((host.clone(), Discovery::dns(host)))
}
