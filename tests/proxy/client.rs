//! Clients: bytes on a socket, and hyper's.

use std::net::SocketAddr;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Version;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::soon;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// A body of some bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(Into::into).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(Into::into).boxed_unsync()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    /// A header or a trailer, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name));
        value.map_or("", |value| value.to_str().expect("it is text"))
    }

    /// The gRPC status, as a number.
    pub(crate) fn grpc(&self) -> &str {
        self.field("grpc-status")
    }
}

/// A GET.
pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "web.test").body(empty()).expect("it is a request")
}

/// A POST.
pub(crate) fn post(path: &str, body: Body) -> Request<Body> {
    Request::post(path).header("host", "web.test").body(body).expect("it is a request")
}

/// A gRPC call with one empty message, for HTTP/2.
pub(crate) fn grpc(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post("http://grpc.test/pkg.Service/Method").version(Version::HTTP_2);
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full(vec![0; 5])).expect("it is a request")
}

/// Sends one request on a connection of its own, by the protocol that its version names.
pub(crate) async fn call(address: SocketAddr, request: Request<Body>) -> Answer {
    if request.version() == Version::HTTP_2 {
        let mut client = connect2(address).await;
        return collect(soon("an answer", client.send_request(request)).await.expect("there is an answer")).await;
    }
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let (mut client, connection) = http1::handshake(TokioIo::new(tcp)).await.expect("a handshake needs nobody");
    let connection = tokio::spawn(connection);
    let response = soon("an answer", client.send_request(request)).await.expect("there is an answer");
    let answer = collect(response).await;
    connection.abort();
    answer
}

/// An HTTP/2 connection. It closes when the last clone is dropped.
pub(crate) async fn connect2(address: SocketAddr) -> http2::SendRequest<Body> {
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// Reads a response to its end.
pub(crate) async fn collect(response: Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = soon("the next frame", body.frame()).await {
        match frame.expect("the body goes on to its end").into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    let body = String::from_utf8_lossy(&data).into_owned();
    Answer { status: head.status, headers: head.headers, body, trailers }
}

/// A connection on which every byte is said by the test.
pub(crate) struct Raw {
    tcp: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { tcp: TcpStream::connect(address).await.expect("it listens"), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The peer may have answered and closed before the last byte.
        let _ = self.tcp.write_all(bytes.as_ref()).await;
    }

    /// The next head, with its empty line.
    pub(crate) async fn head(&mut self) -> String {
        self.through(b"\r\n\r\n").await
    }

    /// Everything up to and with these bytes.
    pub(crate) async fn through(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                let found: Vec<_> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&found).into_owned();
            }
            let read = soon("more bytes", self.tcp.read_buf(&mut self.read)).await.unwrap_or(0);
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// A response whose length is known: its head and its body.
    pub(crate) async fn response(&mut self) -> (String, String) {
        let head = self.head().await.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("it is a number"));
        while self.read.len() < length {
            let read = soon("more bytes", self.tcp.read_buf(&mut self.read)).await.expect("it goes on");
            assert!(read > 0, "closed within the body");
        }
        let body: Vec<_> = self.read.drain(..length).collect();
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// What comes before the peer closes.
    pub(crate) async fn rest(mut self) -> String {
        soon("the end of the connection", async { while self.tcp.read_buf(&mut self.read).await.unwrap_or(0) > 0 {} })
            .await;
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
