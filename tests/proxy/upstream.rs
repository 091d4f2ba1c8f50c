//! Upstreams that do what a script says, and remember what they were asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::request::Parts;
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::Body;
use crate::client::Error;
use crate::client::empty;
use crate::client::full;

/// A server of HTTP/1.1 and HTTP/2. It and its connections end when it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// What to do with one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Answer with this HTTP status and the body `N`.
    Status(u16),
    /// Answer trailers-only with this gRPC status.
    Grpc(u8),
    /// Answer with a head, and then trailers with this gRPC status.
    Late(u8),
    /// Answer with a head, one empty message, and trailers with this gRPC status.
    Message(u8),
    /// Reset the stream; on HTTP/1, close the connection.
    Reset(h2::Reason),
    /// Never answer.
    Hang,
}

impl Upstream {
    /// Does one step for each request, the last one again and again.
    pub(crate) async fn scripted(steps: &[Step]) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (steps, memory) = (steps.to_vec(), seen.clone());
        let mut upstream = Self::start(move |request| {
            let (steps, memory) = (steps.clone(), memory.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?;
                let trailers = body.trailers().cloned();
                let number = {
                    let mut memory = memory.lock().expect("no test panics here");
                    memory.push(Seen { head, body: body.to_bytes(), trailers });
                    memory.len() - 1
                };
                play(steps[number.min(steps.len() - 1)]).await
            }
        })
        .await;
        upstream.seen = seen;
        upstream
    }

    /// Answers each request with `handler`.
    pub(crate) async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Body>, Error>> + Send + 'static,
    {
        Self::accept(move |tcp| {
            let handler = handler.clone();
            async move {
                let service = service_fn(handler);
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
            }
        })
        .await
    }

    /// Gives each connection to `serve`, with its bytes.
    pub(crate) async fn accept<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(tcp));
            }
        });
        Self { address, seen: Arc::default(), _tasks: tasks }
    }

    /// What a scripted one has been asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics here").clone()
    }
}

async fn play(step: Step) -> Result<Response<Body>, Error> {
    let grpc = || Response::builder().header("content-type", "application/grpc");
    let status = |code: u8| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", u16::from(code).into());
        trailers
    };
    let response = match step {
        Step::Status(status) => Response::builder().status(status).body(full(status.to_string())),
        Step::Grpc(code) => grpc().header("grpc-status", code.to_string()).body(empty()),
        Step::Late(code) => grpc().body(frames(vec![Ok(Frame::trailers(status(code)))])),
        Step::Message(code) => {
            let message = Frame::data(Bytes::from_static(&[0; 5]));
            grpc().body(frames(vec![Ok(message), Ok(Frame::trailers(status(code)))]))
        }
        Step::Reset(reason) => return Err(h2::Error::from(reason).into()),
        Step::Hang => return std::future::pending().await,
    };
    Ok(response?)
}

/// A body of these frames.
pub(crate) fn frames(frames: Vec<Result<Frame<Bytes>, Error>>) -> Body {
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}

/// A body of the frames that come out of a channel.
pub(crate) fn streamed(frames: tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, Error>>) -> Body {
    StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(frames)).boxed_unsync()
}
