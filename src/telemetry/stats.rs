//! Metrics through the `metrics` facade, with handles that are registered once for each cluster and route.

use std::sync::Arc;
use std::sync::OnceLock;

use metrics::Counter;
use metrics::Gauge;
use metrics::Histogram;
use metrics::Key;
use metrics::KeyName;
use metrics::Label;
use metrics::Level;
use metrics::Metadata;
use metrics::Recorder;
use metrics::SharedString;

use crate::event::BreakerState;
use crate::event::Event;
use crate::event::Observer;
use crate::event::Scope;
use crate::event::Span;
use crate::event::Stop;
use crate::outcome::Answer;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::protocol::Code;

/// Registers metrics of one kind of thing with one set of labels.
#[derive(Clone)]
pub struct Registry {
    recorder: Arc<dyn Recorder + Send + Sync>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

/// Where the metrics of this crate say that they come from.
const METADATA: Metadata<'static> = Metadata::new("mainstay", Level::INFO, None);

impl Registry {
    /// Registers with this recorder.
    #[must_use]
    pub fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        Self { recorder }
    }

    /// Says what a metric means. Counters end in `_total`, histograms in `_seconds`; the others are gauges.
    pub fn describe(&self, name: &'static str, help: &'static str) {
        let (key, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
        if name.ends_with("_total") {
            self.recorder.describe_counter(key, None, help);
        } else if name.ends_with("_seconds") {
            self.recorder.describe_histogram(key, None, help);
        } else {
            self.recorder.describe_gauge(key, None, help);
        }
    }

    /// Registers a counter.
    pub fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    /// Registers a histogram.
    pub fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }
}

/// Counts the calls of one route, or the attempts of one cluster: how many, how they ended, how long they took.
#[derive(Debug)]
struct Spans {
    registry: Registry,
    total: &'static str,
    seconds: &'static str,
    labels: Vec<Label>,
    in_flight: Gauge,
    by_ending: Box<[OnceLock<(Counter, Histogram)>]>,
}

/// Each status by itself, then one more for calls that got none.
const STATUSES: usize = Code::ALL.len() + HTTP_CLASSES.len() + 1;
const HTTP_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const OUTCOMES: [Outcome; 9] = [
    Outcome::Success,
    Outcome::Cancelled,
    Outcome::Rejected,
    Outcome::Failure(Failure::Connect),
    Outcome::Failure(Failure::Overload),
    Outcome::Failure(Failure::Protocol),
    Outcome::Failure(Failure::Reset),
    Outcome::Failure(Failure::Server),
    Outcome::Failure(Failure::Timeout),
];

impl Spans {
    fn new(
        registry: &Registry,
        total: &'static str,
        seconds: &'static str,
        in_flight: &'static str,
        labels: Vec<Label>,
    ) -> Self {
        let by_ending = (0..STATUSES * OUTCOMES.len()).map(|_| OnceLock::new()).collect();
        let in_flight = registry.gauge(in_flight, labels.clone());
        Self { registry: registry.clone(), total, seconds, labels, in_flight, by_ending }
    }

    fn ended(&self, outcome: Outcome, answer: Answer, seconds: f64) {
        self.in_flight.decrement(1.0);
        let status = status(answer);
        let kind = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(0);
        let (counter, histogram) = self.by_ending[status * OUTCOMES.len() + kind].get_or_init(|| {
            let mut labels = self.labels.clone();
            labels.push(Label::from_static_parts("grpc_status", grpc_label(status)));
            labels.push(Label::from_static_parts("http_status", http_label(status)));
            let histogram = self.registry.histogram(self.seconds, labels.clone());
            labels.push(Label::from_static_parts("outcome", outcome.as_str()));
            (self.registry.counter(self.total, labels), histogram)
        });
        counter.increment(1);
        histogram.record(seconds);
    }
}

fn status(answer: Answer) -> usize {
    let grpc = answer.grpc.map(usize::from).filter(|code| *code < Code::ALL.len());
    let http = answer.http.map(|status| usize::from(status / 100)).filter(|class| (1..=5).contains(class));
    match (grpc, http) {
        (Some(code), _) => code,
        (None, Some(class)) => Code::ALL.len() + class - 1,
        (None, None) => STATUSES - 1,
    }
}

