//! `mainstay run` as a process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::peers::Upstream;
use crate::process::Process;

/// A proxy with one listener.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) address: String,
    pub(crate) admin: String,
}

impl Proxy {
    /// Starts `mainstay run` with this document, which must have an admin and one listener, and waits until it listens.
    pub(crate) fn start(document: &str) -> Self {
        let mut process = Process::start("mainstay", &mut run("run", document));
        let (mut address, mut admin) = (None, None);
        let both = process.wait_for("where it listens", |line| {
            let line = line.strip_prefix("mainstay: ")?;
            if let Some(at) = line.strip_prefix("admin on ") {
                admin = Some(at.to_owned());
            } else if let Some((_, at)) = line.strip_prefix("listener ").and_then(|line| line.split_once(" on ")) {
                address = Some(at.to_owned());
            }
            address.clone().zip(admin.clone())
        });
        Self { process, address: both.0, admin: both.1 }
    }

    /// The address of a page.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of an admin page.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }
}

/// The command that runs a subcommand with a document of its own.
pub(crate) fn run(subcommand: &str, document: &str) -> Command {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("interop-{}-{number}.yaml", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, document).expect("the directory is for us");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.arg(subcommand).arg("--config").arg(path);
    command
}

/// The document of the README with these upstreams: gRPC by the first route, everything else by the second.
pub(crate) fn document(greeters: &[&Upstream], webs: &[&Upstream]) -> String {
    let endpoints = |upstreams: &[&Upstream]| {
        // A cluster without upstreams points where nobody listens: a port that no process gets by chance.
        let addresses = upstreams.iter().map(|upstream| format!("{:?}", upstream.address));
        let addresses: Vec<String> = addresses.collect();
        if addresses.is_empty() { "\"127.0.0.1:1\"".to_owned() } else { addresses.join(", ") }
    };
    DOCUMENT.replace("GREETERS", &endpoints(greeters)).replace("WEBS", &endpoints(webs))
}

const DOCUMENT: &str = r"
admin: 127.0.0.1:0
workers: 2
listeners:
  ingress:
    bind: 127.0.0.1:0
    routes:
      - match: { prefix: /mainstay.demo.v1.Greeter/ }
        cluster: greeter
        timeout: 15s
        retry: { max_attempts: 3, on: [unavailable, connect-failure, reset], per_try_timeout: 5s, backoff: { base: 25ms, max: 250ms } }
      - cluster: web
        retry: { max_attempts: 3, on: [connect-failure, reset], backoff: { base: 5ms } }
clusters:
  greeter:
    protocol: http2
    endpoints: [GREETERS]
    connect_timeout: 250ms
    balance: p2c
    budget: { ratio: 0.2, min_per_second: 10 }
    limits: { max_requests: 1024, max_retries: 64 }
    outlier: { consecutive_failures: 5, interval: 10s, base_ejection_time: 30s, max_ejection_percent: 50 }
  web:
    protocol: http1
    endpoints: [WEBS]
    limits: { max_retries: 64 }
    budget: { ratio: 0.2, min_per_second: 10 }
";
