//! The list of all settings that hold.

use expect_test::expect;
use mainstay::config::AccessLog;
use mainstay::config::Breaker;
use mainstay::config::Budget;
use mainstay::config::Cluster;
use mainstay::config::Config;
use mainstay::config::Outlier;
use mainstay::config::Retry;
use mainstay::policy::BackoffConfig;
use mainstay::policy::BreakerConfig;
use mainstay::policy::BudgetConfig;
use mainstay::policy::OutlierConfig;
use mainstay::policy::RetryConfig;
use proptest::prelude::*;

use super::parse;

/// Every default, so that a change of one shows up here.
#[test]
fn the_shortest_document_has_all_these_settings() {
    let config = parse(
        "
listeners: { ingress: { bind: 127.0.0.1:80, routes: [{ cluster: web, retry: {} }] } }
clusters: { web: { dns: web.local:80, breaker: on } }",
        &[],
    );
    expect![[r#"
        admin: null
        workers: null
        access_log: null
        listeners:
          ingress:
            bind: 127.0.0.1:80
            routes:
            - match: {}
              cluster: web
              timeout: 15s
              retry:
                max_attempts: 3
                "on":
                - connect-failure
                - refused-stream
                - unavailable
                per_try_timeout: null
                backoff:
                  base: 25ms
                  max: 250ms
                methods:
                - GET
                - HEAD
                - OPTIONS
                - TRACE
                - PUT
                - DELETE
                buffer: 64KiB
        clusters:
          web:
            protocol: http1
            dns: web.local:80
            connect_timeout: 1s
            balance: round_robin
            budget:
              ratio: 0.2
              min_per_second: 10
            limits:
              max_requests: 1024
              max_retries: null
            outlier:
              consecutive_failures: 5
              interval: 10s
              base_ejection_time: 30s
              max_ejection_time: 5m
              max_ejection_percent: 10
            breaker:
              failure_rate: 0.5
              min_calls: 20
              window: 10s
              consecutive_failures: null
              open_for:
                start: 5s
                max: 1m
              half_open_permits: 5
    "#]]
    .assert_eq(&config.unwrap().effective().to_yaml().unwrap());
}

#[test]
fn everything_that_can_be_written_is_printed_in_the_words_it_is_read_in() {
    let config = parse(
        "
access_log: { path: /var/log/calls }
listeners:
  ingress:
    bind: '[::1]:80'
    routes:
      - match: { path: /a, methods: [POST], host: '*.example', headers: { x-a: '1', x-b: { present: false }, x-c: { regex: 'a|b' } } }
        cluster: web
        timeout: off
        retry: { on: [503, 5xx, internal], per_try_timeout: 1500ms, methods: [POST], buffer: 1MiB, backoff: { base: 1m30s } }
      - match: { regex: /b.* }
        cluster: web
clusters:
  web:
    protocol: http2
    endpoints: ['[::1]:8080', a.local:80]
    budget: off
    outlier: off
    breaker: { failure_rate: off, consecutive_failures: 3, open_for: 1h }",
        &[],
    );
    expect![[r#"
        admin: null
        workers: null
        access_log:
          path: /var/log/calls
        listeners:
          ingress:
            bind: "[::1]:80"
            routes:
            - match:
                path: /a
                methods:
                - POST
                headers:
                  x-a: "1"
                  x-b:
                    present: false
                  x-c:
                    regex: a|b
                host: "*.example"
              cluster: web
              timeout: "off"
              retry:
                max_attempts: 3
                "on":
                - 5xx
                - internal
                - 503
                per_try_timeout: 1s500ms
                backoff:
                  base: 1m30s
                  max: 15m
                methods:
                - POST
                buffer: 1MiB
            - match:
                regex: /b.*
              cluster: web
              timeout: 15s
              retry: null
        clusters:
          web:
            protocol: http2
            endpoints:
            - "[::1]:8080"
            - a.local:80
            connect_timeout: 1s
            balance: p2c
            budget: "off"
            limits:
              max_requests: 1024
              max_retries: null
            outlier: "off"
            breaker:
              failure_rate: "off"
              min_calls: 20
              window: 10s
              consecutive_failures: 3
              open_for:
                start: 1h
                max: 1h
              half_open_permits: 5
    "#]]
    .assert_eq(&config.unwrap().effective().to_yaml().unwrap());
}

#[test]
fn the_effective_settings_are_a_document_with_the_same_meaning() {
    let written = include_str!("../../../examples/proxy.yaml");
    let effective = parse(written, &[]).unwrap().effective();
    assert_eq!(parse(&effective.to_yaml().unwrap(), &[]).unwrap(), effective);
    assert_eq!(parse(&serde_json::to_string(&effective).unwrap(), &[]).unwrap(), effective);
    assert_eq!(effective.effective(), effective);
}

#[test]
fn the_defaults_of_the_document_are_the_policies_own() {
    assert_eq!(BreakerConfig::from(&Breaker::default()), BreakerConfig::default());
    assert_eq!(BudgetConfig::from(&Budget::default()), BudgetConfig::default());
    assert_eq!(OutlierConfig::from(&Outlier::default()), OutlierConfig::default());
    let retry = RetryConfig::from(&Retry::default());
    assert_eq!(retry.backoff, BackoffConfig::default());
    assert_eq!(RetryConfig { on: RetryConfig::default().on, ..retry }, RetryConfig::default());
}

proptest! {
    /// Durations of any precision, rates of any size: what is printed is read back as it was.
    #[test]
    fn any_settings_survive_being_printed(
        nanos in 1_u64..1_000_000_000_000_000,
        ratio in 0.001..1000.0,
        rate in proptest::option::of(0.0001..=1.0),
        run in 1_u32..1_000_000,
        path in "([ -~]|\\$|\\{){1,20}",
    ) {
        let window = std::time::Duration::from_nanos(nanos);
        let cluster = Cluster {
            dns: Some("a:1".parse().unwrap()),
            connect_timeout: window,
            budget: Some(Budget { ratio, min_per_second: run }),
            breaker: Some(Breaker { failure_rate: rate, consecutive_failures: Some(run), ..Breaker::default() }),
            ..Cluster::default()
        };
        let config = Config {
            access_log: Some(AccessLog::File(path.into())),
            clusters: [("a", cluster)].into_iter().collect(),
            ..Config::default()
        };
        let config = config.effective();
        prop_assert_eq!(parse(&config.to_yaml().unwrap(), &[]).unwrap(), config);
    }

    /// Whatever a document holds, it is read or refused with a place, and nothing panics.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-z]{1,4}: |[-\\[\\]{},:&*<$!|>'\"#\n ]|\\$\\{[A-Z]|[0-9a-z.]){0,40}") {
        if let Err(errors) = parse(&text, &[("A", "b")]) {
            prop_assert!(errors.iter().len() > 0);
        }
    }

    /// The same, for documents that are nearly right: one line of the example is replaced.
    #[test]
    fn any_change_to_the_example_is_read_or_refused(line in 0_usize..60, cut in 0_usize..120, with in "[ -~]{0,12}") {
        let mut lines: Vec<String> = include_str!("../../../examples/proxy.yaml").lines().map(str::to_owned).collect();
        if let Some(line) = lines.get_mut(line) {
            let cut = cut.min(line.len());
            line.replace_range(cut.., &with);
        }
        if let Err(errors) = parse(&lines.join("\n"), &[]) {
            prop_assert!(errors.iter().all(|error| error.line().is_some()), "{errors}");
        }
    }
}
