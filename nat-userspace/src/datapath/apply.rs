//! Desired state → maps: fill the slot that is not in force, then store the next generation.

use std::{
    collections::{BTreeSet, HashMap},
    thread::sleep,
    time::Duration,
};

use aya::maps::lpm_trie::Key;
use nat_common::{
    config::{Ageing, Interface, SLOTS, VlanKey, slot},
    flow::{ENDING, OUTSIDE, UNJUDGED, raw},
    mapping::is_mapping,
    nacl::{MAX_NACLS, MAX_PORT_RANGES},
    pool::{ElasticIpKey, MAX_ELASTIC_IPS, MAX_GATEWAYS, MAX_RANGES},
    route::{Prefix, SCOPE_BITS, scope},
    rss::MAX_DEVICES,
};

use super::{DatapathError, Maps, batch, table};
use crate::plan::Plan;

/// Longer than any packet stays in the data plane: what was in force before the last change is read no more.
pub(super) const GRACE: Duration = Duration::from_millis(20);

impl Maps {
    /// Puts `plan` into force and returns its generation. A packet sees the old configuration or the new one, never
    /// parts of both.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses; the old configuration is still in force then.
    pub fn apply(&mut self, plan: &Plan) -> Result<u32, DatapathError> {
        let generation = self.generation()?;
        if generation != 0 {
            sleep(GRACE);
        }
        let next = following(generation, 1);
        let slot = slot(next);
        self.clear(slot)?;
        self.fill_arrays(plan, slot)?;
        self.fill_hashes(plan, slot)?;
        self.fill_tries(plan, slot)?;
        self.count_sessions_of(&plan.counted)?;
        self.add_blocks(plan)?;
        self.set_generation(next)?;
        self.remove_blocks(plan)?;
        Ok(next)
    }