fn grpc_label(status: usize) -> &'static str {
    Code::ALL.get(status).map_or("", |code| code.name())
}

fn http_label(status: usize) -> &'static str {
    status.checked_sub(Code::ALL.len()).and_then(|class| HTTP_CLASSES.get(class)).copied().unwrap_or("")
}

/// Counts the calls of one route. An [`Observer`] for the layer that observes calls.
#[derive(Debug)]
pub struct RouteStats(Spans);

impl RouteStats {
    /// Registers the metrics of a route.
    #[must_use]
    pub fn new(registry: &Registry, cluster: &str, route: &str) -> Self {
        let labels = vec![Label::new("cluster", cluster.to_owned()), Label::new("route", route.to_owned())];
        Self(Spans::new(registry, CALLS, CALL_SECONDS, CALLS_IN_FLIGHT, labels))
    }
}

impl Observer for RouteStats {
    fn on_event(&self, _: &Scope<'_>, event: &Event<'_>) {
        match event {
            Event::Started { span: Span::Call } => self.0.in_flight.increment(1.0),
            Event::Ended { span: Span::Call, outcome, answer, latency } => {
                self.0.ended(*outcome, *answer, latency.as_secs_f64());
            }
            _ => {}
        }
    }
}

/// Counts what happens in one cluster. An [`Observer`] for its retrier, its balancer and its attempts.
#[derive(Debug)]
pub struct ClusterStats {
    attempts: Spans,
    retries: Counter,
    transparent_retries: Counter,
    retry_overflow: Counter,
    retries_exhausted: Counter,
    rejected: Counter,
    ejections: Counter,
    ejection_overflow: Counter,
    breaker_opens: Counter,
    connections: Counter,
    connect_failures: Counter,
    resolve_failures: Counter,
}

impl ClusterStats {
    /// Registers the metrics of a cluster.
    #[must_use]
    pub fn new(registry: &Registry, cluster: &str) -> Self {
        let labels = vec![Label::new("cluster", cluster.to_owned())];
        let counter = |name| registry.counter(name, labels.clone());
        Self {
            attempts: Spans::new(registry, ATTEMPTS, ATTEMPT_SECONDS, ATTEMPTS_IN_FLIGHT, labels.clone()),
            retries: counter(RETRIES),
            transparent_retries: counter(TRANSPARENT_RETRIES),
            retry_overflow: counter(RETRY_OVERFLOW),
            retries_exhausted: counter(RETRIES_EXHAUSTED),
            rejected: counter(REJECTED),
            ejections: counter(EJECTIONS),
            ejection_overflow: counter(EJECTION_OVERFLOW),
            breaker_opens: counter(BREAKER_OPENS),
            connections: counter(CONNECTIONS),
            connect_failures: counter(CONNECT_FAILURES),
            resolve_failures: counter(RESOLVE_FAILURES),
        }
    }
}

impl Observer for ClusterStats {
    fn on_event(&self, _: &Scope<'_>, event: &Event<'_>) {
        match event {
            Event::Started { span: Span::Attempt { .. } } => self.attempts.in_flight.increment(1.0),
            Event::Ended { span: Span::Attempt { .. }, outcome, answer, latency } => {
                self.attempts.ended(*outcome, *answer, latency.as_secs_f64());
            }
            Event::RetryScheduled { transparent: true, .. } => self.transparent_retries.increment(1),
            Event::RetryScheduled { transparent: false, .. } => self.retries.increment(1),
            Event::RetryDenied { stop: Stop::BudgetSpent, .. } => self.retry_overflow.increment(1),
            Event::RetryDenied { stop: Stop::AttemptsSpent, .. } => self.retries_exhausted.increment(1),
            Event::Rejected(_) => self.rejected.increment(1),
            Event::Ejected { .. } => self.ejections.increment(1),
            Event::EjectionOverflow => self.ejection_overflow.increment(1),
            Event::BreakerChanged { to: BreakerState::Open, .. } => self.breaker_opens.increment(1),
            Event::Connected => self.connections.increment(1),
            Event::ConnectFailed { .. } => self.connect_failures.increment(1),
            Event::ResolveFailed { .. } => self.resolve_failures.increment(1),
            _ => {}
        }
    }
}

