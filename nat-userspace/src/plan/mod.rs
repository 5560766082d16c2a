//! The desired state: what the maps of the data plane hold for a configuration on this host. Pure.

mod blocks;
mod burst;
mod drain;
mod gateway;
mod nacl;
mod per_host;
mod ports;
mod rss;
mod timeouts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use nat_common::{
    block::{Position, Rules},
    config::{self as map, Role},
    flow::{MAX_IFINDEX, raw},
    host::Limits,
    nacl::MAX_PORT_RANGES,
    pool::{Choice, ElasticIp, Gateway, Lent, MAX_RANGES, PortRange},
    route::{self, Target},
    rss::Rss,
};
use thiserror::Error;

pub use blocks::{PlannedBlocks, addresses};
pub use burst::Bursts;
pub use drain::{Draining, draining};
pub use nacl::CompiledNacls;
pub use ports::SharedAddress;
pub use rss::SameQueue;
pub use timeouts::timeouts;

use crate::{
    config::{self, Config, IdleReset},
    host::{HostFacts, HostInterface},
};

/// Interface indexes that the data plane's table of interfaces covers.
pub const MAX_INTERFACES: u32 = 65_536;

/// Why a configuration cannot be put into force on this host.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The configuration names an interface that the host does not have.
    #[error("interface {name} does not exist; this host has {}; name one of these or create it first", .existing.join(", "))]
    MissingInterface {
        /// The interface named.
        name: String,
        /// Those that exist.
        existing: Vec<String>,
    },
    /// The interface's index does not fit the table of interfaces.
    #[error(
        "interface {name} has index {index}, and the data plane takes indexes below {MAX_INTERFACES}; create the interface anew after a reboot"
    )]
    IndexTooLarge {
        /// The interface.
        name: String,
        /// Its index.
        index: u32,
    },
    /// The NACLs' rules overlap in more ways than the data plane has room for.
    #[error(
        "the NACLs compile to {ranges} port ranges, and the data plane takes {MAX_PORT_RANGES}; use fewer rules, or fewer different port ranges on nested CIDRs"
    )]
    NaclsTooLarge {
        /// How many it would take.
        ranges: usize,
    },
    /// The host uses ports of an address that it shares, and blocks of them would be computed.
    #[error(
        "elastic ip {address} is the host's own address, and blocks of ports that the host uses cannot be computed; name ports for it that the host leaves alone, or leave out deterministic"
    )]
    ComputedBlocks {
        /// The address.
        address: Ipv4Addr,
    },
    /// The host uses every port of an address that it shares.
    #[error(
        "elastic ip {address} is the host's own address, and the host uses all its ports itself; name ports for it, or narrow net.ipv4.ip_local_port_range"
    )]
    NoPorts {
        /// The Elastic IP.
        address: Ipv4Addr,
    },
    /// The Elastic IPs' ports are divided into more ranges than the data plane has room for.
    #[error(
        "the elastic ips' ports make {ranges} ranges, and the data plane takes {MAX_RANGES}; write fewer ranges in ports and reserved_ports"
    )]
    TooManyRanges {
        /// How many they would take.
        ranges: usize,
    },
    /// Subnets of two VPCs share an interface.
    #[error(
        "interface {name} carries subnets of the VPCs {first} and {second}; give each VPC interfaces of its own, such as VLANs"
    )]
    TwoVpcs {
        /// The interface.
        name: String,
        /// One VPC.
        first: String,
        /// The other.
        second: String,
    },
}

impl PlanError {
    /// The interface that the error is about.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::MissingInterface { name, .. }
            | Self::IndexTooLarge { name, .. }
            | Self::TwoVpcs { name, .. } => Some(name),
            Self::NaclsTooLarge { .. }
            | Self::NoPorts { .. }
            | Self::TooManyRanges { .. }
            | Self::ComputedBlocks { .. } => None,
        }
    }
}

/// A private subnet, as `SUBNETS` holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSubnet {
    /// The VPC's zone.
    pub zone: u8,
    /// The prefix.
    pub cidr: Ipv4Net,
    /// The value.
    pub value: route::Subnet,
}

/// A route, as `ROUTES4` holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRoute {
    /// The route table's number.
    pub table: u16,
    /// The prefix.
    pub destination: Ipv4Net,
    /// The value.
    pub target: Target,
}

