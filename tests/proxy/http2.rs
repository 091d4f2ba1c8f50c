//! What HTTP/2 peers may send, frame by frame.

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::call;
use crate::client::get;
use crate::fixture::Proxy;
use crate::fixture::soon;
use crate::upstream::Step;
use crate::upstream::Upstream;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const PROTOCOL_ERROR: u32 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as literals without indexing (RFC 7541, 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("it is short")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// Sends the head of a request, and some data: the code of the RST_STREAM or GOAWAY, or nothing if there is an answer.
async fn refused(head: &[(&str, &str)], data: Option<&[u8]>) -> Option<u32> {
    let upstream = Upstream::scripted(&[Step::Status(200)]).await;
    let proxy = Proxy::plain("http2", upstream.address).await;
    let mut tcp = TcpStream::connect(proxy.address).await.expect("it listens");
    let flags = if data.is_some() { END_HEADERS } else { END_HEADERS | END_STREAM };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, flags, 1, &fields(head)));
    bytes.extend(data.iter().flat_map(|data| frame(DATA, END_STREAM, 1, data)));
    tcp.write_all(&bytes).await.expect("it reads");

    let code = loop {
        let mut head = [0; 9];
        soon("a frame", tcp.read_exact(&mut head)).await.expect("a frame, not the end");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        soon("a payload", tcp.read_exact(&mut payload)).await.expect("a payload");
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match head[3] {
            HEADERS => break None,
            RST_STREAM => break Some(number(0)),
            GOAWAY => break Some(number(4)),
            _ => {}
        }
    };
    // Whatever came, others are served.
    assert_eq!(call(proxy.address, get("/")).await.status, 200);
    assert_eq!(upstream.seen().len(), 1 + usize::from(code.is_none()));
    code
}

const SOUND: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];

#[tokio::test]
async fn a_sound_request_is_answered() {
    assert_eq!(refused(&SOUND, None).await, None);
    let te = [&SOUND[..], &[("te", "trailers"), ("content-length", "3")]].concat();
    assert_eq!(refused(&te, Some(b"abc")).await, None);
}

#[tokio::test]
async fn envoy_http2_malformed_heads_are_refused() {
    for bad in [("A", "b"), ("connection", "x"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("upgrade", "h2c")] {
        let head = [&SOUND[..], &[bad]].concat();
        assert_eq!(refused(&head, None).await, Some(PROTOCOL_ERROR), "{bad:?}");
    }
    for missing in [":method", ":scheme", ":path"] {
        let head: Vec<_> = SOUND.into_iter().filter(|(name, _)| *name != missing).collect();
        assert_eq!(refused(&head, None).await, Some(PROTOCOL_ERROR), "{missing}");
    }
    let twice = [&SOUND[..], &[(":path", "/other")]].concat();
    assert_eq!(refused(&twice, None).await, Some(PROTOCOL_ERROR));
}

#[tokio::test]
async fn envoy_http2_a_body_is_as_long_as_it_says() {
    let head = [&SOUND[..], &[("content-length", "5")]].concat();
    for data in [&b"abc"[..], b"abcdefg"] {
        assert_eq!(refused(&head, Some(data)).await, Some(PROTOCOL_ERROR), "{} bytes", data.len());
    }
}
