//! What the proxy does with one request: check, route, mend the headers, call, log.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::Version;
use http::header::CONNECTION;
use http::header::EXPECT;
use http::header::HOST;
use http::header::USER_AGENT;
use hyper::body::Incoming;
use tower_service::Service;

use crate::balance::Balance;
use crate::client::Stack;
use crate::client::StackBody;
use crate::client::assemble;
use crate::context::CallContext;
use crate::context::Record;
use crate::error::RejectionKind;
use crate::error::TransportError;
use crate::layer::Finish;
use crate::layer::Hold;
use crate::layer::Watch;
use crate::layer::reply;
use crate::outcome::Answer;
use crate::outcome::Ending;
use crate::outcome::Outcome;
use crate::protocol::Auto;
use crate::protocol::Classify;
use crate::protocol::Code;
use crate::protocol::End;
use crate::protocol::OnEnd;
use crate::protocol::Replay;
use crate::protocol::Tracked;
use crate::protocol::headers::append_forwarded_for;
use crate::protocol::headers::strip_hop_by_hop;
use crate::proxy::check::malformed;
use crate::proxy::log::Log;
use crate::proxy::mesh::Mesh;
use crate::rng::Rng;
use crate::telemetry::access_log::Line;
use crate::time::Instant;
use crate::time::now;

/// A listener as one worker serves it: the shared routes with connections of the worker's own.
pub(crate) struct Forwarder {
    mesh: Arc<Mesh>,
    listener: usize,
    stacks: Vec<Stack<RequestBody>>,
    log: Option<Log>,
    rng: Rng,
}

/// Who is at the other end of a connection, written once for all its calls.
#[derive(Debug)]
pub(crate) struct Peer {
    address: String,
    ip: HeaderValue,
}

impl Peer {
    /// Writes down an address.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical().to_string();
        let ip = HeaderValue::try_from(ip).expect("an address is digits, letters, dots and colons");
        Self { address: address.to_string(), ip }
    }
}

/// The body of a request, whose bytes are counted if there is an access log.
pub(crate) type RequestBody = Tracked<Incoming, Received>;
/// The body of a response, whose end is logged if there is an access log.
pub(crate) type ResponseBody = Tracked<StackBody<RequestBody>, Watch<Logged>>;

impl Forwarder {
    /// Makes the connections' side of a listener.
    pub(crate) fn new(
        mesh: Arc<Mesh>,
        listener: usize,
        balances: &[Balance<Replay<RequestBody>>],
        log: Option<Log>,
    ) -> Self {
        let routes = &mesh.listeners[listener].routes;
        let stacks = routes.iter().map(|route| assemble(&route.parts, balances[route.cluster].clone())).collect();
        Self { mesh, listener, stacks, log, rng: Rng::unseeded() }
    }

    /// Answers one request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let (mut head, body) = request.into_parts();
        let refused = malformed(&head);
        let route = match refused {
            None => self.route(&head),
            Some(_) => None,
        };
        self.mend(&mut head, &peer);
        let judge = Auto.judge(&head.method, &head.uri, &head.headers);
        let logged = Logged::new(&self, peer, &head, route);
        let received = logged.received();
        let mut watch = Watch::new(logged, judge, Hold::End);

        let grpc = judge.is_grpc();
        let Some(route) = route else {
            let mut response = match refused {
                Some((status, why)) => reply(grpc, status, Code::Internal, why),
                None => reply(grpc, StatusCode::NOT_FOUND, Code::Unimplemented, "no route matches"),
            };
            // What is left of such a request's body is not read; the connection cannot go on.
            if head.version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return Ok(watch.follow(response));
        };
        let version = head.version;
        let request = Request::from_parts(head, Tracked::new(body, received));
        let mut stack = self.stacks[route].clone();
        let mut context = CallContext::default();
        let mut call = pin!(context.enter(|| stack.call(request)));
        let Ok(mut response) = poll_fn(|cx| context.enter(|| call.as_mut().poll(cx))).await;
        watch.with(|logged| logged.record = context.record);

        if response.version() < Version::HTTP_2 {
            strip_hop_by_hop(response.headers_mut());
        }
        *response.version_mut() = version;
        Ok(watch.follow(response))
    }

    /// Logs a request that could not be read, to which hyper has given this answer.
    pub(crate) fn unreadable(&self, peer: &Peer, status: StatusCode) {
        let Some(log) = &self.log else { return };
        let answer = Answer { http: Some(status.as_u16()), grpc: None };
        let record = Record { rejected: Some(RejectionKind::RequestBroken), ..Record::default() };
        let line = Line {
            start_time: crate::telemetry::wall_clock(),
            method: None,
            path: None,
            authority: None,
            protocol: "HTTP/1.1",
            user_agent: None,
            request_id: None,
            remote_address: &peer.address,
            cluster: None,
            upstream_host: None,
            grpc_status: None,
            ending: Ending { answer, ..Ending::new(Outcome::Success) },
            record,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            response_duration: None,
        };
        log.line(|out| line.write(out));
    }

    fn route(&self, head: &http::request::Parts) -> Option<usize> {
        // `*` and the target of a CONNECT are no paths, not even for a route that takes all paths.
        if !head.uri.path().starts_with('/') || head.method == Method::CONNECT {
            return None;
        }
        let router = &self.mesh.listeners[self.listener].router;
        router.find(&head.method, head.uri.path(), authority(head), &head.headers)
    }

    /// Makes the request's headers those of a hop further on.
    fn mend(&self, head: &mut http::request::Parts, peer: &Peer) {
        // hyper's own notes (upgrades) mean nothing upstream, and would be copied for each attempt.
        head.extensions.clear();
        // HTTP/2 has no such headers: h2 refuses messages that do (RFC 9113, 8.2.2).
        if head.version < Version::HTTP_2 {
            strip_hop_by_hop(&mut head.headers);
        }
        // "absolute-form: Host replaced by the URI's authority" (RFC 9112, 3.2.2).
        if let (true, Some(authority)) = (head.version < Version::HTTP_2, head.uri.authority())
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        append_forwarded_for(&mut head.headers, &peer.ip);
        let headers = &mut head.headers;
        // hyper has sent the 100 by the time that the body is asked for; nobody waits for another.
        if headers.get(EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            headers.remove(EXPECT);
        }
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if !headers.contains_key(REQUEST_ID) {
            headers.insert(REQUEST_ID, request_id(&self.rng));
        }
    }
}

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn authority(head: &http::request::Parts) -> Option<&str> {
    let named = head.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(|| head.headers.get(HOST).and_then(|host| host.to_str().ok()))
}