/// What the maps hold, and what the host has to do besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// `CONFIG`.
    pub config: map::Config,
    /// `INTERFACES`, by interface index.
    pub interfaces: BTreeMap<u32, Role>,
    /// `VLANS`: the VLAN device's own index by device and tag.
    pub vlans: BTreeMap<(u32, u16), u32>,
    /// `SUBNETS`.
    pub subnets: Vec<PlannedSubnet>,
    /// `ROUTES4`.
    pub routes: Vec<PlannedRoute>,
    /// `NACLS`, `NACL_PREFIXES` and `NACL_PORTS`.
    pub nacls: CompiledNacls,
    /// `GATEWAYS`.
    pub gateways: Vec<Gateway>,
    /// `SOURCES`: NAT gateway, prefix and the Elastic IPs of its own.
    pub sources: Vec<(u16, Ipv4Net, Choice)>,
    /// Elastic IPs, in network order, whose sessions are counted: `USAGE`.
    pub counted: BTreeSet<u32>,
    /// `LIMITS`, in the order of `gateways`.
    pub limits: Vec<Limits>,
    /// `BLOCK_RULES`, in the order of `gateways`.
    pub block_rules: Vec<Rules>,
    /// `BLOCK_BASES` and `BLOCKS`, by address in network order.
    pub blocks: BTreeMap<u32, PlannedBlocks>,
    /// `POSITIONS`: NAT gateway and prefix.
    pub positions: Vec<(u16, Ipv4Net, Position)>,
    /// `LENT`.
    pub lent: Vec<Lent>,
    /// `POOL`.
    pub pool: Vec<PortRange>,
    /// Elastic IPs that are the host's own addresses too.
    pub shared: Vec<SharedAddress>,
    /// `RSS`.
    pub rss: Vec<Rss>,
    /// `ELASTIC_IPS`, by address in network order.
    pub elastic_ips: BTreeMap<u32, ElasticIp>,
    /// Devices that the program is attached to: for a VLAN, its parent.
    pub devices: BTreeSet<u32>,
    /// Elastic IPs to be added to an interface: interface index and address.
    pub announced: Vec<(u32, Ipv4Addr)>,
    /// External interfaces by index, and whether `same_queue` is in force there; empty if nobody asks for it.
    pub same_queue: BTreeMap<u32, SameQueue>,
}

impl Plan {
    /// What `config` means on a host with these `facts`.
    ///
    /// # Errors
    /// [`PlanError`] where the configuration and the host do not fit.
    pub fn new(config: &Config, facts: &HostFacts) -> Result<Self, PlanError> {
        let nacls = CompiledNacls::new(&config.nacls);
        if nacls.ports.len() > MAX_PORT_RANGES as usize {
            return Err(PlanError::NaclsTooLarge { ranges: nacls.ports.len() });
        }
        let mut plan = Self { config: limits(config), nacls, ..Self::default() };
        plan.add_gateways(config, facts)?;
        if plan.pool.len() > MAX_RANGES as usize {
            return Err(PlanError::TooManyRanges { ranges: plan.pool.len() });
        }
        plan.add_limits(config);
        plan.add_blocks(config)?;
        plan.add_subnets(config, facts)?;
        plan.add_routes(config);
        plan.add_addresses(facts);
        plan.add_mtu(facts);
        if config.same_queue {
            plan.add_rss(facts);
        }
        if config.idle_reset == IdleReset::AtExpiry {
            plan.interfaces.values_mut().for_each(|role| role.flags |= Role::STREAMS);
        }
        if !config.timeouts.inbound_refresh {
            plan.interfaces.values_mut().for_each(|role| role.flags |= Role::OUTBOUND_ALONE);
        }
        Ok(plan)
    }

    fn add_subnets(&mut self, config: &Config, facts: &HostFacts) -> Result<(), PlanError> {
        for subnet in &config.subnets {
            let interface = find(facts, &subnet.interface)?;
            let Some(table) = &subnet.route_table else { continue };
            let zone = number_of(&config.vpcs, |vpc| vpc.name == subnet.vpc) as u8 + 1;
            let role = self.role(interface, facts);
            if role.zone != 0 && role.zone != zone {
                let first = config.vpcs[usize::from(role.zone) - 1].name.clone();
                let second = subnet.vpc.clone();
                return Err(PlanError::TwoVpcs { name: interface.name.clone(), first, second });
            }
            role.zone = zone;
            let value = route::Subnet {
                ifindex: interface.index,
                nacl: number_of(&config.nacls, |nacl| nacl.name == subnet.nacl),
                route_table: number_of(&config.route_tables, |found| found.name == *table),
            };
            self.subnets.push(PlannedSubnet { zone, cidr: subnet.cidr, value });
        }
        Ok(())
    }

    /// The addresses that ICMP errors come from: an interface that serves both sides has one for each.
    fn add_addresses(&mut self, facts: &HostFacts) {
        for (index, role) in &mut self.interfaces {
            let Some(interface) = facts.interface_at(*index) else { continue };
            let subnets = || self.subnets.iter().filter(|subnet| subnet.value.ifindex == *index);
            let is_internal = |found: &&Ipv4Net| subnets().any(|subnet| subnet.cidr.contains(&found.addr()));
            let all = || interface.addresses.iter();
            let raw_of = |found: Option<&Ipv4Net>| found.map_or(0, |found| raw(found.addr()));
            if role.zone != 0 {
                role.internal_address = raw_of(all().find(is_internal).or_else(|| all().next()));
            }
            if role.is_external() {
                role.external_address = raw_of(all().find(|found| !is_internal(found)));
            }
        }
    }

