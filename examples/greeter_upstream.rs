//! An upstream to try the proxy on: the demo's `Greeter` service with any manners. The interop tests kill it.
//!
//! ```text
//! cargo run --features proxy --example greeter_upstream -- --bind 127.0.0.1:50051 --name a --fail 10 --delay 5
//! ```
//!
//! Prints the address that it listens on, and runs until it is killed or, with `--until-stdin-closes`, left alone.

use std::error::Error;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use mainstay::proxy::demo::greeter::Manners;
use mainstay::proxy::demo::upstream::Upstream;

/// A Greeter server.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    bind: SocketAddr,
    /// What the upstream calls itself.
    #[arg(long, default_value = "greeter")]
    name: String,
    /// How many of 100 calls fail with UNAVAILABLE.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    fail: u8,
    /// How long a call takes, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u64,
    /// Ends when stdin does, so that it never outlives what started it.
    #[arg(long)]
    until_stdin_closes: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let manners = Manners {
        unavailable: f64::from(args.fail) / 100.0,
        latency: Duration::from_millis(args.delay),
        ..Manners::new(args.name)
    };
    let upstream = Upstream::start(manners, args.bind)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", upstream.address())?;
    stdout.flush()?;

    if args.until_stdin_closes {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}
