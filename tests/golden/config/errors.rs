//! What is wrong with documents, and how it is said: `errors.txt` holds the documents and the messages.

use std::fmt::Write;

use expect_test::expect_file;
use mainstay::config::Config;

use super::parse;

/// A cluster with these settings, where everything else is well.
fn cluster(settings: &str) -> String {
    format!("clusters:\n  b:\n    dns: b:80\n    {settings}")
}

/// A route with these settings, where everything else is well.
fn route(settings: &str) -> String {
    format!(
        "clusters: {{ b: {{ dns: b:80 }} }}\nlisteners:\n  a:\n    bind: 127.0.0.1:1\n    routes:\n    - cluster: b\n      {settings}"
    )
}

/// A listener with these settings, where everything else is well.
fn listener(settings: &str) -> String {
    format!("clusters: {{ b: {{ dns: b:80 }} }}\nlisteners:\n  a: {settings}")
}

fn syntax() -> Vec<String> {
    let documents = [
        "admin: [",
        "workers: 2\naccess_log: a: b",
        "workers: 2\n  admin: 127.0.0.1:1",
        "workers: \"2",
        "workers: *two",
        "x-a: &a [*a]",
        "? [a]\n: b",
        "clusters: { <<: 3 }",
        // envoy.md CFG-3
        "workers: 1\nworkers: 2",
        "clusters:\n  a: { dns: 'a:1' }\n  a: { dns: 'b:1' }",
        "",
        "# only a comment",
        "- workers: 1",
        "workers",
        "workers: 1\n---\nworkers: 2",
    ];
    documents.map(str::to_owned).into()
}

// envoy.md CFG-6
fn unknown_fields() -> Vec<String> {
    vec![
        "cluster: {}".to_owned(),
        "access_log: { file: /tmp/log }".to_owned(),
        "clusters: { b: { endpoint: ['b:80'] } }".to_owned(),
        cluster("conect_timeout: 1s"),
        cluster("breaker: { failure_rte: 0.5 }"),
        cluster("breaker: { open_for: { strat: 1s } }"),
        listener("{ bidn: 127.0.0.1:1, routes: [{ cluster: b }] }"),
        route("retry: { num_retrys: 3 }"),
        route("retry: { max_attemps: 3 }"),
        route("match: { paht: /a }"),
        route("match: { headers: { x-a: { regexp: b } } }"),
    ]
}

fn missing_fields() -> Vec<String> {
    vec![
        listener("{ routes: [{ cluster: b }] }"),
        listener("{ bind: 127.0.0.1:1 }"),
        listener("{ bind: 127.0.0.1:1, routes: [{}] }"),
        listener("{ bind: 127.0.0.1:1, routes: [] }"),
        "access_log: {}".to_owned(),
    ]
}

// envoy.md CFG-8
fn durations() -> Vec<String> {
    let durations = ["250", "-1s", "11years", "0s", "soon", "", "[1s]"];
    let mut documents: Vec<String> =
        durations.iter().map(|text| cluster(&format!("connect_timeout: {text}"))).collect();
    documents.extend([
        route("timeout: never"),
        route("retry: { per_try_timeout: 0s }"),
        cluster("breaker: { open_for: long }"),
        cluster("breaker: { open_for: { start: 0s } }"),
        cluster("breaker: { window: 2days }"),
        // envoy.md CFG-10
        cluster("outlier: { base_ejection_time: 30s, max_ejection_time: 10s }"),
        cluster("breaker: { open_for: { start: 5s, max: 1s } }"),
        route("retry: { backoff: { base: 1s, max: 250ms } }"),
    ]);
    documents
}

