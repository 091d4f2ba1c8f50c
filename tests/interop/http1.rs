//! curl sees through the second route what a plain HTTP/1.1 server says.

use std::path::PathBuf;

use serde_json::Value;

use crate::peers::Python;
use crate::peers::Upstream;
use crate::peers::curl;
use crate::peers::fetch;
use crate::proxy::Proxy;
use crate::proxy::document;

#[test]
fn a_get_keeps_its_path_and_headers() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::http(&python, "w", 0);
    let proxy = Proxy::start(&document(&[], &[&upstream]));
    let url = proxy.url("/a%20b/c?q=1&r=%C3%BC");
    let Some(answer) = fetch(&["-H", "x-mine: 1", "-H", "connection: x-hop", "-H", "x-hop: 1", &url]) else { return };
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-upstream"), ["w"]);
    assert_eq!(answer.header("x-twice"), ["one", "two"]);
    assert_eq!(answer.header("content-type"), ["application/json"]);
    let seen: Value = serde_json::from_str(&answer.body).expect("the upstream answers in JSON");
    assert_eq!((&seen["method"], &seen["path"]), (&"GET".into(), &"/a%20b/c?q=1&r=%C3%BC".into()));
    let header = |name: &str| {
        let headers = seen["headers"].as_array().expect("it is a list");
        headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap_or_default())
    };
    assert_eq!(header("host"), Some(proxy.address.as_str()));
    assert_eq!(header("x-mine"), Some("1"));
    assert_eq!(header("x-hop"), None, "`connection` names it, so it goes no further");
    assert_eq!(header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(header("x-request-id").is_some_and(|id| !id.is_empty()));
}

#[test]
fn a_posted_body_comes_back_byte_for_byte() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::http(&python, "w", 0);
    let proxy = Proxy::start(&document(&[], &[&upstream]));
    let (sent, received) = (temporary("sent"), temporary("received"));
    // Every byte value, and a length that no buffer divides.
    let body: Vec<u8> = (0..1_000_003_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&sent, &body).expect("the directory is for us");
    for framing in ["content-type: application/x-test", "transfer-encoding: chunked"] {
        let data = format!("@{}", sent.display());
        let output = received.display().to_string();
        let arguments = ["--data-binary", &data, "-H", framing, "-o", &output, "-w", "%{http_code} %{size_download}\n"];
        let Some(mut curl) = curl(&[&arguments[..], &[&proxy.url("/echo")]].concat()) else { return };
        let (status, said) = curl.finish();
        assert!(status.success(), "{said:#?}");
        assert_eq!(said, ["200 1000003"], "{framing}");
        assert!(std::fs::read(&received).expect("curl wrote it") == body, "{framing}: the body has changed");
    }
}

#[test]
fn statuses_pass_and_so_do_answers_without_a_body() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::http(&python, "w", 0);
    let proxy = Proxy::start(&document(&[], &[&upstream]));
    for status in [201, 204, 404, 418, 500, 503] {
        let Some(answer) = fetch(&["-d", "some text", &proxy.url(&format!("/status/{status}"))]) else { return };
        assert_eq!((answer.status, answer.header("x-upstream")), (status, vec!["w"]));
        assert_eq!(answer.body, if status == 204 { "" } else { "some text" });
    }
    let Some(answer) = fetch(&["--head", &proxy.url("/")]) else { return };
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert!(answer.header("content-length")[0].parse::<u32>().expect("it is a number") > 0);
}

#[test]
fn without_an_upstream_the_answer_is_503() {
    let proxy = Proxy::start(&document(&[], &[]));
    let Some(answer) = fetch(&[&proxy.url("/")]) else { return };
    assert_eq!(answer.status, 503, "{}", answer.body);
}

#[test]
fn a_killed_http_upstream_of_three_costs_no_request() {
    let Some(python) = Python::find() else { return };
    let mut upstreams = ["a", "b", "c"].map(|name| Upstream::http(&python, name, 5));
    let proxy = Proxy::start(&document(&[], &upstreams.each_ref()));
    let url = proxy.url("/item/[1-500]");
    let start = || curl(&["-o", "/dev/null", "-w", "%{http_code} %header{x-upstream}\n", &url]);
    let Some(mut first) = start() else { return };
    let others: Vec<_> = (0..3).filter_map(|_| start()).collect();

    let mut before = Vec::new();
    first.wait_for("a hundred answers", |line| {
        before.push(line.to_owned());
        (before.len() == 100).then_some(())
    });
    upstreams[1].process.kill();

    let mut answers = before;
    for mut curl in std::iter::once(first).chain(others) {
        let (status, said) = curl.finish();
        assert!(status.success(), "{said:#?}");
        answers.extend(said);
    }
    let failed: Vec<_> = answers.iter().filter(|answer| !answer.starts_with("200 ")).collect();
    assert_eq!((failed, answers.len()), (Vec::<&String>::new(), 2000));
    let served = |name: &str| answers.iter().filter(|answer| answer.ends_with(name)).count();
    assert!(served("b") > 0 && served("a") > served("b") && served("c") > served("b"), "the others took over");
}

fn temporary(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-{}-{name}", std::process::id()))
}
