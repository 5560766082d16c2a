//! The whole command line, verb by verb.

mod bench;
mod eip;
mod flows;
mod listing;
mod run;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use bench::BenchArgs;
pub use eip::{EipAddArgs, EipRemoveArgs, EipVerb, EipWhoArgs};
pub use flows::FlowsArgs;
pub use listing::{DropsArgs, ListArgs, NaclVerb, RouteVerb, StatusArgs};
pub use run::{DataPlaneLog, RunArgs};

/// A NAT gateway in XDP and TC: private subnets reach the internet from Elastic IPs, replies come back, nothing else comes in
#[derive(Debug, Parser)]
#[command(name = "natgw", version, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// Where programs, links and maps are pinned; several gateways on one host use different directories
    #[arg(long, global = true, value_name = "DIR", env = "NATGW_PIN_DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where state is pinned unless `--pin-dir` or `NATGW_PIN_DIR` says otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/natgw";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  no: nothing is running, nothing was found, a running gateway refuses a change
  2  failure or bad input: usage, configuration, a missing interface, no privilege, a kernel too old";

const AFTER_HELP: &str = "\
Examples:
  natgw run --internal eth1 --external eth0 --elastic-ip 203.0.113.10 --private-cidr 10.0.0.0/16
  natgw config sample > natgw.toml && natgw check natgw.toml
  sudo natgw run --config natgw.toml
  sudo natgw flows --source 10.0.1.5 --watch
  sudo natgw eip remove 203.0.113.10 --drain 1h

Exit codes:
  0  done
  1  no: nothing is running, nothing was found, a running gateway refuses a change
  2  failure or bad input: usage, configuration, a missing interface, no privilege, a kernel too old

Reading (status, flows, drops, and list of eip, nacl and route) works from the pinned maps, also while no controller
runs. Changing (eip add, eip remove) is asked of the running controller.
What touches the data plane needs root; check, config, completions and man do not.";

/// What `natgw` does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Load, attach and control the data plane, in the foreground
    ///
    /// The configuration is a file, or the flags of the common case: every private host behind one NAT gateway,
    /// everything allowed. When programs are attached and configured, one line `ready generation=N` goes to stdout; logs
    /// go to stderr. A second `natgw run` takes over from a first one, which ends if it still runs; no packet is lost.
    Run(RunArgs),
    /// Validate a configuration and print the plan
    ///
    /// Needs no root and changes nothing. Whether interfaces exist is known only on the host that runs the gateway, so
    /// it is not asked here.
    Check(CheckArgs),
    /// Show interfaces, NAT gateways, Elastic IPs, sessions and counters
    Status(StatusArgs),
    /// List sessions
    ///
    /// One line per session, with the packets and bytes of both directions. Filters are joined by AND; a filter given
    /// several times matches any of its values.
    Flows(Box<FlowsArgs>),
    /// Show what was dropped, by reason, with the latest samples
    Drops(DropsArgs),
    /// Elastic IPs: list them, and add and remove them while the gateway runs
    #[command(subcommand)]
    Eip(EipVerb),
    /// Network ACLs
    #[command(subcommand)]
    Nacl(NaclVerb),
    /// Route tables
    #[command(subcommand)]
    Route(RouteVerb),
    /// Measure the data plane on this host: nanoseconds per packet
    ///
    /// Loads a data plane of its own, with a configuration of its own (NACLs of 100 rules), and runs it on packets in
    /// memory, beside an empty XDP program and one that only forwards; and says what that means for line rate: both
    /// directions, established and new sessions. A running gateway is not disturbed, apart from the processor time.
    Bench(BenchArgs),
    /// Take the data plane off: programs, links and maps
    ///
    /// Detaches every interface, removes what is pinned and the Elastic IPs that natgw added. A running controller ends
    /// first. All sessions end, and packets are no longer translated. Exit code 1 says that nothing was attached.
    Detach,
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print the man page, or write one for every verb
    Man(ManArgs),
}

/// `natgw check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  natgw check natgw.toml
  natgw check natgw.toml --json | jq .warnings

Exit codes:
  0  the configuration is valid; there may be warnings
  2  it is not: every problem is one line on stderr, `file:line: object: what is wrong; what to write instead`")]
pub struct CheckArgs {
    /// The configuration file
    pub file: PathBuf,
    /// Print JSON: {"valid", "problems", "warnings", "config"}
    #[arg(long)]
    pub json: bool,
}

/// `natgw config`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print a configuration that documents every field
    #[command(after_help = "Example:\n  natgw config sample > natgw.toml")]
    Sample,
}

/// `natgw completions`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  natgw completions bash > /etc/bash_completion.d/natgw")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `natgw man`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  natgw man | man -l -\n  natgw man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The directory to write the pages to; natgw(1) is printed without one
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
