//! What documents mean.

use std::num::NonZeroUsize;
use std::time::Duration;

use mainstay::config::AccessLog;
use mainstay::config::Backoff;
use mainstay::config::Balance;
use mainstay::config::Breaker;
use mainstay::config::Budget;
use mainstay::config::Cluster;
use mainstay::config::Config;
use mainstay::config::HeaderMatch;
use mainstay::config::Limits;
use mainstay::config::Listener;
use mainstay::config::OpenFor;
use mainstay::config::Outlier;
use mainstay::config::Protocol;
use mainstay::config::Retry;
use mainstay::config::Route;
use mainstay::config::RouteMatch;
use mainstay::policy::Condition;

use super::parse;

const PROXY: &str = include_str!("../../../examples/proxy.yaml");

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The same settings as `examples/proxy.yaml`, built in code, with nothing left to a default that the document writes.
fn proxy() -> Config {
    let greeter_route = Route {
        matches: RouteMatch { prefix: Some("/mainstay.demo.v1.Greeter/".to_owned()), ..RouteMatch::default() },
        timeout: Some(secs(2)),
        retry: Some(Retry {
            max_attempts: 3,
            on: [Condition::Unavailable, Condition::ConnectFailure, Condition::Reset].into(),
            per_try_timeout: Some(millis(500)),
            backoff: Backoff { base: millis(25), max: millis(250) },
            ..Retry::default()
        }),
        ..Route::to("greeter")
    };
    let ingress = Listener { bind: "127.0.0.1:10000".parse().unwrap(), routes: vec![greeter_route, Route::to("web")] };
    let greeter = Cluster {
        protocol: Protocol::Http2,
        endpoints: ["127.0.0.1:50051", "127.0.0.1:50052", "localhost:50053"].map(|at| at.parse().unwrap()).to_vec(),
        dns: None,
        connect_timeout: millis(250),
        balance: Some(Balance::P2c),
        budget: Some(Budget { ratio: 0.2, min_per_second: 10 }),
        limits: Limits { max_requests: 1024, max_retries: Some(3) },
        outlier: Some(Outlier {
            consecutive_failures: 5,
            interval: secs(10),
            base_ejection_time: secs(30),
            max_ejection_time: secs(300),
            max_ejection_percent: 50,
        }),
        breaker: Some(Breaker {
            failure_rate: Some(0.5),
            min_calls: 20,
            window: secs(10),
            open_for: OpenFor { start: secs(5), max: secs(60) },
            ..Breaker::default()
        }),
    };
    let web = Cluster { endpoints: vec!["127.0.0.1:8080".parse().unwrap()], ..Cluster::default() };
    Config {
        admin: Some("127.0.0.1:9901".parse().unwrap()),
        workers: NonZeroUsize::new(2),
        access_log: Some(AccessLog::Stdout),
        listeners: [("ingress", ingress)].into_iter().collect(),
        clusters: [("greeter", greeter), ("web", web)].into_iter().collect(),
    }
}

#[test]
fn the_example_means_the_same_as_settings_built_in_code() {
    assert_eq!(parse(PROXY, &[]).unwrap(), proxy());
    assert_eq!(proxy().problems(), []);
}

#[test]
fn the_example_is_read_from_a_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/proxy.yaml");
    assert_eq!(Config::from_path(path).unwrap(), proxy());
}

#[test]
fn json_is_read_too() {
    let json = serde_json::to_string_pretty(&proxy().effective()).unwrap();
    assert_eq!(parse(&json, &[]).unwrap(), proxy().effective());
}

/// The parser's own limits on comments and on the length of a line do not get in the way of real documents.
#[test]
fn documents_may_have_long_comments_and_long_lines() {
    let comments = "# why this is so\n".repeat(500);
    let endpoints: Vec<String> = (1..=1000).map(|port| format!("'endpoint-with-a-name.example:{port}'")).collect();
    let list = endpoints.join(", ");
    let text = format!(
        "{comments}clusters:\n{comments}  b:\n{comments}    endpoints: [{list}]\n{comments}    limits:\n{comments}      max_requests: 1\n"
    );
    assert_eq!(parse(&text, &[]).unwrap().clusters.get("b").unwrap().endpoints.len(), 1000);
    let text = format!("{{ clusters: {{ b: {{ endpoints: [{list}] }} }} }}");
    assert_eq!(parse(&text, &[]).unwrap().clusters.get("b").unwrap().endpoints.len(), 1000);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(
        "
listeners: { a: { bind: '[::1]:80', routes: [{ cluster: b, retry: {} }] } }
clusters: { b: { dns: b.local:80 } }",
        &[],
    )
    .unwrap();
    assert_eq!((config.admin, config.workers, &config.access_log), (None, None, &None));
    let route = &config.listeners.get("a").unwrap().routes[0];
    assert_eq!((&route.matches, route.timeout), (&RouteMatch::default(), Some(secs(15))));
    assert_eq!(route.retry, Some(Retry::default()));
    let cluster = config.clusters.get("b").unwrap();
    assert_eq!(*cluster, Cluster { dns: Some("b.local:80".parse().unwrap()), ..Cluster::default() });
    assert_eq!((cluster.protocol, cluster.balance()), (Protocol::Http1, Balance::RoundRobin));
    assert_eq!((&cluster.budget, &cluster.breaker), (&Some(Budget::default()), &None));
    assert_eq!(cluster.outlier, Some(Outlier::default()));
}

#[test]
fn the_default_pick_of_http2_is_p2c() {
    let config = parse("clusters: { b: { protocol: http2, dns: b.local:80 } }", &[]).unwrap();
    assert_eq!(config.clusters.get("b").unwrap().balance(), Balance::P2c);
}

