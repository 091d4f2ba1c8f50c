//! Starting and stopping `mainstay run`.

use std::net::TcpListener;

use serde_json::json;

use crate::peers::Python;
use crate::peers::Upstream;
use crate::peers::fetch;
use crate::peers::seen;
use crate::process::Process;
use crate::process::until;
use crate::proxy::Proxy;
use crate::proxy::document;
use crate::proxy::run;

#[test]
fn sigterm_lets_a_running_call_finish() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    let mut proxy = Proxy::start(&document(&[&upstream], &[]));
    let mut client = python.start(&proxy.address, &["held"]);
    client.wait_for("that its call runs", |line| (line == "running").then_some(()));

    proxy.process.terminate();
    until("readiness to turn", || match fetch(&[&proxy.admin_url("/ready")]) {
        Some(answer) => (answer.status == 503).then_some(()),
        None => Some(()),
    });
    assert!(proxy.process.is_running(), "it waits for the call");

    client.tell("go on");
    let expected = json!({
        "messages": ["Hello, first!", "Hello, last!"],
        "rest": [],
        "status": { "code": 0, "message": "" },
    });
    assert_eq!(seen(client), expected);
    assert_eq!(proxy.process.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_does_not_wait_for_anybody() {
    let Some(python) = Python::find() else { return };
    let upstream = Upstream::greeter("a", 0);
    let mut proxy = Proxy::start(&document(&[&upstream], &[]));
    let mut client = python.start(&proxy.address, &["held"]);
    client.wait_for("that its call runs", |line| (line == "running").then_some(()));
    proxy.process.terminate();
    until("readiness to turn", || match fetch(&[&proxy.admin_url("/ready")]) {
        Some(answer) => (answer.status == 503).then_some(()),
        None => Some(()),
    });
    proxy.process.terminate();
    proxy.process.wait();
    assert!(client.is_running(), "its call was still open");
}

#[test]
fn an_idle_proxy_ends_with_zero() {
    let mut proxy = Proxy::start(&document(&[], &[]));
    proxy.process.terminate();
    assert_eq!(proxy.process.wait().code(), Some(0));
}

#[test]
fn a_bad_document_is_refused_with_its_place_and_exit_code_2() {
    let document = document(&[], &[]).replace("connect_timeout: 250ms", "connect_timeout: soon");
    let line = 1 + document.lines().position(|line| line.contains("soon")).expect("it was replaced");
    for subcommand in ["run", "check"] {
        let (status, said) = Process::start("mainstay", &mut run(subcommand, &document)).finish();
        let said = said.join("\n");
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(
            said.contains(&format!(".yaml:{line}:")) && said.contains("connect_timeout") && said.contains("soon"),
            "{said}"
        );
    }
}

#[test]
fn a_good_document_passes_the_check() {
    let (status, said) = Process::start("mainstay", &mut run("check", &document(&[], &[]))).finish();
    assert_eq!(status.code(), Some(0), "{said:#?}");
}

#[test]
fn a_port_in_use_ends_the_run_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback ports are to be had");
    let address = taken.local_addr().expect("it is bound").to_string();
    let document = document(&[], &[]).replace("bind: 127.0.0.1:0", &format!("bind: {address}"));
    let (status, said) = Process::start("mainstay", &mut run("run", &document)).finish();
    let said = said.join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
}
