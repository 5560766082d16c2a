//! `natgw flows`.

use clap::Args;

use crate::report::{FlowFilter, FlowSort};

/// `natgw flows`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw flows --source 10.0.1.5
  natgw flows --destination 192.0.2.0/24 --port 443 --state established
  natgw flows --sort bytes --reverse --limit 10 --watch
  natgw flows --elastic-ip 203.0.113.10 --json | jq length
  natgw flows --mappings

JSON: an array with one object per session:
  protocol, vpc, source, source_port, elastic_ip, elastic_port, destination, destination_port, nat_gateway, state,
  age_seconds, idle_seconds, expires_seconds, packets_out, bytes_out, packets_in, bytes_in
ICMP queries have their identifier as both source and elastic port.
With --mappings, one object per mapping:
  protocol, vpc, source, source_port, elastic_ip, elastic_port, nat_gateway, sessions, age_seconds

Exit codes:
  0  listed, even if no session matches
  1  nothing is running, or a filter names a VPC, NAT gateway or Elastic IP that does not exist
  2  failure or bad input")]
pub struct FlowsArgs {
    /// What to sort by, lowest first
    #[arg(long, value_enum, default_value_t)]
    pub sort: FlowSort,

    /// Highest first
    #[arg(long)]
    pub reverse: bool,

    /// Show at most this many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    /// Show again every so many seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", conflicts_with = "json")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub watch: Option<u32>,

    /// Show mappings that do not depend on the remote instead, and what keeps them
    #[arg(long, conflicts_with_all = ["sort", "reverse", "limit", "FlowFilter"])]
    pub mappings: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which sessions.
    #[command(flatten)]
    pub filter: FlowFilter,
}