/// envoy.md CFG-1 and CFG-2.
#[test]
fn anchors_and_merge_keys_share_settings_and_the_map_itself_wins() {
    let config = parse(
        "
x-slow: &slow { connect_timeout: 3s, balance: p2c }
x-outlier: &outlier { outlier: { consecutive_failures: 7 }, connect_timeout: 4s }
x-endpoints: &endpoints ['a:1', 'b:2']
clusters:
  one: { <<: *slow, endpoints: *endpoints, connect_timeout: 2s }
  two: { <<: [*slow, *outlier], endpoints: *endpoints }
  three:
    endpoints: *endpoints
    <<: *outlier",
        &[],
    )
    .unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| config.clusters.get(name).unwrap());
    assert_eq!((one.connect_timeout, one.balance), (secs(2), Some(Balance::P2c)));
    assert_eq!((two.connect_timeout, two.balance), (secs(3), Some(Balance::P2c)), "the first of a list wins");
    assert_eq!((three.connect_timeout, three.balance), (secs(4), None));
    assert_eq!(two.outlier.as_ref().map(|outlier| outlier.consecutive_failures), Some(7));
    assert!([one, two, three].iter().all(|cluster| cluster.endpoints.len() == 2));
    assert_eq!(config.clusters.names().collect::<Vec<_>>(), ["one", "two", "three"], "in the order of the document");
}

#[test]
fn variables_become_values_of_any_type_and_never_structure() {
    let text = r#"
admin: ${ADMIN:-127.0.0.1:9901}
workers: ${WORKERS:-2}
access_log: ${LOG:-}
x-unused: ${NOT_SET_BUT_NOT_USED}
x-port: &port b.local:${PORT:-80}
listeners:
  a:
    bind: "${HOST}:80"
    routes:
      - match: { headers: { x-a: "${EVIL}", x-b: $$5, x-c: 1.10, x-d: true } }
        cluster: ${CLUSTER:-b}
clusters: { b: { dns: *port } }
"#;
    let evil = "one: two\nclusters: {}";
    let config = parse(text, &[("HOST", "0.0.0.0"), ("EVIL", evil), ("WORKERS", "4"), ("PORT", "81")]).unwrap();
    assert_eq!(config.admin, Some("127.0.0.1:9901".parse().unwrap()));
    assert_eq!(config.workers, NonZeroUsize::new(4));
    assert_eq!(config.access_log, None);
    let listener = config.listeners.get("a").unwrap();
    assert_eq!(listener.bind, "0.0.0.0:80".parse().unwrap());
    let headers = &listener.routes[0].matches.headers;
    for (name, value) in [("x-a", evil), ("x-b", "$5"), ("x-c", "1.10"), ("x-d", "true")] {
        assert_eq!(headers.get(name), Some(&HeaderMatch::Exact(value.to_owned())), "{name}");
    }
    assert_eq!(config.clusters.get("b").unwrap().dns, Some("b.local:81".parse().unwrap()));
}

#[test]
fn whole_parts_can_be_switched_on_and_off() {
    let config = parse(
        "
listeners: { a: { bind: 127.0.0.1:0, routes: [{ cluster: b, timeout: off }, { cluster: b, timeout: 0s }] } }
clusters:
  b: { dns: b.local:80, budget: off, outlier: off, breaker: on }
  c: { dns: b.local:80, budget: on, outlier: true, breaker: off }
  d: { dns: b.local:80, breaker: { open_for: 7s, consecutive_failures: 3 } }",
        &[],
    )
    .unwrap();
    assert!(config.listeners.get("a").unwrap().routes.iter().all(|route| route.timeout.is_none()));
    let [b, c, d] = ["b", "c", "d"].map(|name| config.clusters.get(name).unwrap());
    assert_eq!((&b.budget, &b.outlier, &b.breaker), (&None, &None, &Some(Breaker::default())));
    assert_eq!((&c.budget, &c.outlier, &c.breaker), (&Some(Budget::default()), &Some(Outlier::default()), &None));
    let breaker = d.breaker.as_ref().unwrap();
    assert_eq!((&breaker.open_for, breaker.consecutive_failures), (&OpenFor::constant(secs(7)), Some(3)));
}

/// envoy.md CFG-4.
#[test]
fn durations_and_sizes_are_written_as_people_do() {
    let durations = [("250ms", millis(250)), ("1m30s", secs(90)), ("0.25s", millis(250)), ("2h", secs(7200))];
    for (text, want) in durations {
        let config = parse(&format!("clusters: {{ b: {{ dns: 'b:80', connect_timeout: {text} }} }}"), &[]).unwrap();
        assert_eq!(config.clusters.get("b").unwrap().connect_timeout, want, "{text}");
    }
    for (text, want) in [("64KiB", 64 << 10), ("1MiB", 1 << 20), ("2kB", 2000), ("500", 500), ("0", 0)] {
        let route = format!("{{ cluster: b, retry: {{ buffer: {text} }} }}");
        let listeners = format!("listeners: {{ a: {{ bind: 127.0.0.1:1, routes: [{route}] }} }}");
        let config = parse(&format!("{listeners}\nclusters: {{ b: {{ dns: 'b:80' }} }}"), &[]).unwrap();
        let retry = config.listeners.get("a").unwrap().routes[0].retry.clone().unwrap();
        assert_eq!(retry.buffer.0, want, "{text}");
    }
}

#[test]
fn an_access_log_goes_to_a_file() {
    let config = parse("access_log: { path: /var/log/calls }\nclusters: {}", &[]).unwrap();
    assert_eq!(config.access_log, Some(AccessLog::File("/var/log/calls".into())));
}
