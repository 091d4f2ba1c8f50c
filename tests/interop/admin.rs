//! What an operator's curl sees on the admin address.

use crate::peers::Python;
use crate::peers::Upstream;
use crate::peers::fetch;
use crate::proxy::Proxy;
use crate::proxy::document;

#[test]
fn a_running_proxy_is_ready() {
    let proxy = Proxy::start(&document(&[], &[]));
    let Some(answer) = fetch(&[&proxy.admin_url("/ready")]) else { return };
    assert_eq!(answer.status, 200);
    let Some(answer) = fetch(&[&proxy.admin_url("/no-such-page")]) else { return };
    assert_eq!(answer.status, 404);
}

#[test]
fn the_metrics_count_the_calls() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    let proxy = Proxy::start(&document(&[&upstream], &[]));
    let seen = python.run(&proxy.address, &["load", "100", "4"]);
    assert_eq!(seen["calls"], 100);
    let Some(answer) = fetch(&[&proxy.admin_url("/metrics")]) else { return };
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type")[0].starts_with("text/plain"), "{:?}", answer.headers);
    for metric in ["mainstay_calls_total", "mainstay_attempts_total"] {
        assert_eq!(sum(&answer.body, metric), 100, "{metric} in\n{}", answer.body);
    }
}

#[test]
fn the_effective_config_has_what_was_given_and_the_defaults() {
    let proxy = Proxy::start(&document(&[], &[]));
    let Some(answer) = fetch(&[&proxy.admin_url("/config")]) else { return };
    assert_eq!(answer.status, 200);
    for (word, what) in
        [("250ms", "given"), ("greeter", "given"), ("max_ejection_time", "a default"), ("64KiB", "a default")]
    {
        assert!(answer.body.contains(word), "no {word}, which is {what}, in\n{}", answer.body);
    }
}

fn sum(text: &str, metric: &str) -> u64 {
    let samples = text.lines().filter(|line| line.starts_with(metric) && line[metric.len()..].starts_with(['{', ' ']));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
