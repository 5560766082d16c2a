//! NAT gateways and their Elastic IPs.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Behaviour, PerHost};
use crate::ports::Ports;

/// An external address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElasticIp {
    /// The address that the outside sees.
    pub address: Ipv4Addr,
    /// How packets to it reach this host.
    pub arp: Arp,
    /// Ports that sessions may use; `None`: 1024 to 65535, less what the host uses itself where it shares the address.
    #[serde(default)]
    pub ports: Option<Ports>,
    /// Ports that sessions never use.
    #[serde(default)]
    pub reserved_ports: Ports,
}

impl ElasticIp {
    /// Ports that sessions may use toward each destination, as far as the configuration alone says.
    #[must_use]
    pub fn usable_ports(&self) -> Ports {
        let ports = self.ports.clone().unwrap_or_else(|| Ports::range(DEFAULT_PORTS.0, DEFAULT_PORTS.1));
        ports.without(&self.reserved_ports)
    }
}

/// Ports of an Elastic IP where the configuration names none.
pub(super) const DEFAULT_PORTS: (u16, u16) = (1024, 65535);

/// How packets to an Elastic IP reach this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Arp {
    /// The address is added to the external interface, so that the kernel answers ARP for it
    #[default]
    Announce,
    /// The upstream router has a route for the address to this host
    Routed,
}

/// What translates private sources to Elastic IPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// Unique among NAT gateways; never `local` or `blackhole`.
    pub name: String,
    /// The public subnet it lives in.
    pub subnet: String,
    /// Its Elastic IPs, at least one.
    pub elastic_ips: Vec<Ipv4Addr>,
    /// Whether the subnet's NACL is also asked where traffic crosses to and from the private subnets.
    pub nacl_both_sides: bool,
    /// With which of its Elastic IPs a session begins to look for a port.
    #[serde(default)]
    pub strategy: Strategy,
    /// How it maps and filters.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// Sources with Elastic IPs of their own.
    #[serde(default)]
    pub sources: Vec<OwnElasticIps>,
    /// Protocols without ports that it translates: each toward one remote for one host on an Elastic IP.
    #[serde(default)]
    pub port_less: Vec<PortLess>,
    /// What the MSS of TCP connections may be at most.
    #[serde(default)]
    pub mss_clamp: MssClamp,
    /// What one internal host may take.
    #[serde(default)]
    pub per_host: PerHost,
}

impl NatGateway {
    /// The Elastic IPs of whoever has none of their own.
    pub fn common_elastic_ips(&self) -> impl Iterator<Item = Ipv4Addr> {
        let own = |address: &Ipv4Addr| self.sources.iter().any(|source| source.elastic_ips.contains(address));
        self.elastic_ips.iter().copied().filter(move |address| !own(address))
    }
}

/// With which of a NAT gateway's Elastic IPs a session begins to look for a port; the others follow if that one has none
/// left toward the destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the private host, which keeps its Elastic IP whatever it talks to
    #[default]
    Paired,
    /// By private host and destination
    Hash,
    /// One after the other
    RoundRobin,
    /// The one with the fewest sessions
    LeastUsed,
}

/// A protocol without ports that can be translated. Its sessions are those of addresses alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortLess {
    /// Generic routing encapsulation, protocol 47.
    Gre,
    /// IPsec's encapsulating security payload, protocol 50.
    Esp,
}

/// What the MSS that both ends of a TCP connection announce may be at most. It is only ever lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MssClamp {
    /// Whatever they say.
    #[default]
    Off,
    /// What fits the MTU of the path, on either side of the gateway.
    Auto,
    /// So many bytes.
    Bytes(u16),
}

/// Private hosts with Elastic IPs of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnElasticIps {
    /// The hosts; the longest prefix decides.
    pub cidr: Ipv4Net,
    /// Their Elastic IPs, at least one; nobody else's.
    pub elastic_ips: Vec<Ipv4Addr>,
}