    /// Makes every flow ask again for its verdict, route and hop, under the same configuration.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn renew_generation(&mut self) -> Result<u32, DatapathError> {
        let next = following(self.generation()?, 2);
        self.set_generation(next)?;
        Ok(next)
    }

    /// Makes `LOCALS` hold exactly these addresses.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn set_locals(&mut self, locals: &BTreeSet<[u8; 16]>) -> Result<(), DatapathError> {
        let present: BTreeSet<_> =
            self.locals.keys().collect::<Result<_, _>>().map_err(DatapathError::access("read", "LOCALS"))?;
        for address in locals.difference(&present) {
            self.locals.insert(address, 1, 0).map_err(DatapathError::access("write", "LOCALS"))?;
        }
        for address in present.difference(locals) {
            self.locals.remove(address).map_err(DatapathError::access("write", "LOCALS"))?;
        }
        Ok(())
    }

    /// Makes `USAGE` count the sessions of exactly these Elastic IPs, beginning with those that are open.
    fn count_sessions_of(&mut self, addresses: &BTreeSet<u32>) -> Result<(), DatapathError> {
        let known: BTreeSet<u32> = self.usage.keys().flatten().collect();
        for address in known.difference(addresses) {
            self.usage.remove(address).map_err(DatapathError::access("write", "USAGE"))?;
        }
        if addresses.is_subset(&known) {
            return Ok(());
        }
        let mut open: HashMap<u32, u64> = addresses.difference(&known).map(|address| (*address, 0)).collect();
        table::for_each(&self.flows, |flow| {
            if flow.zone != OUTSIDE
                && !is_mapping(flow.protocol)
                && let Some(sessions) = open.get_mut(&flow.address)
            {
                *sessions += 1;
            }
        })?;
        for (address, sessions) in open {
            self.usage.insert(address, sessions, 0).map_err(DatapathError::access("write", "USAGE"))?;
        }
        Ok(())
    }

    /// Sets the orders of the next run of the ageing program.
    pub(super) fn set_ageing(&mut self, orders: Ageing) -> Result<(), DatapathError> {
        self.ageing.set(0, orders, 0).map_err(DatapathError::access("write", "AGEING"))
    }

    fn set_generation(&mut self, generation: u32) -> Result<(), DatapathError> {
        self.generation.set(0, generation, 0).map_err(DatapathError::access("write", "GENERATION"))
    }

    /// Removes what an earlier configuration has left in the slot.
    fn clear(&mut self, slot: u32) -> Result<(), DatapathError> {
        let vlans: Vec<_> = self.vlans.keys().flatten().filter(|key| u32::from(key.slot) == slot).collect();
        for key in vlans {
            self.vlans.remove(&key).map_err(DatapathError::access("write", "VLANS"))?;
        }
        let elastic_ips: Vec<_> = self.elastic_ips.keys().flatten().filter(|key| key.slot == slot).collect();
        for key in elastic_ips {
            self.elastic_ips.remove(&key).map_err(DatapathError::access("write", "ELASTIC_IPS"))?;
        }
        let mine = |key: &Key<Prefix>| u32::from_be(key.data().scope) >> 16 == slot;
        let subnets: Vec<_> = self.subnets.keys().flatten().filter(mine).collect();
        for key in subnets {
            self.subnets.remove(&key).map_err(DatapathError::access("write", "SUBNETS"))?;
        }
        let positions: Vec<_> = self.positions.keys().flatten().filter(mine).collect();
        for key in positions {
            self.positions.remove(&key).map_err(DatapathError::access("write", "POSITIONS"))?;
        }
        let prefixes: Vec<_> = self.nacl_prefixes.keys().flatten().filter(mine).collect();
        for key in prefixes {
            self.nacl_prefixes.remove(&key).map_err(DatapathError::access("write", "NACL_PREFIXES"))?;
        }
        let sources: Vec<_> = self.sources.keys().flatten().filter(mine).collect();
        for key in sources {
            self.sources.remove(&key).map_err(DatapathError::access("write", "SOURCES"))?;
        }
        let routes: Vec<_> = self.routes.keys().flatten().filter(mine).collect();
        for key in routes {
            self.routes.remove(&key).map_err(DatapathError::access("write", "ROUTES4"))?;
        }
        Ok(())
    }

    fn fill_arrays(&mut self, plan: &Plan, slot: u32) -> Result<(), DatapathError> {
        self.config.set(slot, plan.config, 0).map_err(DatapathError::access("write", "CONFIG"))?;
        self.fill_interfaces(plan, slot)?;
        for device in &plan.devices {
            // One that is there may have a program, which packets that were sent ahead need.
            if self.devices.get(*device, 0).is_ok_and(|known| known.if_index == *device) {
                continue;
            }
            // A device that has gone meanwhile has no packets either; the data plane does without the entry.
            if let Err(error) = self.devices.set(*device, *device, None, 0) {
                tracing::debug!("device {device} is not in DEVICES: {error}");
            }
        }
        for (number, list) in plan.nacls.lists.iter().enumerate() {
            let index = slot * MAX_NACLS * 2 + number as u32;
            self.nacls.set(index, list, 0).map_err(DatapathError::access("write", "NACLS"))?;
        }
        for (number, range) in plan.nacls.ports.iter().enumerate() {
            let index = slot * MAX_PORT_RANGES + number as u32;
            self.nacl_ports.set(index, range, 0).map_err(DatapathError::access("write", "NACL_PORTS"))?;
        }
        for (number, gateway) in plan.gateways.iter().enumerate() {
            let index = slot * MAX_GATEWAYS + number as u32;
            self.gateways.set(index, gateway, 0).map_err(DatapathError::access("write", "GATEWAYS"))?;
        }
        for (number, rules) in plan.block_rules.iter().enumerate() {
            let index = slot * MAX_GATEWAYS + number as u32;
            self.block_rules.set(index, rules, 0).map_err(DatapathError::access("write", "BLOCK_RULES"))?;
        }
        for (number, limits) in plan.limits.iter().enumerate() {
            let index = slot * MAX_GATEWAYS + number as u32;
            self.limits.set(index, limits, 0).map_err(DatapathError::access("write", "LIMITS"))?;
        }
        for (number, lent) in plan.lent.iter().enumerate() {
            let index = slot * MAX_ELASTIC_IPS + number as u32;
            self.lent.set(index, lent, 0).map_err(DatapathError::access("write", "LENT"))?;
        }
        for (number, range) in plan.pool.iter().enumerate() {
            let index = slot * MAX_RANGES + number as u32;
            self.pool.set(index, range, 0).map_err(DatapathError::access("write", "POOL"))?;
        }
        for (number, rss) in plan.rss.iter().enumerate() {
            let index = slot * MAX_DEVICES + number as u32;
            self.rss.set(index, rss, 0).map_err(DatapathError::access("write", "RSS"))?;
        }
        Ok(())
    }

    /// Interfaces that the plan does not know lose their role in the slot.
    fn fill_interfaces(&mut self, plan: &Plan, slot: u32) -> Result<(), DatapathError> {
        let mut changed = Vec::new();
        batch::for_each(&self.all_interfaces, |index: &u32, interface: &Interface| {
            let role = plan.interfaces.get(index).copied().unwrap_or_default();
            if interface.role[slot as usize] != role {
                let mut interface = *interface;
                interface.role[slot as usize] = role;
                changed.push((*index, interface));
            }
        })
        .map_err(DatapathError::access("read", "INTERFACES"))?;
        for (index, interface) in changed {
            self.interfaces.set(index, interface, 0).map_err(DatapathError::access("write", "INTERFACES"))?;
        }
        Ok(())
    }

    fn fill_hashes(&mut self, plan: &Plan, slot: u32) -> Result<(), DatapathError> {
        for ((device, vlan), ifindex) in &plan.vlans {
            let key = VlanKey { device: *device, vlan: *vlan, slot: slot as u16 };
            self.vlans.insert(key, ifindex, 0).map_err(DatapathError::access("write", "VLANS"))?;
        }
        for (address, elastic_ip) in &plan.elastic_ips {
            let key = ElasticIpKey { address: *address, slot };
            self.elastic_ips
                .insert(key, elastic_ip, 0)
                .map_err(DatapathError::access("write", "ELASTIC_IPS"))?;
        }
        Ok(())
    }

    fn fill_tries(&mut self, plan: &Plan, slot: u32) -> Result<(), DatapathError> {
        for subnet in &plan.subnets {
            let key = prefix(scope(slot, subnet.zone.into()), subnet.cidr);
            self.subnets.insert(&key, subnet.value, 0).map_err(DatapathError::access("write", "SUBNETS"))?;
            let key = prefix(scope(slot, OUTSIDE.into()), subnet.cidr);
            self.subnets.insert(&key, subnet.value, 0).map_err(DatapathError::access("write", "SUBNETS"))?;
        }
        for (gateway, network, position) in &plan.positions {
            let key = prefix(scope(slot, (*gateway).into()), *network);
            self.positions.insert(&key, position, 0).map_err(DatapathError::access("write", "POSITIONS"))?;
        }
        for (number, network, ranges) in &plan.nacls.prefixes {
            let key = prefix(scope(slot, *number), *network);
            self.nacl_prefixes
                .insert(&key, ranges, 0)
                .map_err(DatapathError::access("write", "NACL_PREFIXES"))?;
        }
        for (gateway, cidr, choice) in &plan.sources {
            let key = prefix(scope(slot, (*gateway).into()), *cidr);
            self.sources.insert(&key, choice, 0).map_err(DatapathError::access("write", "SOURCES"))?;
        }
        for route in &plan.routes {
            let key = prefix(scope(slot, route.table.into()), route.destination);
            self.routes.insert(&key, route.target, 0).map_err(DatapathError::access("write", "ROUTES4"))?;
        }
        Ok(())
    }
}

