//! `natgw eip`.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};

use super::ListArgs;
use crate::{api::DrainTime, config::Arp, report::FlowProtocol};

/// `natgw eip`
#[derive(Clone, Debug, Subcommand)]
pub enum EipVerb {
    /// List Elastic IPs with their NAT gateway, state, sessions and ports
    ///
    /// Ports are counted per protocol; one port serves many destinations at once, so there may be more sessions.
    ///
    /// JSON: an array of {address, nat_gateway, arp, state, seconds_left, sessions, ports_used, ports}; state is in_use,
    /// draining or unused (no NAT gateway's), and seconds_left is null unless it is draining.
    List(ListArgs),
    /// Take an Elastic IP into use while the gateway runs
    ///
    /// New sessions may get it at once. One that drains is taken back, with its sessions. A running controller is needed.
    /// The configuration file stays as it is: what to write into it is told.
    Add(EipAddArgs),
    /// Take an Elastic IP out of use: it drains, then it is withdrawn
    ///
    /// While it drains, its sessions go on and new ones get other addresses. It is withdrawn when its time is up, which
    /// ends the sessions that are left on it and no others, or when none is left. Given again, the time begins anew. The
    /// last address that a NAT gateway lends to new sessions cannot be removed. A running controller is needed. The
    /// configuration file stays as it is: what to write into it is told.
    Remove(EipRemoveArgs),
    /// Tell which private host has a port of an Elastic IP
    ///
    /// Where the NAT gateway lends blocks of ports, the host that holds the block, or the one that it is computed for;
    /// elsewhere the hosts with a session on the port now. No controller is needed.
    Who(EipWhoArgs),
}

/// `natgw eip who`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw eip who 203.0.113.10 --port 40123
  natgw eip who 203.0.113.10 --port 40123 --protocol udp --json

JSON: an array of objects:
  host, vpc, by (block, computed or session), first_port, last_port;
  of a session also protocol, host_port, destination, destination_port, which are null otherwise

Exit codes:
  0  somebody has it
  1  nobody has it, or no gateway runs
  2  failure or bad input")]
pub struct EipWhoArgs {
    /// The Elastic IP
    pub address: Ipv4Addr,

    /// The external port; of ICMP queries the identifier
    #[arg(long)]
    pub port: u16,

    /// Only sessions of this protocol
    #[arg(long, value_enum)]
    pub protocol: Option<FlowProtocol>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `natgw eip add`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw eip add 203.0.113.11
  natgw eip add 203.0.113.11 --nat-gateway nat-a --arp routed --ports 1024-32767

JSON: one object:
  address, nat_gateway, state (in_use), seconds_left (null), generation, to_keep (what to write into the configuration)

Exit codes:
  0  done
  1  no controller runs, or it refuses, and nothing has changed
  2  failure or bad input")]
pub struct EipAddArgs {
    /// The address
    pub address: Ipv4Addr,

    /// The NAT gateway that uses it; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    pub nat_gateway: Option<String>,

    /// How packets to it reach this host [default: announce]
    #[arg(long, value_enum)]
    pub arp: Option<Arp>,

    /// The ports that sessions may use, one number or FIRST-LAST [default: 1024-65535]
    #[arg(long, value_name = "PORTS")]
    pub ports: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `natgw eip remove`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw eip remove 203.0.113.11
  natgw eip remove 203.0.113.11 --drain 1h
  natgw eip remove 203.0.113.11 --now

JSON: one object:
  address, nat_gateway, state (draining or removed), seconds_left, generation,
  to_keep (what to write into the configuration)

Exit codes:
  0  done, or begun
  1  no controller runs, or it refuses, and nothing has changed
  2  failure or bad input")]
pub struct EipRemoveArgs {
    /// The address
    pub address: Ipv4Addr,

    /// How long its sessions may go on: seconds, or a time as in 350s [default: the configuration's `drain`, 350s]
    #[arg(long, value_name = "TIME", conflicts_with = "now")]
    pub drain: Option<DrainTime>,

    /// End its sessions at once
    #[arg(long)]
    pub now: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
