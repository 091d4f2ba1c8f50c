//! A proxy with a document of its own, and waiting with a bound.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay::Config;
use mainstay::proxy;
use mainstay::proxy::Running;
use serde_json::Value;

/// How long anything may take: many times what it does take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy with one listener.
pub(crate) struct Proxy {
    running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: PathBuf,
}

impl Proxy {
    /// Starts a proxy with these routes and clusters, both in YAML's flow style.
    ///
    /// `{}` for an address stands for where the upstream of that number listens.
    pub(crate) async fn start(routes: &str, clusters: &str) -> Self {
        let log = temporary("log");
        let document = format!(
            "{{ admin: 127.0.0.1:0, workers: 1, access_log: {{ path: {log:?} }}, \
             listeners: {{ ingress: {{ bind: 127.0.0.1:0, routes: [{routes}] }} }}, clusters: {{{clusters}}} }}"
        );
        let config = Config::parse(&document, "test", &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
        let running = proxy::start(config).await.unwrap_or_else(|error| panic!("{error}"));
        let address = running.listener("ingress").expect("the listener is there");
        let admin = running.admin().expect("there are admin pages");
        Self { running: Some(running), address, admin, log }
    }

    /// One route without conditions to one cluster with one endpoint.
    pub(crate) async fn plain(protocol: &str, upstream: SocketAddr) -> Self {
        Self::start("{ cluster: up }", &cluster(protocol, &[upstream], "")).await
    }

    /// Takes the proxy itself, to shut it down.
    pub(crate) fn running(&mut self) -> Running {
        self.running.take().expect("it runs until here")
    }

    /// Shuts it down, and reads the lines of its access log.
    pub(crate) async fn log(mut self) -> Vec<Value> {
        if let Some(running) = self.running.take() {
            soon("the drain", running.shutdown()).await;
        }
        self.log_text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// What has been written to its access log so far.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log was opened")
    }

    /// The one line of its access log.
    pub(crate) async fn line(self) -> Value {
        let lines = self.log().await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines.into_iter().next().unwrap_or_default()
    }

    /// The response flags of all calls.
    pub(crate) async fn flags(self) -> Vec<String> {
        let lines = self.log().await;
        lines.iter().map(|line| line["response_flags"].as_str().expect("they are text").to_owned()).collect()
    }
}

/// A cluster called `up`, in flow style, with more settings after its endpoints.
pub(crate) fn cluster(protocol: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("{:?}", endpoint.to_string())).collect();
    format!("up: {{ protocol: {protocol}, endpoints: [{}]{more} }}", endpoints.join(", "))
}

/// A path in a directory that is there for tests.
pub(crate) fn temporary(name: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{}-{number}.{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// An address where nobody listens. The socket keeps others from it.
pub(crate) fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// Waits for what must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // Nothing tells when it is worth asking again; this leaves the processor to those who are asked.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}
