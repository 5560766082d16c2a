//! Blocks of ports: what each NAT gateway lends, and where hosts whose blocks are computed stand.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use nat_common::{
    block::{Base, Position, Rules},
    flow::raw,
    pool::Gateway,
};

use super::{Plan, PlanError};
use crate::{
    config::{Blocks, Config, NatGateway},
    ports::Ports,
};

impl Plan {
    /// The blocks of the NAT gateways added by now.
    pub(super) fn add_blocks(&mut self, config: &Config) -> Result<(), PlanError> {
        for (number, gateway) in config.nat_gateways.iter().enumerate() {
            let Some(blocks) = gateway.per_host.blocks else {
                self.block_rules.push(Rules::default());
                continue;
            };
            self.block_rules.push(Rules { size: blocks.size.into(), max: blocks.max.into() });
            let deterministic = if blocks.deterministic { Gateway::DETERMINISTIC } else { 0 };
            if let Some(planned) = self.gateways.get_mut(number) {
                planned.flags |= Gateway::BLOCKS | deterministic;
            }
            for elastic_ip in gateway.elastic_ips.iter().filter_map(|address| config.elastic_ip(*address)) {
                let address = raw(elastic_ip.address);
                let numbers = blocks.numbers(&self.lent_ports_of(address));
                if blocks.deterministic && numbers != blocks.numbers(&elastic_ip.usable_ports()) {
                    return Err(PlanError::ComputedBlocks { address: elastic_ip.address });
                }
                self.blocks.insert(address, PlannedBlocks { size: blocks.size, numbers });
            }
            if blocks.deterministic {
                let positions = config.positions(gateway).into_iter();
                self.positions.extend(positions.map(|(network, first)| {
                    let position = Position { network: network.network().into(), first };
                    (number as u16, network, position)
                }));
            }
        }
        Ok(())
    }

    /// The ports lent of an Elastic IP, which is in network order.
    fn lent_ports_of(&self, address: u32) -> Ports {
        let lent = self.lent.iter().filter(|lent| lent.address == address);
        let ranges =
            lent.flat_map(|lent| self.pool.iter().skip(lent.first as usize).take(lent.count as usize));
        ranges.fold(Ports::NONE, |ports, range| ports.with(&Ports::range(range.first, range.last)))
    }
}

/// The blocks of an Elastic IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBlocks {
    /// Ports of each.
    pub size: u16,
    /// Their numbers, which times the size are their first ports.
    pub numbers: BTreeSet<u32>,
}

impl PlannedBlocks {
    /// The value of `BLOCK_BASES`, without a place: it spans the blocks that there are none of in between.
    #[must_use]
    pub fn base(&self) -> Base {
        let first = self.numbers.first().copied().unwrap_or_default();
        let count = self.numbers.last().map_or(0, |last| last - first + 1);
        Base { first: first as u16, count: count as u16, size: self.size, ..Base::default() }
    }
}

impl Config {
    /// The private subnets whose routes lead to this NAT gateway, in the order of the file, each with the position of
    /// its first address among all of theirs.
    #[must_use]
    pub fn positions(&self, gateway: &NatGateway) -> Vec<(Ipv4Net, u32)> {
        let leads = |table: &str| {
            let mut routes = self.route_table(table).into_iter().flat_map(|table| &table.routes);
            routes.any(|route| matches!(&route.target, crate::config::Target::NatGateway(name) if *name == gateway.name))
        };
        let mut next = 0_u32;
        let mut positions = Vec::new();
        for subnet in &self.subnets {
            if subnet.route_table.as_deref().is_some_and(leads) {
                positions.push((subnet.cidr, next));
                next = next.saturating_add(addresses(&subnet.cidr));
            }
        }
        positions
    }

    /// How many blocks each Elastic IP of a NAT gateway has.
    pub fn block_counts<'a>(
        &'a self,
        gateway: &'a NatGateway,
        blocks: &'a Blocks,
    ) -> impl Iterator<Item = u32> + 'a {
        let elastic_ips = gateway.elastic_ips.iter().filter_map(|address| self.elastic_ip(*address));
        elastic_ips.map(|found| blocks.numbers(&found.usable_ports()).len() as u32)
    }
}

/// Addresses of a network.
#[must_use]
pub fn addresses(network: &Ipv4Net) -> u32 {
    1_u32.checked_shl(32 - u32::from(network.prefix_len())).unwrap_or(u32::MAX)
}