/// Makes a version 4 UUID (RFC 9562, 5.4).
fn request_id(rng: &Rng) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bits = u128::from(rng.next()) << 64 | u128::from(rng.next());
    bits = bits & !(0xf << 76) | 0x4 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let mut text = [b'-'; 36];
    let mut nibble = 32;
    for (at, letter) in text.iter_mut().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            continue;
        }
        nibble -= 1;
        *letter = HEX[(bits >> (4 * nibble)) as usize & 0xf];
    }
    let mut value = HeaderValue::from_bytes(&text).expect("it is hexadecimal digits and dashes");
    // No other request has this value: it shall not take a place in the table of header compression (RFC 7541, 7.1.3).
    value.set_sensitive(true);
    value
}

/// Watches a request's body.
pub(crate) struct Received(Option<Arc<Upload>>);

/// What is known of a request's body.
#[derive(Default)]
struct Upload {
    bytes: AtomicU64,
    /// The client went away before the end.
    left: AtomicBool,
}

impl OnEnd for Received {
    fn on_data(&mut self, bytes: usize) {
        if let Some(upload) = &self.0 {
            upload.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn on_end(self, end: End<'_>) {
        if let (Some(upload), End::Error(error)) = (&self.0, end) {
            upload.left.store(is_cut(error), Ordering::Relaxed);
        }
    }
}

/// Tells whether a body broke off because its connection did, not because it is malformed.
fn is_cut(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        }
        next = error.source();
    }
    false
}

/// A call that will be a line of the access log.
pub(crate) struct Logged {
    entry: Option<Box<Entry>>,
    record: Record,
    sent: u64,
}

struct Entry {
    forwarder: Arc<Forwarder>,
    started: Instant,
    answered: Option<Instant>,
    start_time: SystemTime,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    peer: Arc<Peer>,
    route: Option<usize>,
    upload: Arc<Upload>,
}

impl Logged {
    fn new(forwarder: &Arc<Forwarder>, peer: Arc<Peer>, head: &http::request::Parts, route: Option<usize>) -> Self {
        let entry = forwarder.log.is_some().then(|| {
            Box::new(Entry {
                forwarder: forwarder.clone(),
                started: now(),
                answered: None,
                start_time: crate::telemetry::wall_clock(),
                method: head.method.clone(),
                uri: head.uri.clone(),
                version: head.version,
                host: head.headers.get(HOST).cloned(),
                user_agent: head.headers.get(USER_AGENT).cloned(),
                request_id: head.headers.get(REQUEST_ID).cloned(),
                peer,
                route,
                upload: Arc::default(),
            })
        });
        Self { entry, record: Record::default(), sent: 0 }
    }

    fn received(&self) -> Received {
        Received(self.entry.as_ref().map(|entry| entry.upload.clone()))
    }
}

impl Finish for Logged {
    fn head(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.answered = Some(now());
        }
    }

    fn data(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    fn broken(&mut self, error: &(dyn Error + 'static)) {
        self.record.reset = TransportError::find(error).is_some_and(|error| error.reset().is_some());
    }

    fn finish(self, now: Instant, ending: &Ending) {
        let Some(entry) = self.entry else { return };
        let Some(log) = &entry.forwarder.log else { return };
        let mesh = &entry.forwarder.mesh;
        let route = entry.route.map(|route| &mesh.listeners[entry.forwarder.listener].routes[route]);
        let cluster = route.map(|route| &mesh.clusters[route.cluster]);
        let tried = self.record.tried.last();
        let endpoint = cluster.zip(tried).and_then(|(cluster, id)| cluster.balancer.endpoint(id));
        let authority = entry.uri.authority().map(http::uri::Authority::as_str);
        // Nobody gets the answer that a request gets which broke off in this way.
        let left =
            self.record.rejected == Some(RejectionKind::RequestBroken) && entry.upload.left.load(Ordering::Relaxed);
        let ending = if left { Ending::new(Outcome::Cancelled) } else { *ending };
        let since = |then: Instant| then.saturating_duration_since(entry.started);
        let line = Line {
            start_time: entry.start_time,
            method: Some(entry.method.as_str()),
            path: Some(entry.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)),
            authority: authority.or_else(|| text(entry.host.as_ref())),
            protocol: if entry.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            user_agent: text(entry.user_agent.as_ref()),
            request_id: text(entry.request_id.as_ref()),
            remote_address: &entry.peer.address,
            cluster: cluster.map(|cluster| &*cluster.name),
            upstream_host: endpoint.as_ref().map(|endpoint| endpoint.name()),
            grpc_status: ending.answer.grpc.and_then(Code::from_number).map(Code::name),
            ending,
            record: self.record,
            bytes_received: entry.upload.bytes.load(Ordering::Relaxed),
            bytes_sent: self.sent,
            duration: since(now),
            response_duration: entry.answered.map(since),
        };
        log.line(|out| line.write(out));
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}
