//! The command line: one file per verb, and the one place that turns a result into an exit code.

pub mod args;
mod check;
mod completions;
mod config;
mod output;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Cli, ConfigVerb, Verb};

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
        ExitCode::from(FAILURE)
    })
}

fn dispatch(cli: &Cli) -> Result<ExitCode> {
    match &cli.verb {
        Verb::Check(args) => check::execute(args),
        Verb::Config(ConfigVerb::Sample) => config::sample(),
        Verb::Completions(args) => completions::shell(args),
        Verb::Man(args) => completions::man(args),
        Verb::Run(_) => not_wired("run"),
        Verb::Status(_) => not_wired("status"),
        Verb::Flows(_) => not_wired("flows"),
        Verb::Drops(_) => not_wired("drops"),
        Verb::Eip(_) => not_wired("eip"),
        Verb::Nacl(_) => not_wired("nacl"),
        Verb::Route(_) => not_wired("route"),
        Verb::Bench(_) => not_wired("bench"),
        Verb::Detach => not_wired("detach"),
    }
}

/// PLACEHOLDER, the only one: where the verbs' own modules (`run::execute` and its like) are called once they exist.
fn not_wired(verb: &str) -> Result<ExitCode> {
    anyhow::bail!("{verb}: not part of this build")
}
