//! NAT gateways: the Elastic IPs and ports that each is lent, and who gets which.

use nat_common::{
    config::Role,
    flow::raw,
    pool::{Choice, ElasticIp, Gateway, Lent, PortRange, strategy},
};

use super::{Plan, PlanError, find, number_of};
use crate::{
    config::{self, Arp, Config, Strategy},
    host::HostFacts,
};

impl Plan {
    pub(super) fn add_gateways(&mut self, config: &Config, facts: &HostFacts) -> Result<(), PlanError> {
        for gateway in &config.nat_gateways {
            let Some(subnet) = config.subnet(&gateway.subnet) else { continue };
            let interface = find(facts, &subnet.interface)?;
            self.role(interface, facts).flags |= Role::EXTERNAL;
            let number = self.gateways.len() as u16;
            for elastic_ip in gateway.elastic_ips.iter().filter_map(|address| config.elastic_ip(*address)) {
                let shared = u16::from(facts.locals.contains(&elastic_ip.address.into()));
                self.elastic_ips.insert(raw(elastic_ip.address), ElasticIp { gateway: number, shared });
                if elastic_ip.arp == Arp::Announce {
                    self.announced.push((interface.index, elastic_ip.address));
                }
            }
            let common: Vec<_> = gateway.common_elastic_ips().collect();
            let Choice { first, count } = self.lend_all(config, &common);
            for source in &gateway.sources {
                let choice = self.lend_all(config, &source.elastic_ips);
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
                spare: [0; 3],
            });
        }
        Ok(())
    }

    /// Lends these Elastic IPs as one choice.
    fn lend_all(&mut self, config: &Config, addresses: &[std::net::Ipv4Addr]) -> Choice {
        let first = self.lent.len() as u32;
        for elastic_ip in addresses.iter().filter_map(|address| config.elastic_ip(*address)) {
            let range = PortRange { first: elastic_ip.first_port, last: elastic_ip.last_port };
            self.lend(raw(elastic_ip.address), &[range]);
        }
        Choice { first, count: self.lent.len() as u32 - first }
    }

    /// Lends the ports of these ranges of `address`, which is in network order.
    fn lend(&mut self, address: u32, ranges: &[PortRange]) {
        let first = self.pool.len() as u32;
        let ports = ranges.iter().map(|range| u32::from(range.last - range.first) + 1).sum();
        self.lent.push(Lent { address, first, count: ranges.len() as u32, ports });
        self.pool.extend_from_slice(ranges);
    }
}

fn flags(gateway: &config::NatGateway) -> u8 {
    let both_sides = if gateway.nacl_both_sides { Gateway::NACL_BOTH_SIDES } else { 0 };
    let by_source = if gateway.sources.is_empty() { 0 } else { Gateway::BY_SOURCE };
    both_sides | by_source
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
