//! The command line: one file per verb, and the one place that turns a result into an exit code.

pub mod args;
mod bench;
mod check;
mod completions;
mod config;
mod detach;
mod drops;
mod eip;
mod flows;
mod nacl;
mod output;
mod reading;
mod route;
mod run;
mod status;
mod table;
mod units;
mod who;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, ConfigVerb, Verb};

use crate::{api::ClientError, datapath::DatapathError, report::NotFound};

/// A 'no': nothing is running, nothing was found, a change was refused.
pub const NO: u8 = 1;
/// Bad input, or a failure.
pub const FAILURE: u8 = 2;

/// Runs the command line of this process. Errors go to stderr, every line of them after the program's name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    dispatch(&cli).unwrap_or_else(|error| {
        for line in format!("{error:#}").lines() {
            eprintln!("natgw: {line}");
        }
        ExitCode::from(code(&error))
    })
}

/// Which errors are a 'no'; all others are failures.
fn code(error: &anyhow::Error) -> u8 {
    let not_running = matches!(error.downcast_ref(), Some(DatapathError::NotRunning(_)));
    let refused =
        matches!(error.downcast_ref(), Some(ClientError::NoController(_) | ClientError::Refused(_)));
    if not_running || refused || error.is::<NotFound>() { NO } else { FAILURE }
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Check(args) => check::execute(args),
        Verb::Config(ConfigVerb::Sample) => config::sample(),
        Verb::Completions(args) => completions::shell(args),
        Verb::Man(args) => completions::man(args),
        Verb::Run(args) => run::execute(&cli.pin_dir, args),
        Verb::Status(args) => status::execute(&cli.pin_dir, args),
        Verb::Flows(args) => flows::execute(&cli.pin_dir, args),
        Verb::Drops(args) => drops::execute(&cli.pin_dir, args),
        Verb::Eip(verb) => eip::execute(&cli.pin_dir, verb),
        Verb::Nacl(verb) => nacl::execute(&cli.pin_dir, verb),
        Verb::Route(verb) => route::execute(&cli.pin_dir, verb),
        Verb::Bench(args) => bench::execute(args),
        Verb::Detach => detach::execute(&cli.pin_dir),
    }
}

/// Logs of this process, and what the data plane logs at the level it was loaded with; `NATGW_LOG` selects them as
/// `RUST_LOG` does elsewhere.
fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("NATGW_LOG").unwrap_or_else(|_| EnvFilter::new("info,natgw_xdp=trace"));
    let output = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    output.with_ansi(std::io::stderr().is_terminal()).with_env_filter(filter).init();
}

/// What the verbs that talk to the kernel run on: one thread is plenty.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
