//! `mainstay demo`: the same load on four troubled upstreams, directly and through Mainstay, and what became of it.
//!
//! Everything is real and on loopback: tonic servers on threads of their own, the proxy from an embedded document, and
//! a tonic client that knows nothing of either. Both halves get a fresh fleet with the same seeds and the same drill,
//! so that the way the calls take is the only difference.

mod fleet;
pub mod greeter;
mod load;
mod progress;
mod report;
mod scrape;
pub mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::BoxError;
use crate::config::Config;
use crate::config::ConfigErrors;
use crate::proxy;
use crate::proxy::demo::fleet::Fleet;
use crate::proxy::demo::load::Load;
use crate::proxy::demo::load::Tally;
use crate::proxy::demo::report::Figures;
use crate::proxy::demo::report::Report;
use crate::proxy::demo::scrape::Counts;

/// What the proxy of the demo runs.
const CONFIG: &str = include_str!("demo.yaml");

/// Calls per second while figures are taken: little enough that a small machine is never the bottleneck.
const RATE: u32 = 500;

/// Calls per second after that, with `--keep`.
const KEEP_RATE: u32 = 20;

/// How often the dying upstream dies with `--keep`.
const KEEP_DRILL: Duration = Duration::from_secs(20);

/// Runs one load past four troubled upstreams, directly and through Mainstay, and shows how it went.
#[derive(Args, Clone, Copy, Debug)]
pub struct DemoArgs {
    /// How many seconds the load lasts in total; each way gets half of them.
    #[arg(long, default_value_t = 15, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub seconds: u64,
    /// Leaves the upstreams, the proxy and a light load running until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Prints the figures as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo and prints its report to stdout; progress goes to stderr.
///
/// # Errors
/// When an upstream or the proxy cannot start, or the proxy's figures cannot be read.
///
/// # Cancel safety
/// Dropping the future ends the load and the upstreams.
pub async fn run(args: DemoArgs) -> Result<(), BoxError> {
    let half = Duration::from_secs(args.seconds) / 2;
    let direct = run_direct(half).await?;

    let mut fleet = Fleet::start()?;
    let proxy = proxy::start(config(&fleet)?).await?;
    let listener = proxy.listener("demo").ok_or("the proxy has no listener `demo`")?;
    let admin = proxy.admin().ok_or("the proxy has no admin address")?;
    eprintln!("proxy on {listener}, its own figures on http://{admin}/metrics");
    let load = Load::new([listener], RATE)?;
    let tally = progress::beside("through mainstay", half, measure(&load, &mut fleet, half)).await?;
    let report = Report { direct, mainstay: Figures::new(&tally, Some(Counts::scrape(admin).await?)) };

    if args.json {
        println!("{}", report.to_json());
    } else {
        print_report(&report);
    }
    if args.keep {
        print_addresses(&fleet, listener, admin);
        keep(&mut fleet, listener).await?;
    } else if !args.json {
        println!("\nThe proxy's own figures were on http://{admin}/metrics; `--keep` leaves it running.");
    }
    proxy.shutdown().await;
    Ok(())
}

async fn run_direct(half: Duration) -> Result<Figures, BoxError> {
    let mut fleet = Fleet::start()?;
    let load = Load::new(fleet.members().into_iter().map(|(_, address)| address), RATE)?;
    let tally = progress::beside("direct", half, measure(&load, &mut fleet, half)).await?;
    Ok(Figures::new(&tally, None))
}

/// The embedded document with the addresses of the fleet, each by its upstream's name in upper case.
fn config(fleet: &Fleet) -> Result<Config, ConfigErrors> {
    let members = fleet.members();
    Config::parse(CONFIG, "demo.yaml", &|variable| {
        let member = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(variable));
        member.map(|(_, address)| address.to_string())
    })
}

async fn measure(load: &Load, fleet: &mut Fleet, time: Duration) -> Result<Tally, BoxError> {
    let (tally, drill) = tokio::join!(load.run(time), fleet.drill(time));
    drill?;
    Ok(tally)
}

/// Goes on with a light load and one drill after the other, until Ctrl-C.
async fn keep(fleet: &mut Fleet, listener: SocketAddr) -> Result<(), BoxError> {
    let load = Load::new([listener], KEEP_RATE)?;
    let forever = async {
        loop {
            measure(&load, fleet, KEEP_DRILL).await?;
        }
    };
    tokio::select! {
        ended = forever => ended,
        signal = tokio::signal::ctrl_c() => Ok(signal?),
    }
}

fn print_report(report: &Report) {
    println!("Four upstreams: one healthy, one failing 30% of its calls, one with slow calls, one dying half-way.");
    println!("{RATE} calls per second, round robin without retries, then the same through Mainstay:\n");
    println!("{report}");
    for line in report.summary() {
        println!("{line}");
    }
}

// To stderr, so that `--json` leaves nothing but JSON on stdout.
fn print_addresses(fleet: &Fleet, listener: SocketAddr, admin: SocketAddr) {
    eprintln!("\nRunning until Ctrl-C:");
    eprintln!("  proxy    {listener}");
    eprintln!("  admin    http://{admin}/ready  http://{admin}/metrics  http://{admin}/config");
    for (name, address) in fleet.members() {
        eprintln!("  {name:<8} {address}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_document_names_the_whole_fleet() {
        let fleet = Fleet::start().expect("loopback ports are to be had");
        let config = config(&fleet).expect("the document is valid");
        let cluster = config.clusters.get("greeter").expect("the document has it");
        let endpoints: Vec<String> = cluster.endpoints.iter().map(ToString::to_string).collect();
        let members: Vec<String> = fleet.members().iter().map(|(_, address)| address.to_string()).collect();
        assert_eq!(endpoints, members);
    }
}
