//! The command line: what `mainstay` can be told, and its exit codes.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::config;
use crate::config::Config;
use crate::error::BoxError;
use crate::proxy;
use crate::proxy::demo;
use crate::proxy::demo::DemoArgs;

/// Keeps services standing when the services they call are slow, failing or overloaded.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the proxy until SIGTERM or SIGINT; a second signal ends it at once.
    Run {
        /// The document that says what to listen on and where to forward.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Checks a document and says what is wrong, or what looks wrong.
    Check {
        /// The document.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows what Mainstay does: troubled upstreams, called directly and through the proxy.
    Demo(DemoArgs),
}

/// A document that cannot be used.
const BAD_CONFIG: u8 = 2;
/// Anything that goes wrong while running.
const FAILED: u8 = 1;

impl Cli {
    /// Does what was asked for. The exit code is 2 for a document that cannot be used, 1 for a failure at run time.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Check { config } => check(&config),
            Command::Run { config } => match Config::from_path(&config) {
                Ok(config) => block_on(serve(config)),
                Err(errors) => fail(BAD_CONFIG, &errors),
            },
            Command::Demo(args) => block_on(demo::run(args)),
        }
    }
}

fn check(path: &Path) -> ExitCode {
    let config = match Config::from_path(path) {
        Ok(config) => config,
        Err(errors) => return fail(BAD_CONFIG, &errors),
    };
    for warning in config::lint(&config) {
        eprintln!("warning: {warning}");
    }
    let (listeners, clusters) = (config.listeners.len(), config.clusters.len());
    println!("{} is valid: {listeners} listeners, {clusters} clusters", path.display());
    ExitCode::SUCCESS
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}

fn block_on(work: impl Future<Output = Result<(), BoxError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(BoxError::from).and_then(|runtime| runtime.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format_args!("mainstay: {error}")),
    }
}

async fn serve(config: Config) -> Result<(), BoxError> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let running = proxy::start(config).await?;
    for (name, address) in running.listeners() {
        eprintln!("mainstay: listener {name} on {address}");
    }
    if let Some(address) = running.admin() {
        eprintln!("mainstay: admin on {address}");
    }
    signals.next().await;
    eprintln!("mainstay: draining; a second signal ends it at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        () = signals.next() => Err("ended by a second signal, with calls still running".into()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
