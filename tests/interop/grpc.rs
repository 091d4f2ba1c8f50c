//! Python's gRPC client sees through the proxy what it sees without it.

use serde_json::Value;
use serde_json::json;

use crate::peers::Python;
use crate::peers::Upstream;
use crate::peers::seen;
use crate::proxy::Proxy;
use crate::proxy::document;

const OK: i32 = 0;
const DEADLINE_EXCEEDED: i32 = 4;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

fn ok() -> Value {
    json!({ "code": OK, "message": "" })
}

fn check_unary(python: &Python, target: &str) {
    // All bytes there are, in base64.
    let bytes = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xN\
                 Tk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqb\
                 nJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp\
                 6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==";
    let expected = json!({
        "message": "Hello, Ada!",
        "served_by": "a",
        "status": ok(),
    });
    let mut unary = python.run(target, &["unary"]);
    let headers = unary.as_object_mut().and_then(|unary| unary.remove("headers")).expect("there are headers");
    assert_eq!(unary, expected);
    let headers = headers.as_array().expect("it is a list");
    for echo in [json!(["echo", "plain value"]), json!(["echo-bin", bytes])] {
        assert!(headers.contains(&echo), "no {echo} in {headers:?}");
    }
}

fn check_streams(python: &Python, target: &str) {
    let greetings: Vec<String> = (1..=100).map(|n| format!("Hello, Ada! ({n} of 100)")).collect();
    assert_eq!(python.run(target, &["server-stream", "100"]), json!({ "messages": greetings, "status": ok() }));

    let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    let all = format!("Hello, {}!", names.join(", "));
    assert_eq!(python.run(target, &["client-stream", "100"]), json!({ "message": all, "status": ok() }));

    let greetings: Vec<String> = names.iter().map(|name| format!("Hello, {name}!")).collect();
    let chat = json!({ "messages": greetings, "rest": [], "status": ok() });
    assert_eq!(python.run(target, &["chat", "100"]), chat);
}

fn check_errors(python: &Python, target: &str) {
    let texts = ["plain", "", "100% Grüße, ☃ 漢字 🦀", "two\nlines:\t\"quoted\""];
    let seen = python.run(target, &[&["errors"], &texts[..]].concat());
    let seen = seen.as_array().expect("it is a list");
    assert_eq!(seen.len(), texts.len() * 16 * 2);
    for seen in seen {
        let (code, text) = (&seen["asked"][0], &seen["asked"][1]);
        let expected = json!({
            "kind": seen["kind"],
            "asked": [code, text],
            "messages": if seen["kind"] == "stream" { 2 } else { 0 },
            "status": { "code": code, "message": text },
            "details": [code, text],
            "detail": [text, "a"],
            "trailers": [["served-by", "a"], ["served-by-bin", "AJ+Slg=="]],
        });
        assert_eq!(*seen, expected);
    }
}

fn check_large(python: &Python, target: &str) {
    let size = 3 << 20;
    let seen = python.run(target, &["large", &size.to_string()]);
    assert_eq!(seen, json!({ "same": true, "length": size + "Hello, !".len() }));
}

fn status(seen: &Value) -> i64 {
    seen["status"]["code"].as_i64().unwrap_or_else(|| panic!("no status in {seen}"))
}

fn check_deadline(python: &Python, target: &str) {
    assert_eq!(status(&python.run(target, &["deadline", "0.2"])), i64::from(DEADLINE_EXCEEDED));
}

#[test]
fn direct_every_check_holds_without_a_proxy() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    check_unary(&python, &upstream.address);
    check_streams(&python, &upstream.address);
    check_errors(&python, &upstream.address);
    check_large(&python, &upstream.address);
    check_deadline(&python, &Upstream::greeter("slow", 5000).address);
}

#[test]
fn direct_a_killed_upstream_costs_calls_without_a_proxy() {
    let Some(python) = Python::find() else { return };
    let seen = load_with_a_kill(&python, &mut Upstream::greeter("a", 5), None, "8");
    assert!(!failed(&seen).is_empty(), "the load never noticed the kill, so it proves nothing: {seen}");
}

#[test]
fn a_unary_call_keeps_its_message_and_metadata() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    check_unary(&python, &Proxy::start(&document(&[&upstream], &[])).address);
}

