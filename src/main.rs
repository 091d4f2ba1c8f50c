//! The `mainstay` binary.

use std::process::ExitCode;

use clap::Parser;
use mainstay::proxy::command::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
