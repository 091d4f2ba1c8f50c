//! Settings that are allowed and yet hardly meant.

use expect_test::Expect;
use expect_test::expect;
use mainstay::config::lint;

use super::parse;

/// Checks the warnings about a listener with these routes, whose cluster has these settings.
#[track_caller]
fn check(routes: &[&str], cluster: &str, want: Expect) {
    let routes: String = routes.iter().map(|route| format!("      - {{ cluster: b, {route} }}\n")).collect();
    let listeners = format!("listeners:\n  a:\n    bind: 127.0.0.1:1\n    routes:\n{routes}");
    let config = parse(&format!("{listeners}clusters: {{ b: {{ dns: 'b:80', {cluster} }} }}"), &[]).unwrap();
    let warnings: String = lint(&config).iter().map(|warning| format!("{warning}\n")).collect();
    want.assert_eq(&warnings);
}

/// envoy_rt_03
#[test]
fn a_route_that_an_earlier_one_shadows_is_unreachable() {
    check(
        &["match: { prefix: /ring }", "match: { prefix: /ringw }"],
        "",
        expect![[r#"
        listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
    "#]],
    );
    check(&["match: { prefix: /ringw }", "match: { prefix: /ring }"], "", expect![""]);
    check(
        &["match: { prefix: / }", "match: { path: /a }", "match: { regex: /b }"],
        "",
        expect![[r#"
        listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
    "#]],
    );
    check(
        &["", "match: { regex: /a }"],
        "",
        expect![[r#"
        listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
    "#]],
    );
    check(
        &["match: { path: /a }", "match: { path: /a, methods: [GET] }"],
        "",
        expect![[r#"
        listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
    "#]],
    );
    check(&["match: { path: /a, methods: [GET] }", "match: { path: /a }"], "", expect![""]);
    check(
        &["match: { methods: [GET, PUT], host: A.b }", "match: { methods: [PUT], host: a.B, path: /a }"],
        "",
        expect![[r#"
            listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
        "#]],
    );
    check(
        &["match: { headers: { X-A: b } }", "match: { headers: { x-a: b, x-c: d } }"],
        "",
        expect![[r#"
        listeners.a.routes[1]: unreachable: routes[0] comes first and takes all its requests
    "#]],
    );
    check(&["match: { headers: { x-a: b } }", "match: { headers: { x-a: c } }"], "", expect![""]);
}

#[test]
fn a_retry_needs_time() {
    check(
        &["timeout: 1s, retry: { per_try_timeout: 1s }"],
        "",
        expect![[r#"
        listeners.a.routes[0].retry.per_try_timeout: 1s is not shorter than the route's timeout of 1s, so there is no time for a retry
    "#]],
    );
    check(
        &["timeout: 1s, retry: { per_try_timeout: 500ms }"],
        "",
        expect![[r#"
        listeners.a.routes[0].retry.max_attempts: 3 attempts of 500ms each take longer than the route's timeout of 1s
    "#]],
    );
    check(&["timeout: 1s, retry: { per_try_timeout: 300ms }"], "", expect![""]);
    check(&["timeout: off, retry: { per_try_timeout: 5s }"], "", expect![""]);
}

#[test]
fn a_retry_needs_a_bound_and_a_reason() {
    check(
        &["retry: {}"],
        "budget: off",
        expect![[r#"
        listeners.a.routes[0].retry: no budget and no limits.max_retries in `b`: retries can multiply an outage
    "#]],
    );
    check(&["retry: {}"], "budget: off, limits: { max_retries: 3 }", expect![""]);
    check(
        &["retry: { max_attempts: 1 }"],
        "",
        expect![[r#"
        listeners.a.routes[0].retry.max_attempts: 1 is the first attempt, so nothing is tried again
    "#]],
    );
    check(
        &["retry: { methods: [GET, POST] }"],
        "",
        expect![[r#"
        listeners.a.routes[0].retry.methods[1]: POST is not idempotent: what it does may happen twice
    "#]],
    );
}

#[test]
fn a_cluster_needs_a_use() {
    let config = parse(
        "
listeners: { a: { bind: 127.0.0.1:1, routes: [{ cluster: b }] } }
clusters: { b: { endpoints: ['b:80'], outlier: { consecutive_failures: 3 } }, c: { dns: c:80 } }",
        &[],
    )
    .unwrap();
    let warnings: String = lint(&config).iter().map(|warning| format!("{warning}\n")).collect();
    expect![[r#"
        clusters.b.outlier: ejects nothing: the last endpoint always stays, and there is only one
        clusters.c: no route leads to it
    "#]]
    .assert_eq(&warnings);
}

#[test]
fn the_example_has_nothing_that_is_hardly_meant() {
    let config = parse(include_str!("../../../examples/proxy.yaml"), &[]).unwrap();
    assert_eq!(lint(&config), []);
}
