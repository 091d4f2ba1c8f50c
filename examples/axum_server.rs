//! An axum server behind `mainstay::server()`: overload, slow handlers and panics become statuses.
//!
//! ```text
//! cargo run --example axum_server
//! ```
//!
//! Mainstay's part needs no feature. The requests are written by hand, to show the answers as they are.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    std::panic::set_hook(Box::new(|panic| println!("  (a handler panics: {panic})")));
    let app = Router::new()
        .route("/quick", get(|| async { "here you are\n" }))
        .route("/busy", get(|| sleep(Duration::from_millis(100))))
        .route("/stuck", get(std::future::pending::<()>))
        .route("/broken", get(broken))
        .layer(mainstay::server().timeout(Duration::from_millis(200)).max_concurrent(2));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let stopped = async {
            // Whether it was told to stop or left alone: it stops.
            let _ = stopped.await;
        };
        axum::serve(listener, app).with_graceful_shutdown(stopped).await
    });

    println!("an ordinary call:\n  {}", ask(address, "/quick").await?);
    println!("one that never ends, with 200 ms for each:\n  {}", ask(address, "/stuck").await?);
    println!("one that panics:\n  {}", ask(address, "/broken").await?);
    println!("three at once, where two may run:");
    let (one, two, three) = tokio::try_join!(ask(address, "/busy"), ask(address, "/busy"), ask(address, "/busy"))?;
    println!("  {one}\n  {two}\n  {three}");

    drop(stop);
    server.await??;
    Ok(())
}

async fn broken() -> &'static str {
    panic!("no luck")
}

async fn ask(address: SocketAddr, path: &str) -> Result<String, std::io::Error> {
    let mut tcp = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok(format!("GET {path}: {} {body}", head.lines().next().unwrap_or("nothing")).trim_end().to_owned())
}
