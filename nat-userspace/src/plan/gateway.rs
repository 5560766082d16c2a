//! NAT gateways: the Elastic IPs and ports that each is lent, and who gets which.

use std::{collections::BTreeMap, net::Ipv4Addr};

use nat_common::{
    config::Role,
    flow::raw,
    mapping::filtering,
    pool::{Choice, ElasticIp, Gateway, Lent, PortRange, strategy},
};

use super::{Plan, PlanError, find, is_shared, number_of, ports};
use crate::{
    config::{self, Arp, Behaviour, Config, Filtering, Mapping, MssClamp, PortLess, Strategy},
    host::HostFacts,
    ports::Ports,
};

impl Plan {
    pub(super) fn add_gateways(&mut self, config: &Config, facts: &HostFacts) -> Result<(), PlanError> {
        for gateway in &config.nat_gateways {
            let Some(subnet) = config.subnet(&gateway.subnet) else { continue };
            let interface = find(facts, &subnet.interface)?;
            self.role(interface, facts).flags |= Role::EXTERNAL;
            let number = self.gateways.len() as u16;
            let mut ports = BTreeMap::new();
            for elastic_ip in gateway.elastic_ips.iter().filter_map(|address| config.elastic_ip(*address)) {
                let address = elastic_ip.address;
                let shared = u16::from(is_shared(address, facts));
                ports.insert(address, self.lent_ports(elastic_ip, facts)?);
                self.elastic_ips.insert(raw(address), ElasticIp { gateway: number, shared });
                if elastic_ip.arp == Arp::Announce {
                    self.announced.push((interface.index, address));
                }
            }
            let Choice { first, count } = self.lend_all(gateway.common_elastic_ips(), &ports);
            for source in &gateway.sources {
                let choice = self.lend_all(source.elastic_ips.iter().copied(), &ports);
                self.sources.push((number, source.cidr, choice));
            }
            if gateway.strategy == Strategy::LeastUsed {
                self.counted.extend(gateway.elastic_ips.iter().map(|address| raw(*address)));
            }
            self.gateways.push(Gateway {
                first,
                count,
                nacl: number_of(&config.nacls, |nacl| nacl.name == subnet.nacl),
                flags: flags(gateway),
                rss: 0,
                ifindex: interface.index,
                strategy: number_of_strategy(gateway.strategy),
                filtering: number_of_filtering(gateway.behaviour.filtering),
                spare: [0; 2],
                mss: mss(gateway.mss_clamp),
                port_less: port_less(&gateway.port_less),
                spare_end: 0,
            });
        }
        Ok(())
    }

    /// Lends these Elastic IPs, with these ports, as one choice.
    fn lend_all(
        &mut self,
        addresses: impl Iterator<Item = Ipv4Addr>,
        ports: &BTreeMap<Ipv4Addr, Ports>,
    ) -> Choice {
        let first = self.lent.len() as u32;
        for address in addresses {
            if let Some(ports) = ports.get(&address) {
                self.lend(raw(address), ports);
            }
        }
        Choice { first, count: self.lent.len() as u32 - first }
    }

    /// Lends these ports of `address`, which is in network order.
    fn lend(&mut self, address: u32, ports: &Ports) {
        let first = self.pool.len() as u32;
        let ranges = ports.ranges();
        self.lent.push(Lent { address, first, count: ranges.len() as u32, ports: ports.count() });
        self.pool.extend(ranges.iter().map(|&(first, last)| PortRange { first, last }));
    }

    /// The ports of `elastic_ip` that sessions may use on this host.
    fn lent_ports(&mut self, elastic_ip: &config::ElasticIp, facts: &HostFacts) -> Result<Ports, PlanError> {
        let Some(host) = facts.ports.as_ref().filter(|_| is_shared(elastic_ip.address, facts)) else {
            return Ok(elastic_ip.usable_ports());
        };
        let shared = ports::spare(elastic_ip, host)?;
        let ports = shared.ports.clone();
        self.shared.push(shared);
        Ok(ports)
    }
}

fn flags(gateway: &config::NatGateway) -> u8 {
    let both_sides = if gateway.nacl_both_sides { Gateway::NACL_BOTH_SIDES } else { 0 };
    let by_source = if gateway.sources.is_empty() { 0 } else { Gateway::BY_SOURCE };
    let Behaviour { mapping, overload, port_parity, .. } = gateway.behaviour;
    let independent = match mapping {
        Mapping::AddressAndPortDependent => 0,
        Mapping::EndpointIndependent => Gateway::ENDPOINT_INDEPENDENT,
    };
    let overload = if overload { Gateway::OVERLOAD } else { 0 };
    let parity = if port_parity { Gateway::PARITY } else { 0 };
    both_sides | by_source | independent | overload | parity
}

/// The filtering as the data plane knows it.
const fn number_of_filtering(chosen: Filtering) -> u8 {
    match chosen {
        Filtering::AddressAndPortDependent => filtering::BY_ENDPOINT,
        Filtering::AddressDependent => filtering::BY_ADDRESS,
        Filtering::EndpointIndependent => filtering::NONE,
    }
}

/// The protocols without ports as the data plane knows them.
fn port_less(protocols: &[PortLess]) -> u8 {
    let bit = |protocol: &PortLess| match protocol {
        PortLess::Gre => Gateway::GRE,
        PortLess::Esp => Gateway::ESP,
    };
    protocols.iter().map(bit).fold(0, |bits, bit| bits | bit)
}

/// The limit of the MSS as the data plane knows it.
const fn mss(clamp: MssClamp) -> u16 {
    match clamp {
        MssClamp::Off => 0,
        MssClamp::Auto => Gateway::MSS_OF_PATH,
        MssClamp::Bytes(most) => most,
    }
}

/// The strategy as the data plane knows it.
const fn number_of_strategy(chosen: Strategy) -> u8 {
    match chosen {
        Strategy::Paired => strategy::PAIRED,
        Strategy::Hash => strategy::HASH,
        Strategy::RoundRobin => strategy::ROUND_ROBIN,
        Strategy::LeastUsed => strategy::LEAST_USED,
    }
}