// envoy.md CFG-8
fn numbers() -> Vec<String> {
    let workers = ["0", "1.5", "-1", "1025", "99999999999999999999", "two", "[2]"];
    let mut documents: Vec<String> = workers.iter().map(|text| format!("workers: {text}")).collect();
    documents.extend([
        cluster("breaker: { failure_rate: 1.5 }"),
        cluster("breaker: { failure_rate: half }"),
        cluster("breaker: { failure_rate: off }"),
        cluster("breaker: { min_calls: 0 }"),
        cluster("breaker: { consecutive_failures: 0 }"),
        cluster("budget: { ratio: -0.1 }"),
        cluster("budget: { ratio: .nan }"),
        cluster("budget: { ratio: nan }"),
        cluster("outlier: { max_ejection_percent: 101 }"),
        cluster("outlier: { max_ejection_percent: 50% }"),
        cluster("outlier: { consecutive_failures: 4294967296 }"),
        cluster("limits: { max_requests: 0 }"),
        cluster("limits: 1024"),
        route("retry: { max_attempts: 0 }"),
        route("retry: { max_attempts: 101 }"),
        route("retry: { buffer: 64 KB of it }"),
    ]);
    documents
}

fn addresses() -> Vec<String> {
    vec![
        "admin: localhost:9901".to_owned(),
        "admin: 127.0.0.1:70000".to_owned(),
        format!("admin: 127.0.0.1:1\n{}", route("timeout: 1s")),
        format!("{}\n  again: {{ bind: 127.0.0.1:1, routes: [{{ cluster: b }}] }}", route("timeout: 1s")),
        "clusters:\n  b: { protocol: http2 }".to_owned(),
        "clusters:\n  b: { endpoints: [] }".to_owned(),
        cluster("endpoints: ['b:80']"),
        "clusters: { b: { endpoints: ['b:80', 'b', 'b:0', ':80', 'http://b:80', '::1:80'] } }".to_owned(),
        "clusters: { b: { endpoints: ['b:80', 'a:80', 'b:80'] } }".to_owned(),
    ]
}

// envoy.md CFG-5
fn names() -> Vec<String> {
    let listeners = "listeners: { a: { bind: 127.0.0.1:1, routes: [{ cluster: greter }] } }";
    vec![
        "clusters: { 'a b': { dns: b:80 } }".to_owned(),
        format!("{listeners}\nclusters: {{ web: {{ dns: b:80 }}, greeter: {{ dns: b:80 }} }}"),
        listeners.to_owned(),
        // Only what comes first is reported, not what follows from it.
        format!("{listeners}\ncluster: {{ greter: {{ dns: b:80 }} }}"),
        format!("{listeners}\nclusters: [greter]"),
        format!("{listeners}\nclusters: {{ greter: 'b:80' }}"),
    ]
}

fn matches() -> Vec<String> {
    let matches = [
        "{ prefix: /a, regex: /b }",
        "{ prefix: a }",
        "{ path: '/a?b=c' }",
        "{ regex: '/b[io' }",
        "{ regex: 'a)(b' }",
        "{ methods: [get] }",
        "{ methods: GET }",
        "{ host: 'a.*.b' }",
        "{ headers: { 'x a': b } }",
        "{ headers: { x-a: { regex: '(' } } }",
        "{ headers: { x-a: { present: maybe } } }",
        "{ headers: { x-a: [b] } }",
    ];
    matches.iter().map(|text| route(&format!("match: {text}"))).collect()
}

fn words() -> Vec<String> {
    vec![
        route("retry: { on: [unavailible] }"),
        route("retry: { on: [503, 99] }"),
        route("retry: { on: unavailable }"),
        route("retry: { on: [] }"),
        cluster("protocol: http3"),
        cluster("balance: round-robin"),
        cluster("budget: maybe"),
        cluster("outlier:"),
        "access_log: xml".to_owned(),
        "access_log: [json]".to_owned(),
        "clusters: [a]".to_owned(),
        "clusters: { b: 'b:80' }".to_owned(),
        "clusters: { b: }".to_owned(),
        listener("{ bind: 127.0.0.1:1, routes: { cluster: b } }"),
    ]
}