fn prefix(scope: u32, network: ipnet::Ipv4Net) -> Key<Prefix> {
    let prefix = Prefix { scope, address: raw(network.network()) };
    Key::new(SCOPE_BITS + u32::from(network.prefix_len()), prefix)
}

/// The generation `step` after this one: two that mean something else to flows are passed over without changing the
/// slot that the step leads to.
fn following(generation: u32, step: u32) -> u32 {
    let next = generation.wrapping_add(step);
    if next == UNJUDGED || next == ENDING { next.wrapping_add(SLOTS) } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_configuration_goes_to_the_other_slot() {
        for generation in [0, 1, 7, ENDING - 2, ENDING - 1] {
            assert_ne!(slot(following(generation, 1)), slot(generation));
        }
    }

    #[test]
    fn renewing_keeps_the_slot() {
        for generation in [1, 2, ENDING - 3, ENDING - 2, ENDING - 1] {
            assert_eq!(slot(following(generation, 2)), slot(generation));
        }
    }

    #[test]
    fn no_generation_means_anything_else_to_a_flow() {
        for generation in [ENDING - 3, ENDING - 2, ENDING - 1] {
            for step in [1, 2] {
                assert!(![UNJUDGED, ENDING].contains(&following(generation, step)));
            }
        }
    }
}
