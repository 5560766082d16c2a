//! What the model knows of the network and of the configuration.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::datapath::{
    ELASTIC_IP, EXTERNAL_ADDRESS, HOST, HOST_B, INTERNAL_ADDRESS, INTERNAL_B_ADDRESS, INTERNAL_IPV6,
    NEIGHBOUR, ROUTER, SECOND_HOST, Side, UNREACHABLE, VLAN_ADDRESS, WRONG_WAY,
};

/// Addresses that begin with the same bits.
pub type Network = (Ipv4Addr, u32);

/// One rule of a NACL; the first that speaks of a packet decides.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether it allows.
    pub allow: bool,
    /// The protocol it speaks of; `None`: all.
    pub protocol: Option<u8>,
    /// The far side's addresses.
    pub network: Network,
    /// First and last destination port; only TCP and UDP have any.
    pub ports: (u16, u16),
}

/// A stateless list per direction; what no rule speaks of is denied.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    /// Out of the subnet.
    pub outbound: Vec<Rule>,
    /// Into the subnet.
    pub inbound: Vec<Rule>,
}

/// A private subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its addresses.
    pub network: Network,
    /// Its interface.
    pub side: Side,
    /// Its NACL; `None`: everything is allowed.
    pub acl: Option<Acl>,
}

/// An Elastic IP and the ports that are lent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElasticIp {
    /// The address.
    pub address: Ipv4Addr,
    /// First and last port.
    pub ports: (u16, u16),
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Through the NAT gateway.
    Gateway,
    /// To another subnet.
    Local,
    /// Nowhere.
    Blackhole,
}

/// Idle timeouts in ticks of the clock.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP that can carry data.
    pub established: u64,
    /// TCP before its handshake is complete.
    pub transitory: u64,
    /// TCP that has been closed or reset.
    pub closing: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP queries.
    pub icmp: u64,
}

/// What comes in to an external endpoint that its internal endpoint did not ask for (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Nothing.
    ByEndpoint,
    /// What comes from an address that it has a session with.
    ByAddress,
    /// Everything.
    Nothing,
}

/// A way that leads nowhere, and the code by which a private host is told, if it is.
#[derive(Clone, Copy, Debug)]
pub struct DeadEnd {
    /// The drop reason.
    pub reason: &'static str,
    /// The code of "destination unreachable".
    pub code: Option<u8>,
}

const NOWHERE: DeadEnd = DeadEnd { reason: "unreachable", code: Some(0) };
/// Nobody has asked for the neighbour's address before.
const SILENT: DeadEnd = DeadEnd { reason: "no_neighbour", code: None };

/// A configuration, on the network that rigs stand in.
#[derive(Clone, Debug)]
pub struct World {
    /// The private subnets, which all have the same routes.
    pub subnets: Vec<Subnet>,
    /// The NAT gateway's Elastic IPs.
    pub elastic_ips: Vec<ElasticIp>,
    /// The NACL of its subnet.
    pub public: Option<Acl>,
    /// The route table.
    pub routes: Vec<(Network, Target)>,
    /// The idle timeouts.
    pub timeouts: Timeouts,
    /// With mappings that do not depend on the remote: what comes in by them.
    pub independent: Option<Filtering>,
}

/// Whether `address` is in `network`.
fn contains((network, bits): Network, address: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    (u32::from(network) ^ u32::from(address)) & mask == 0
}

/// Whether a list lets a packet pass whose far side is `far`, addressed to `port`.
pub fn allows(rules: &[Rule], protocol: u8, far: Ipv4Addr, port: u16) -> bool {
    let speaks = |rule: &&Rule| {
        let with_ports = protocol == 6 || protocol == 17;
        rule.protocol.is_none_or(|named| named == protocol)
            && contains(rule.network, far)
            && (!with_ports || (rule.ports.0..=rule.ports.1).contains(&port))
    };
    rules.iter().find(speaks).is_some_and(|rule| rule.allow)
}

impl World {
    /// Whether packets to `address` are for the gateway's host: its own addresses, and what is sent to all or many.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        const LINKS: [Ipv4Addr; 5] = [
            INTERNAL_ADDRESS,
            INTERNAL_B_ADDRESS,
            VLAN_ADDRESS,
            EXTERNAL_ADDRESS,
            Ipv4Addr::new(172, 31, 0, 1),
        ];
        let directed = |link: &Ipv4Addr| address == Ipv4Addr::from(u32::from(*link) | 0xff);
        address.is_multicast()
            || address.is_broadcast()
            || LINKS.contains(&address)
            || LINKS.iter().any(directed)
    }

    /// Whether IPv6 to this address goes to the host: its own, and what stays on the link.
    pub fn is_host_ipv6(&self, address: [u8; 16]) -> bool {
        let address = Ipv6Addr::from(address);
        address == INTERNAL_IPV6 || address.is_multicast() || address.is_unicast_link_local()
    }

    /// Whether `address` is an Elastic IP.
    pub fn is_elastic(&self, address: Ipv4Addr) -> bool {
        self.elastic_ips.iter().any(|elastic_ip| elastic_ip.address == address)
    }

    /// The subnet of a private address.
    pub fn subnet(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| contains(subnet.network, address))
    }

    /// Where the longest route that matches leads.
    pub fn route(&self, destination: Ipv4Addr) -> Option<Target> {
        let matching = self.routes.iter().filter(|(network, _)| contains(*network, destination));
        matching.max_by_key(|((_, bits), _)| *bits).map(|(_, target)| *target)
    }

    /// The host's own way to an address outside: the next hop, which stands on the external link.
    pub fn way_out(&self, destination: Ipv4Addr) -> Result<Ipv4Addr, DeadEnd> {
        match destination {
            // By a route that says so.
            UNREACHABLE => Err(DeadEnd { reason: "unreachable", code: Some(1) }),
            // The one is the host's own address by its routing table, the other is behind a private interface.
            WRONG_WAY | ELASTIC_IP => Err(NOWHERE),
            ROUTER => Ok(ROUTER),
            on_link if contains((NEIGHBOUR, 24), on_link) => Err(SILENT),
            // No private host is reached through the outside.
            private if private.octets()[..2] == [10, 0] => Err(NOWHERE),
            _ => Ok(ROUTER),
        }
    }

    /// The host's own way to a private host.
    pub fn way_in(&self, destination: Ipv4Addr) -> Result<Side, DeadEnd> {
        match destination {
            HOST | SECOND_HOST => Ok(Side::Internal),
            HOST_B => Ok(Side::InternalB),
            // Whoever sends from the address of all is not answered.
            broadcast if broadcast.octets()[3] == 255 => Err(NOWHERE),
            _ => Err(SILENT),
        }
    }

    /// The gateway's own address on a link, which its ICMP errors come from.
    pub fn own(&self, side: Side) -> Option<Ipv4Addr> {
        match side {
            Side::Internal => Some(INTERNAL_ADDRESS),
            Side::InternalB => Some(INTERNAL_B_ADDRESS),
            Side::External => Some(EXTERNAL_ADDRESS),
            Side::Unconfigured | Side::Nic => None,
        }
    }
}
