//! natgw's development tasks: `cargo xtask --help`.

mod bench;
mod build;
mod compliance;
mod demo;
mod docs;
mod fuzz;
mod lint;
mod markdown;
mod results;
mod rules;
mod run;
mod setup;
mod sources;
mod summary;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// natgw's development tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what this machine lacks to build, test and demonstrate natgw
    Setup {
        /// Report what is missing, install nothing; exit status 1 if anything is
        #[arg(long)]
        check: bool,
    },
    /// Build natgw, its data plane included
    Build {
        /// With optimisation
        #[arg(long)]
        release: bool,
    },
    /// Run every test; those that need root ask for it (sudo)
    Test(test::Options),
    /// Compare natgw with the kernel's NAT, other gateways and this machine's limits
    #[command(disable_help_flag = true)]
    Bench(bench::Options),
    /// Compare the data plane with a model of a NAT, by random packets
    #[command(disable_help_flag = true)]
    Fuzz(fuzz::Options),
    /// Run natgw in a lab of network namespaces and show what it does
    Demo,
    /// Check format, lints, architecture rules and docs
    Lint,
    /// Write COMPLIANCE.md from its table and from what the tests last came to
    Compliance,
    /// Regenerate the generated parts of the docs
    Docs {
        /// Change nothing; exit status 1 if a file is out of date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup { check: true } => setup::report(),
        Task::Setup { check: false } => setup::everything().map(|()| ExitCode::SUCCESS),
        Task::Build { release } => build::default_members(release).map(|()| ExitCode::SUCCESS),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Demo => demo::run(),
        Task::Lint => lint::run(),
        Task::Compliance => compliance::write().map(|()| ExitCode::SUCCESS),
        Task::Docs { check: true } => docs::check(),
        Task::Docs { check: false } => docs::write().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
