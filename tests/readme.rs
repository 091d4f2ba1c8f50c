//! What the README promises and no doctest can check: names, commands, the document.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::SystemTime;

use mainstay::Config;
use mainstay::Outcome;
use mainstay::config::lint;
use mainstay::context::Record;
use mainstay::outcome::Ending;
use mainstay::telemetry::access_log::Line;
use mainstay::telemetry::stats::HELP;

const README: &str = include_str!("../README.md");

/// What stands between the backquotes of the README.
fn names() -> BTreeSet<&'static str> {
    README.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn assert_valid(document: &str, name: &str) {
    let config = Config::parse(document, name, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<String> = lint(&config).iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{name}: {warnings:?}");
}

#[test]
fn the_readme_names_every_metric_and_no_other() {
    let metrics: BTreeSet<_> = HELP.iter().map(|(name, _)| *name).collect();
    let named: BTreeSet<_> = names().into_iter().filter(|name| name.starts_with("mainstay_")).collect();
    assert_eq!(named, metrics);
}

#[test]
fn the_readme_names_every_key_of_the_access_log() {
    let mut line = String::new();
    Line {
        start_time: SystemTime::UNIX_EPOCH,
        method: Some("GET"),
        path: Some("/"),
        authority: None,
        protocol: "HTTP/2",
        user_agent: None,
        request_id: None,
        remote_address: "127.0.0.1:1",
        cluster: None,
        upstream_host: None,
        grpc_status: None,
        ending: Ending::new(Outcome::Success),
        record: Record::default(),
        bytes_received: 0,
        bytes_sent: 0,
        duration: Duration::ZERO,
        response_duration: None,
    }
    .write(&mut line);
    let line: serde_json::Map<_, _> = serde_json::from_str(&line).expect("it is an object");
    let missing: Vec<_> = line.keys().filter(|key| !names().contains(key.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn ci_calls_the_two_commands_that_the_readme_shows_first() {
    let first = blocks("sh").into_iter().next().expect("there is one");
    assert_eq!(first.lines().count(), 2);
    // Read here and not built in: packages do not have it.
    let ci = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).expect("it is in the repository");
    for command in first.lines() {
        assert!(ci.contains(command), "`{command}` is not in .ci/run");
    }
}

#[test]
fn the_documents_that_we_show_are_valid_and_give_no_warning() {
    let shown = blocks("yaml");
    assert!(!shown.is_empty());
    for document in shown {
        assert_valid(document, "README.md");
    }
    assert_valid(include_str!("../examples/proxy.yaml"), "examples/proxy.yaml");
}