fn variables() -> Vec<String> {
    vec![
        "admin: ${ADMIN}\nworkers: ${WORKERS".to_owned(),
        "clusters: { b: { endpoints: ['${HOST}:80', 'b:${1}'] } }".to_owned(),
        "access_log: { path: '${FILE}' }".to_owned(),
        cluster("breaker: { failure_rate: '${SET}' }"),
    ]
}

fn anchors() -> Vec<String> {
    let document = "
x-breaker: &breaker
  failure_rate: 2
clusters:
  b: { dns: 'b:80', breaker: *breaker }
  c: { dns: 'c:80', breaker: { <<: *breaker, min_calls: 0 } }";
    vec![document.to_owned()]
}

fn all_at_once() -> Vec<String> {
    let document = "
admin: nowhere
worker: 3
listeners:
  a:
    bind: ${BIND}
    routes: [{ cluster: b, timeout: 3 }]
  b:
    bind: 127.0.0.1:1
    routes:
      - { cluster: b, timeout: 3, retry: { on: [typo, 700, reset] } }
      - { cluster: c }
      - { cluster: d, match: { regex: '(' } }
clusters:
  b: { endpoints: [x, y], limits: { max_requests: no } }
  c:
    dns: 'c:80'
    breaker: { failure_rate: 3, min_calls: 0, window: 2days, half_open_permits: 0 }
    outlier: { interval: 0s, max_ejection_time: 1s, max_ejection_percent: 0 }
    budget: { ratio: 2000 }";
    vec![document.to_owned()]
}

#[test]
fn what_is_wrong_is_said_with_place_value_and_range() {
    let mut report = String::new();
    for (title, documents) in [
        ("Syntax", syntax()),
        ("Unknown fields", unknown_fields()),
        ("Missing fields", missing_fields()),
        ("Durations", durations()),
        ("Numbers", numbers()),
        ("Addresses", addresses()),
        ("Names of clusters", names()),
        ("Matches", matches()),
        ("Words and types", words()),
        ("Variables", variables()),
        ("Anchors", anchors()),
        ("All at once", all_at_once()),
    ] {
        writeln!(report, "# {title}").unwrap();
        for document in documents {
            let errors = parse(&document, &[("SET", "1.5")]).expect_err(&document);
            for (number, line) in document.lines().enumerate() {
                writeln!(report, "{:>3} | {line}", number + 1).unwrap();
            }
            writeln!(report, "{errors}\n").unwrap();
        }
    }
    expect_file!["errors.txt"].assert_eq(&report);
}

#[test]
fn a_document_that_would_take_all_memory_or_stack_is_an_error() {
    let mut laughs = "x-0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("x-{level}: &a{level} [{aliases}]\n");
    }
    for (document, want) in [
        (format!("a: {}", "[".repeat(10_000)), "mesh.yaml:1:259: the document is nested too deeply"),
        (format!("a: {}{}", "[".repeat(30), "]".repeat(30)), "mesh.yaml:1:23: the document is nested too deeply"),
        (format!("{}{}", "{ a: ".repeat(30), "}".repeat(30)), "mesh.yaml:1:101: the document is nested too deeply"),
        (laughs, "mesh.yaml:6:11: the document is too large, with what comes through its aliases"),
    ] {
        assert_eq!(parse(&document, &[]).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = Config::from_path("no/such/file.yaml").unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!((error.file(), error.line(), error.field()), ("no/such/file.yaml", None, ""));
    assert!(error.to_string().starts_with("no/such/file.yaml: the file cannot be read: "), "{error}");
}

#[test]
fn an_error_can_be_taken_apart() {
    let errors = parse("clusters:\n  b: { dns: b:80, breaker: { failure_rate: 1.5 } }", &[]).unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!((error.file(), error.line(), error.column()), ("mesh.yaml", Some(2), Some(44)));
    assert_eq!(error.field(), "clusters.b.breaker.failure_rate");
    assert_eq!((error.value(), error.allowed()), (Some("1.5"), Some("above 0.0, up to 1.0")));
}
