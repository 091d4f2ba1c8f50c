//! The admin pages: readiness, metrics, the document in force.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::config::Config;
use crate::error::BoxError;
use crate::lifecycle::Lifecycle;
use crate::lifecycle::Phase;
use crate::lifecycle::Work;
use crate::proxy::mesh::Mesh;
use crate::time::now;

/// What the admin pages show.
pub(crate) struct Admin {
    config: Bytes,
    mesh: Arc<Mesh>,
    metrics: PrometheusHandle,
    lifecycle: Lifecycle,
}

impl Admin {
    pub(crate) fn new(
        config: &Config,
        mesh: Arc<Mesh>,
        metrics: PrometheusHandle,
        lifecycle: Lifecycle,
    ) -> Result<Self, BoxError> {
        let config = serde_json::to_string_pretty(&config.effective())?;
        Ok(Self { config: config.into(), mesh, metrics, lifecycle })
    }

    /// Serves the pages from a task of their own, until `stopped` is dropped.
    pub(crate) fn serve(
        self,
        socket: std::net::TcpListener,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<SocketAddr, BoxError> {
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        let admin = Arc::new(self);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = socket.accept() => accepted,
                    _ = &mut stopped => return,
                };
                let Ok((tcp, _)) = accepted else {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let admin = admin.clone();
                tokio::spawn(async move {
                    let page = service_fn(|request| std::future::ready(Ok::<_, Infallible>(admin.page(&request))));
                    // A browser that went away is nobody's concern.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), page).await;
                });
            }
        });
        Ok(address)
    }

    fn page(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/ready" => match self.lifecycle.phase() {
                Phase::Ready => plain(StatusCode::OK, "ready\n"),
                Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
                Phase::Draining | Phase::Stopped => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            },
            "/metrics" => {
                self.mesh.gauge(now());
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render().into())
            }
            "/config" => answer(StatusCode::OK, "application/json", self.config.clone()),
            "/" => plain(
                StatusCode::OK,
                "/ready    whether calls are taken\n/metrics  for Prometheus\n/config   all settings in force\n",
            ),
            _ => plain(StatusCode::NOT_FOUND, "there are /ready, /metrics and /config\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Sorts what histograms have collected into their buckets, so that it does not pile up between scrapes.
pub(crate) async fn upkeep(metrics: PrometheusHandle, mut work: Work) {
    let tend = async {
        loop {
            sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        () = tend => {}
        () = work.reached(Phase::Stopped) => {}
    }
}

/// Little is collected in this time, and an idle proxy hardly wakes.
const UPKEEP: Duration = Duration::from_secs(5);
