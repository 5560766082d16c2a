//! The command line: one file per verb, and the one place that turns a result into an exit code.

pub mod args;
mod check;
mod completions;
mod config;
mod drops;
mod eip;
mod flows;
mod nacl;
mod output;
mod reading;
mod route;
mod status;
mod table;
mod units;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Cli, ConfigVerb, Verb};

use crate::{datapath::DatapathError, report::NotFound};

/// A 'no': nothing is running, nothing was found.
pub const NO: u8 = 1;
/// Bad input, or a failure.
pub const FAILURE: u8 = 2;

/// Runs the command line of this process. Errors go to stderr, every line of them after the program's name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
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
    if not_running || error.is::<NotFound>() { NO } else { FAILURE }
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Check(args) => check::execute(args),
        Verb::Config(ConfigVerb::Sample) => config::sample(),
        Verb::Completions(args) => completions::shell(args),
        Verb::Man(args) => completions::man(args),
        Verb::Run(_) => not_wired("run"),
        Verb::Status(args) => status::execute(&cli.pin_dir, args),
        Verb::Flows(args) => flows::execute(&cli.pin_dir, args),
        Verb::Drops(args) => drops::execute(&cli.pin_dir, args),
        Verb::Eip(verb) => eip::execute(&cli.pin_dir, verb),
        Verb::Nacl(verb) => nacl::execute(&cli.pin_dir, verb),
        Verb::Route(verb) => route::execute(&cli.pin_dir, verb),
        Verb::Bench(_) => not_wired("bench"),
        Verb::Detach => not_wired("detach"),
    }
}

/// PLACEHOLDER, the only one: where the verbs' own modules (`run::execute` and its like) are called once they exist.
fn not_wired(verb: &str) -> Result<ExitCode> {
    anyhow::bail!("{verb}: not part of this build")
}
