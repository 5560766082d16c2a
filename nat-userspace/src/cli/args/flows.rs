//! `natgw flows`.

use std::net::Ipv4Addr;

use clap::{Args, ValueEnum};
use ipnet::{AddrParseError, Ipv4Net};

/// `natgw flows`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw flows --source 10.0.1.5
  natgw flows --destination 192.0.2.0/24 --port 443 --state established
  natgw flows --sort bytes --reverse --limit 10 --watch
  natgw flows --elastic-ip 203.0.113.10 --json | jq length

JSON: an array with one object per session:
  protocol, vpc, source, source_port, elastic_ip, elastic_port, destination, destination_port, nat_gateway, state,
  age_seconds, idle_seconds, expires_seconds, packets_out, bytes_out, packets_in, bytes_in
ICMP queries have their identifier as both source and elastic port.

Exit codes:
  0  listed, even if no session matches
  1  nothing is running
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

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Which sessions.
    #[command(flatten)]
    pub filter: FlowFilter,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FlowFilter {
    /// Private hosts: an address or a CIDR
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = network)]
    pub source: Vec<Ipv4Net>,

    /// Remote hosts: an address or a CIDR
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = network)]
    pub destination: Vec<Ipv4Net>,

    /// Ports of private hosts
    #[arg(long, value_name = "PORT")]
    pub source_port: Vec<u16>,

    /// Ports of remote hosts
    #[arg(long, value_name = "PORT")]
    pub destination_port: Vec<u16>,

    /// Ports of either side
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,

    /// Protocols
    #[arg(long, value_enum)]
    pub protocol: Vec<FlowProtocol>,

    /// Elastic IPs
    #[arg(long, value_name = "ADDRESS")]
    pub elastic_ip: Vec<Ipv4Addr>,

    /// How far the conversation has got
    #[arg(long, value_enum)]
    pub state: Vec<FlowState>,

    /// NAT gateways
    #[arg(long, value_name = "NAME")]
    pub nat_gateway: Vec<String>,

    /// VPCs
    #[arg(long, value_name = "NAME")]
    pub vpc: Vec<String>,
}

/// A protocol that is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlowProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP queries
    Icmp,
}

/// How far a session has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum FlowState {
    /// TCP before the handshake is complete
    Opening,
    /// TCP with data in both directions
    Established,
    /// TCP after one side's FIN
    #[value(alias = "half-closed")]
    HalfClosed,
    /// TCP after both sides' FIN, or a RST
    Closing,
    /// UDP and ICMP, which have no states
    Active,
}

/// What sessions are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlowSort {
    /// Source address and port
    #[default]
    Source,
    /// Destination address and port
    Destination,
    /// Seconds since the first packet
    Age,
    /// Seconds since the last packet
    Idle,
    /// Packets of both directions
    Packets,
    /// Bytes of both directions
    Bytes,
}

/// An address stands for itself; host bits of a CIDR are ignored.
fn network(text: &str) -> Result<Ipv4Net, AddrParseError> {
    text.parse().map(Ipv4Addr::into).or_else(|_| text.parse().map(|network: Ipv4Net| network.trunc()))
}
