//! What may be sent again: GOAWAY, RST_STREAM and connections that die, frame by frame (RFC 9113).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use mainstay::Channel;
use mainstay::policy::Condition;
use mainstay::policy::RetryConfig;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::kit::*;
use crate::sites::builder;

/// What a server does with a connection, or with the next request on one.
#[derive(Clone, Copy, Debug)]
enum Frames {
    /// Closes the connection before a byte was sent.
    Hangup,
    /// Names the last stream that it took, and why, and closes.
    GoAway { last: u32, code: u32 },
    /// Resets the stream, at once or when its body has begun to come.
    Reset { code: u32, after_data: bool },
    /// Answers with a gRPC status.
    Answer(u8),
}

/// Plays a script over as many connections as it takes, one step for each request. Gives the number of requests.
async fn server(script: impl IntoIterator<Item = Frames>) -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
    let streams = Arc::new(Mutex::new(Vec::new()));
    let seen = streams.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let hangs_up = matches!(script.lock().unwrap().front(), Some(Frames::Hangup));
            if hangs_up {
                script.lock().unwrap().pop_front();
                continue;
            }
            tokio::spawn(serve(tcp, script.clone(), seen.clone()));
        }
    });
    (address, streams)
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

async fn serve(mut tcp: TcpStream, script: Arc<Mutex<VecDeque<Frames>>>, seen: Arc<Mutex<Vec<u32>>>) -> Option<()> {
    let mut preface = [0; 24];
    tcp.read_exact(&mut preface).await.ok()?;
    write(&mut tcp, SETTINGS, 0, 0, &[]).await?;
    let mut awaits_data = None;
    loop {
        let (kind, flags, stream, payload) = read_frame(&mut tcp).await?;
        let act = match kind {
            SETTINGS if flags & ACK == 0 => {
                write(&mut tcp, SETTINGS, ACK, 0, &[]).await?;
                continue;
            }
            PING if flags & ACK == 0 => {
                write(&mut tcp, PING, ACK, 0, &payload).await?;
                continue;
            }
            HEADERS => {
                seen.lock().unwrap().push(stream);
                script.lock().unwrap().pop_front()?
            }
            DATA => match awaits_data.take() {
                Some(code) => Frames::Reset { code, after_data: false },
                None => continue,
            },
            _ => continue,
        };
        match act {
            Frames::Hangup => return None,
            Frames::GoAway { last, code } => {
                let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                write(&mut tcp, GOAWAY, 0, 0, &payload).await?;
                tcp.shutdown().await.ok()?;
                // Read on, so that the close is no reset that overtakes the frame.
                while read_frame(&mut tcp).await.is_some() {}
                return None;
            }
            Frames::Reset { code, after_data: true } => awaits_data = Some(code),
            Frames::Reset { code, after_data: false } => {
                write(&mut tcp, RST_STREAM, 0, stream, &code.to_be_bytes()).await?;
            }
            Frames::Answer(status) => {
                // HPACK (RFC 7541): `:status: 200` is indexed; the others are literals that are not.
                let mut block = vec![0x88, 0x0f, 0x10, 16];
                block.extend_from_slice(b"application/grpc");
                block.extend_from_slice(&[0x00, 11]);
                block.extend_from_slice(b"grpc-status");
                block.extend_from_slice(&[1, b'0' + status]);
                write(&mut tcp, HEADERS, END_STREAM | END_HEADERS, stream, &block).await?;
            }
        }
    }
}

async fn write(tcp: &mut TcpStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    tcp.write_all(&frame).await.ok()
}

async fn read_frame(tcp: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    tcp.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Some((head[3], head[4], stream, payload))
}

/// What a caller without a retry policy gets, and the streams that the server saw.
async fn play(script: impl IntoIterator<Item = Frames>) -> (u8, Vec<u32>, Vec<String>) {
    play_with(RetryConfig::default(), script).await
}

async fn play_with(retry: RetryConfig, script: impl IntoIterator<Item = Frames>) -> (u8, Vec<u32>, Vec<String>) {
    let (address, streams) = server(script).await;
    let recorder = Recorder::default();
    let mut channel: Channel<Plain> =
        builder([address]).observer(recorder.observer()).retry(retry).deadline(secs(20)).build().unwrap();
    let status = crate::sites::ask(&mut channel).await;
    let lines = recorder.take().into_iter().filter(|line| line.starts_with("scheduled")).collect();
    (status, streams.lock().unwrap().clone(), lines)
}

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// CL-01 and CL-06: beyond the last stream of a GOAWAY nothing was processed, whatever its code.
#[tokio::test(start_paused = true)]
async fn grpc_cl_01_cl_06_a_stream_beyond_a_goaway_is_repeated_on_a_new_connection() {
    for code in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let (status, streams, lines) = play([Frames::GoAway { last: 0, code }, Frames::Answer(0)]).await;
        assert_eq!((status, &streams[..]), (0, [1, 1].as_slice()), "code {code}");
        assert_eq!(lines, ["scheduled 1 reset transparent 0ns"]);
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_cl_02_a_stream_that_a_goaway_covers_is_not_repeated() {
    let script = [Frames::GoAway { last: 1, code: NO_ERROR }, Frames::Answer(0)];
    let (status, streams, lines) = play(script).await;
    assert_eq!((status, &streams[..]), (14, [1].as_slice()));
    assert!(lines.is_empty(), "{lines:?}");
    let policy = RetryConfig { on: [Condition::Unavailable].into(), ..RetryConfig::default() };
    let (status, streams, _) = play_with(policy, script).await;
    assert_eq!((status, streams.len()), (0, 2), "unless a policy says so");
}

#[tokio::test(start_paused = true)]
async fn grpc_cl_03_a_refused_stream_is_repeated() {
    let (status, streams, lines) =
        play([Frames::Reset { code: REFUSED_STREAM, after_data: false }, Frames::Answer(0)]).await;
    assert_eq!((status, &streams[..]), (0, [1, 3].as_slice()));
    assert_eq!(lines, ["scheduled 1 reset transparent 0ns"]);
}

#[tokio::test(start_paused = true)]
async fn grpc_cl_04_other_resets_are_the_callers_with_their_code() {
    for (code, expected) in [(CANCEL, 1), (INTERNAL_ERROR, 13), (ENHANCE_YOUR_CALM, 8)] {
        let (status, streams, lines) = play([Frames::Reset { code, after_data: false }, Frames::Answer(0)]).await;
        assert_eq!((status, streams.len()), (expected, 1), "code {code}");
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_cl_05_a_connection_that_closes_before_its_settings_is_repeated_under_a_policy() {
    let policy = RetryConfig { on: [Condition::Unavailable].into(), ..RetryConfig::default() };
    let (status, streams, _) = play_with(policy, [Frames::Hangup, Frames::Answer(0)]).await;
    assert_eq!((status, streams.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn grpc_cl_08_a_stream_refused_while_its_body_comes_is_repeated_from_the_buffer() {
    let (status, streams, _) =
        play([Frames::Reset { code: REFUSED_STREAM, after_data: true }, Frames::Answer(0)]).await;
    assert_eq!((status, &streams[..]), (0, [1, 3].as_slice()));
}