#[test]
fn all_kinds_of_streams_pass_message_by_message() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    check_streams(&python, &Proxy::start(&document(&[&upstream], &[])).address);
}

#[test]
fn every_error_keeps_its_code_message_trailers_and_details() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    check_errors(&python, &Proxy::start(&document(&[&upstream], &[])).address);
}

#[test]
fn large_messages_pass_both_ways() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    check_large(&python, &Proxy::start(&document(&[&upstream], &[])).address);
}

#[test]
fn the_callers_deadline_ends_a_call_through_the_proxy() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("slow", 5000);
    check_deadline(&python, &Proxy::start(&document(&[&upstream], &[])).address);
}

#[test]
fn the_routes_timeout_is_seen_as_deadline_exceeded() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("slow", 5000);
    let document = document(&[&upstream], &[]).replace("timeout: 15s", "timeout: 300ms");
    // Far more patience than the route has: it is the proxy that gives up.
    let seen = python.run(&Proxy::start(&document).address, &["deadline", "15"]);
    assert_eq!(status(&seen), i64::from(DEADLINE_EXCEEDED), "{seen}");
}

#[test]
fn without_a_route_a_call_is_unimplemented() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    let document = document(&[&upstream], &[]);
    let (routes, rest) = document.split_once("      - cluster: web").expect("it is the second route");
    let (_, clusters) = rest.split_once("clusters:").expect("they come next");
    let routes = routes.replace("/mainstay.demo.v1.Greeter/", "/another.Service/");
    let proxy = Proxy::start(&format!("{routes}clusters:{clusters}"));
    let seen = python.run(&proxy.address, &["deadline", "15"]);
    assert_eq!(status(&seen), i64::from(UNIMPLEMENTED), "{seen}");
}

#[test]
fn without_an_upstream_a_call_is_unavailable() {
    let Some(python) = Python::find() else { return };
    let seen = python.run(&Proxy::start(&document(&[], &[])).address, &["deadline", "15"]);
    assert_eq!(status(&seen), i64::from(UNAVAILABLE), "{seen}");
}

#[test]
fn a_killed_upstream_of_three_costs_no_call() {
    let Some(python) = Python::find() else { return };
    let mut upstreams = ["a", "b", "c"].map(|name| Upstream::greeter(name, 5));
    let proxy = Proxy::start(&document(&upstreams.each_ref(), &[]));
    let seen = load_with_a_kill(&python, &mut upstreams[1], Some(&proxy), "8");
    assert_eq!(failed(&seen), &[] as &[Value]);
    assert_eq!(seen["calls"], 3000);
    let served = |name: &str| seen["served"][name].as_u64().unwrap_or(0);
    assert!(served("b") > 0, "the killed one had served nothing before: {seen}");
    assert!(served("a") > served("b") && served("c") > served("b"), "the others took over: {seen}");
}

// The limits of `examples/proxy.yaml`: three callers can have no more than three calls at the one that dies.
#[test]
fn with_three_retries_at_once_a_killed_upstream_costs_three_callers_no_call() {
    let Some(python) = Python::find() else { return };
    let mut upstreams = ["a", "b", "c"].map(|name| Upstream::greeter(name, 5));
    let document = document(&upstreams.each_ref(), &[]).replace("max_retries: 64", "max_retries: 3");
    let proxy = Proxy::start(&document.replace("per_try_timeout: 5s", "per_try_timeout: 500ms"));
    let seen = load_with_a_kill(&python, &mut upstreams[1], Some(&proxy), "3");
    assert_eq!(failed(&seen), &[] as &[Value]);
    assert_eq!(seen["calls"], 3000);
}

fn load_with_a_kill(python: &Python, upstream: &mut Upstream, proxy: Option<&Proxy>, callers: &str) -> Value {
    let target = proxy.map_or(&upstream.address, |proxy| &proxy.address);
    let mut client = python.start(target, &["load", "3000", callers]);
    client.wait_for("that it is under way", |line| (line == "done 1000").then_some(()));
    upstream.process.kill();
    seen(client)
}

fn failed(seen: &Value) -> &[Value] {
    seen["failed"].as_array().expect("it is a list")
}