/// Every metric: its name, and what it says.
pub const HELP: [(&str, &str); 22] = [
    (CALLS, "Calls that ended, by route, status and outcome."),
    (CALL_SECONDS, "Time from a call's start to the end of its response."),
    (CALLS_IN_FLIGHT, "Calls that run now."),
    (ATTEMPTS, "Attempts that ended, by status and outcome."),
    (ATTEMPT_SECONDS, "Time from an attempt's start to the end of its response."),
    (ATTEMPTS_IN_FLIGHT, "Attempts that run now."),
    (RETRIES, "Attempts that were made because the one before failed."),
    (TRANSPARENT_RETRIES, "Attempts that were made because the one before never reached an application."),
    (RETRY_OVERFLOW, "Retries that were not made because the budget was spent or too many ran."),
    (RETRIES_EXHAUSTED, "Calls that failed after as many attempts as are allowed."),
    (REJECTED, "Calls and attempts that were refused without an attempt."),
    (EJECTIONS, "Endpoints that were ejected for failing in a row."),
    (EJECTION_OVERFLOW, "Endpoints that were not ejected because as many as are allowed already were."),
    (BREAKER_OPENS, "Circuit breakers that opened."),
    (CONNECTIONS, "Connections to endpoints that were made."),
    (CONNECT_FAILURES, "Connections to endpoints that could not be made."),
    (RESOLVE_FAILURES, "Times that the names of endpoints could not be resolved."),
    (ENDPOINTS, "Endpoints that there are."),
    (ENDPOINT_USABLE, "Whether an endpoint is used (1), or is ejected, unreachable or behind an open breaker (0)."),
    (ENDPOINT_IN_FLIGHT, "Attempts that run now at an endpoint."),
    (LOG_DROPPED, "Lines of the access log that were dropped because they could not be written in time."),
    (BREAKER_STATE, "The state of an endpoint's breaker: 0 closed, 1 half-open, 2 open."),
];

const CALLS: &str = "mainstay_calls_total";
const CALL_SECONDS: &str = "mainstay_call_duration_seconds";
const CALLS_IN_FLIGHT: &str = "mainstay_calls_in_flight";
const ATTEMPTS: &str = "mainstay_attempts_total";
const ATTEMPT_SECONDS: &str = "mainstay_attempt_duration_seconds";
const ATTEMPTS_IN_FLIGHT: &str = "mainstay_attempts_in_flight";
const RETRIES: &str = "mainstay_retries_total";
const TRANSPARENT_RETRIES: &str = "mainstay_transparent_retries_total";
const RETRY_OVERFLOW: &str = "mainstay_retry_overflow_total";
const RETRIES_EXHAUSTED: &str = "mainstay_retries_exhausted_total";
const REJECTED: &str = "mainstay_rejected_total";
const EJECTIONS: &str = "mainstay_ejections_total";
const EJECTION_OVERFLOW: &str = "mainstay_ejection_overflow_total";
const BREAKER_OPENS: &str = "mainstay_breaker_opens_total";
const CONNECTIONS: &str = "mainstay_connections_total";
const CONNECT_FAILURES: &str = "mainstay_connect_failures_total";
const RESOLVE_FAILURES: &str = "mainstay_resolve_failures_total";
/// How many endpoints a cluster has.
pub const ENDPOINTS: &str = "mainstay_endpoints";
/// Whether an endpoint is used.
pub const ENDPOINT_USABLE: &str = "mainstay_endpoint_usable";
/// How many attempts run at an endpoint.
pub const ENDPOINT_IN_FLIGHT: &str = "mainstay_endpoint_in_flight";
/// Lines of the access log that were lost.
pub const LOG_DROPPED: &str = "mainstay_access_log_dropped_total";
/// The state of an endpoint's breaker.
pub const BREAKER_STATE: &str = "mainstay_breaker_state";

/// Upper bounds of the latency buckets, in seconds: those of gRFC A66, of which every second is left out.
pub const LATENCY_BUCKETS: [f64; 20] = [
    0.000_1, 0.000_3, 0.000_6, 0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.02, 0.03, 0.05, 0.08, 0.13, 0.2, 0.3, 0.5,
    1.0, 2.0, 10.0,
];
