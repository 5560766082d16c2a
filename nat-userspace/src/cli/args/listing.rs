//! The verbs that show and list: `status`, `drops`, `nacl`, `route`.

use clap::{Args, Subcommand};

/// `natgw status`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw status
  natgw status --watch 5
  natgw status --json | jq .sessions

JSON: one object:
  generation, controller {running, pid}, sessions, max_sessions, interfaces [{name, index, roles, mode, why}],
  nat_gateways [{name, subnet, elastic_ips [{address, state, seconds_left, sessions, ports_used}]}],
  counters {name: n}, drops_total, flow_table {used, capacity}
The state of an Elastic IP is in_use or draining; seconds_left is null unless it is draining.

Exit codes:
  0  shown
  1  nothing is running
  2  failure or bad input")]
pub struct StatusArgs {
    /// Show again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", conflicts_with = "json")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub watch: Option<u32>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `natgw drops`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw drops
  natgw drops --all
  natgw drops --watch

JSON: an array with one object per reason:
  reason, description, packets, per_second,
  latest {source, source_port, destination, destination_port, protocol, interface, length, seconds_ago} or null
The most frequent reason comes first. What could not be read of the latest packet is zero.

Rates are measured over a quarter of a second while you wait; with --watch, since the time before.

Exit codes:
  0  shown, even if nothing was dropped
  1  nothing is running
  2  failure or bad input")]
pub struct DropsArgs {
    /// Show the reasons that never occurred, too
    #[arg(long)]
    pub all: bool,

    /// Show again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", conflicts_with = "json")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub watch: Option<u32>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `natgw eip list` and its like
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  listed
  1  nothing is running
  2  failure or bad input")]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `natgw nacl`
#[derive(Clone, Debug, Subcommand)]
pub enum NaclVerb {
    /// List the rules of every NACL in the order they are asked
    ///
    /// JSON: an array of {nacl, direction, rule, action, protocol, cidr, ports}; the rule `*` at the end of each list is
    /// 32767.
    List(ListArgs),
}

/// `natgw route`
#[derive(Clone, Debug, Subcommand)]
pub enum RouteVerb {
    /// List the routes of every route table
    ///
    /// JSON: an array of {route_table, destination, target, state}; state is active or blackhole.
    List(ListArgs),
}