    /// The length up to which packets fit whatever way they take.
    fn add_mtu(&mut self, facts: &HostFacts) {
        let interfaces = self.interfaces.keys().filter_map(|index| facts.interface_at(*index));
        let mtu = interfaces.map(|found| found.mtu).chain(facts.smallest_route_mtu).min();
        for role in self.interfaces.values_mut() {
            role.mtu = mtu.unwrap_or_default();
        }
    }

    fn add_routes(&mut self, config: &Config) {
        for (table, routes) in config.route_tables.iter().enumerate() {
            for route in &routes.routes {
                let target = target(&route.target, config);
                self.routes.push(PlannedRoute {
                    table: table as u16,
                    destination: route.destination,
                    target,
                });
            }
        }
    }

    /// The role of `interface`, begun if this is the first one hears of it.
    fn role(&mut self, interface: &HostInterface, facts: &HostFacts) -> &mut Role {
        let (device, vlan) = match (interface.parent, interface.vlan) {
            (Some(parent), Some(vlan)) if facts.interface_at(parent).is_some() => {
                self.vlans.insert((parent, vlan), interface.index);
                (parent, vlan)
            }
            _ => (interface.index, 0),
        };
        self.devices.insert(device);
        let kind = facts.interface_at(device).and_then(|device| device.driver_kind.as_deref());
        self.interfaces.entry(interface.index).or_insert_with(|| Role {
            flags: if kind == Some("veth") { Role::NO_TRANSMIT } else { 0 },
            device,
            vlan,
            ..Role::default()
        })
    }
}

/// Whether an Elastic IP is the host's own address too.
#[must_use]
pub fn is_shared(elastic_ip: Ipv4Addr, facts: &HostFacts) -> bool {
    facts.locals.contains(&elastic_ip.into())
}

/// The addresses that are the host's own: `LOCALS` follows them whatever the configuration says.
#[must_use]
pub fn locals(facts: &HostFacts) -> BTreeSet<[u8; 16]> {
    // Loopback addresses never come in from a wire (RFC 1812 §5.3.7).
    let own = facts.locals.iter().filter(|address| !address.is_loopback()).map(|address| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    });
    let broadcasts = facts.interfaces.iter().flat_map(|interface| &interface.addresses);
    let broadcasts = broadcasts
        .filter(|network| network.prefix_len() < 31)
        .map(|network| network.broadcast().to_ipv6_mapped().octets());
    own.chain(broadcasts).collect()
}

fn find<'a>(facts: &'a HostFacts, name: &str) -> Result<&'a HostInterface, PlanError> {
    let Some(interface) = facts.interface(name) else {
        let existing = facts.interfaces.iter().map(|interface| interface.name.clone()).collect();
        return Err(PlanError::MissingInterface { name: name.to_owned(), existing });
    };
    let index = interface.index;
    if index >= MAX_INTERFACES || index > MAX_IFINDEX {
        return Err(PlanError::IndexTooLarge { name: name.to_owned(), index });
    }
    Ok(interface)
}

fn limits(config: &Config) -> map::Config {
    map::Config {
        timeouts: timeouts(&config.timeouts),
        icmp_errors_per_second: config.icmp_errors_per_second,
        resets: match config.idle_reset {
            IdleReset::Off => map::Config::NO_RESETS,
            IdleReset::OnSend => map::Config::RESETS_ON_SEND,
            IdleReset::AtExpiry => map::Config::AT_EXPIRY,
        },
        flags: match config.fragments {
            config::Fragments::Translate => 0,
            config::Fragments::Aws => map::Config::UDP_FRAGMENTS_ALONE,
        },
    }
}

fn target(target: &config::Target, config: &Config) -> Target {
    match target {
        config::Target::Blackhole => Target { kind: Target::BLACKHOLE, gateway: 0 },
        config::Target::Local => Target { kind: Target::LOCAL, gateway: 0 },
        config::Target::NatGateway(name) => Target {
            kind: Target::NAT_GATEWAY,
            gateway: number_of(&config.nat_gateways, |gateway| gateway.name == *name),
        },
    }
}

/// The position of an object; a valid configuration holds every object that it names.
fn number_of<T>(objects: &[T], is_it: impl Fn(&T) -> bool) -> u16 {
    objects.iter().position(is_it).unwrap_or_default() as u16
}

#[cfg(test)]
mod tests;
