//! Many endpoints as one service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Uri;
use http::Version;
use http::header::HOST;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::MapErr;
use hyper::body::Incoming;
use tower_service::Service;

use crate::balance::balancer::Balancer;
use crate::balance::balancer::Picked;
use crate::balance::connection::ConnectConfig;
use crate::balance::connection::Connections;
use crate::balance::connection::Loan;
use crate::balance::connection::Protocol;
use crate::balance::connection::broken;
use crate::balance::endpoint::Endpoint;
use crate::context;
use crate::context::Tried;
use crate::error::BoxError;
use crate::error::Rejection;
use crate::error::TransportError;
use crate::layer::Finish;
use crate::layer::Hold;
use crate::layer::Watch;
use crate::outcome::Ending;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::policy::Ticket;
use crate::protocol::Auto;
use crate::protocol::Classify;
use crate::protocol::Tracked;
use crate::time::Instant;
use crate::time::now;

/// Calls one of the endpoints of a [`Balancer`], over connections of its own.
///
/// Always ready; the pick is made when the call's future is first polled, from a snapshot. A clone shares the
/// connections; [`Balance::new`] over the same balancer makes others, for example one set for each worker thread. A
/// connection is made by the first call that needs it, on the runtime that the call runs on, and kept.
///
/// # Cancel safety
/// Dropping the future or the body resets the call's stream (HTTP/2) or closes its connection (HTTP/1), and counts as
/// cancelled, or as a timeout of the endpoint if the deadline has passed.
pub struct Balance<B> {
    balancer: Balancer,
    connections: Arc<Connections<B>>,
    authority: Option<Authority>,
}

/// The body of a response from an endpoint.
pub type EndpointBody<B> = Tracked<MapErr<Incoming, fn(hyper::Error) -> TransportError>, Watch<Visit<B>>>;

impl<B> Balance<B> {
    /// Makes a service with connections of its own.
    #[must_use]
    pub fn new(balancer: Balancer, config: ConnectConfig) -> Self {
        Self { balancer, connections: Arc::new(Connections::new(config)), authority: None }
    }

    /// Sets the authority of requests that name none. Default: the name of the endpoint.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// The endpoints that it calls.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }
}

impl<B> Service<Request<B>> for Balance<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<EndpointBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // hyper's futures have no names, so this one is boxed: once for each attempt, at the transport.
        Box::pin(visit(self.clone(), request))
    }
}

async fn visit<B>(balance: Balance<B>, request: Request<B>) -> Result<Response<EndpointBody<B>>, BoxError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let Balance { balancer, connections, authority } = balance;
    if !balancer.is_resolved() {
        // Boxed, as what follows is: what happens once must not make the future of every call larger.
        Box::pin(balancer.resolved()).await;
    }
    let started = now();
    // Where nothing retries, what is on record are endpoints of other calls.
    let context = context::current();
    let tried = if context.attempt > 0 { context.record.tried } else { Tried::default() };
    let picked = balancer.pick(started, &tried).inspect_err(|rejection| {
        context::record(|record| record.rejected = Some(rejection.kind()));
    })?;
    context::record(|record| record.tried.push(picked.endpoint.id()));

    let judge = Auto.judge(request.method(), request.uri(), request.headers());
    let endpoint = picked.endpoint.clone();
    let slot = connections.slot(&balancer, &endpoint);
    let mut watch = Watch::new(Visit::new(&balancer, picked, started), judge, Hold::End);
    let request = address(request, connections.config().protocol, authority.as_ref(), &endpoint);
    match slot.send(&balancer, &endpoint, connections.config(), request).await {
        Ok((response, loan)) => {
            watch.with(|visit| visit.loan = loan);
            let to_transport_error: fn(hyper::Error) -> TransportError = broken;
            Ok(watch.follow(response.map(|body| body.map_err(to_transport_error))))
        }
        Err(error) => {
            context::record(|record| {
                record.rejected = Rejection::find(&*error).map(Rejection::kind).or(record.rejected);
                record.reset = TransportError::find(&*error).is_some_and(|error| error.reset().is_some());
            });
            watch.fail(&*error);
            Err(error)
        }
    }
}

/// Writes the target of a request as the protocol has it: absolute for HTTP/2, a path and a Host for HTTP/1.
fn address<B>(
    mut request: Request<B>,
    protocol: Protocol,
    fallback: Option<&Authority>,
    endpoint: &Endpoint,
) -> Request<B> {
    let host = request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let named = request.uri().authority().cloned().or(host).or_else(|| fallback.cloned());
    let authority = named.or_else(|| endpoint.name().parse().ok());
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    match protocol {
        Protocol::Http1 => {
            if let (false, Some(authority)) = (request.headers().contains_key(HOST), &authority)
                && let Ok(host) = HeaderValue::from_str(authority.as_str())
            {
                request.headers_mut().insert(HOST, host);
            }
            *request.version_mut() = Version::HTTP_11;
        }
        Protocol::Http2 => {
            request.headers_mut().remove(HOST);
            parts.scheme = authority.is_some().then_some(Scheme::HTTP);
            parts.authority = authority;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    // What was one URI, or is a path alone, makes one again; should it not, the request stays as it came.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// One call at an endpoint, from the pick to the end of the body.
pub struct Visit<B> {
    balancer: Balancer,
    endpoint: Arc<Endpoint>,
    ticket: Option<Ticket>,
    started: Instant,
    answered: bool,
    loan: Loan<B>,
}

impl<B> Visit<B> {
    fn new(balancer: &Balancer, picked: Picked, started: Instant) -> Self {
        picked.endpoint.enter();
        let Picked { endpoint, ticket } = picked;
        Self { balancer: balancer.clone(), endpoint, ticket, started, answered: false, loan: None }
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

impl<B> Finish for Visit<B> {
    fn head(&mut self) {
        self.answered = true;
        let now = now();
        self.endpoint.answered(now, self.elapsed(now));
    }

    fn finish(mut self, now: Instant, ending: &Ending) {
        match ending.outcome {
            Outcome::Success => self.balancer.succeeded(&self.endpoint),
            Outcome::Failure(_) => self.endpoint.failed(now, self.elapsed(now), self.balancer.typical()),
            _ => {}
        }
        self.balancer.settle(now, &self.endpoint, self.ticket.take(), ending.outcome);
        // A connection whose body was not read to its end cannot be used again; dropping it closes it.
        let whole = self.answered && !matches!(ending.outcome, Outcome::Cancelled | Outcome::Failure(Failure::Reset));
        if let (true, Some((slot, sender))) = (whole, self.loan.take()) {
            slot.give_back(sender);
        }
    }
}

impl<B> Drop for Visit<B> {
    fn drop(&mut self) {
        self.endpoint.leave();
    }
}

impl<B> Clone for Balance<B> {
    fn clone(&self) -> Self {
        Self {
            balancer: self.balancer.clone(),
            connections: self.connections.clone(),
            authority: self.authority.clone(),
        }
    }
}

impl<B> fmt::Debug for Balance<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("balancer", &self.balancer).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Visit<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
