//! Elastic IPs that drain: known to the data plane for the sessions they have, and lent to no new ones. Pure.

use std::net::Ipv4Addr;

use nat_common::{
    flow::raw,
    pool::{self, MAX_ELASTIC_IPS},
};
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::{
    config::{Arp, Config, ElasticIp},
    host::HostFacts,
};

/// An Elastic IP that drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// What it was when it was in use.
    pub elastic_ip: ElasticIp,
    /// The NAT gateway that its sessions belong to.
    pub nat_gateway: String,
    /// The millisecond of the monotonic clock when it ends: the state does not outlive the host's uptime.
    pub deadline: u64,
}

impl Draining {
    /// The Elastic IP `address` of `config`, beginning to drain for so many `seconds`; `None` if nobody uses it.
    #[must_use]
    pub fn begin(config: &Config, address: Ipv4Addr, now: u64, seconds: u64) -> Option<Self> {
        let elastic_ip = config.elastic_ip(address)?.clone();
        let nat_gateway = config.owner(address)?.name.clone();
        Some(Self { elastic_ip, nat_gateway, deadline: now.saturating_add(seconds.saturating_mul(1_000)) })
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.elastic_ip.address
    }

    /// Seconds until it ends, at the millisecond `now`.
    #[must_use]
    pub const fn seconds_left(&self, now: u64) -> u64 {
        self.deadline.saturating_sub(now).div_ceil(1_000)
    }
}

/// What drains under the configuration `after`: what drained before it, and what it takes out of use. What it uses, or
/// what its NAT gateway's sessions cannot go on with, does not drain.
#[must_use]
pub fn draining(before: &Config, draining: &[Draining], after: &Config, now: u64) -> Vec<Draining> {
    let drains = after.drain != 0;
    let begin = |address| Draining::begin(before, address, now, after.drain);
    let begun = before.addresses().filter_map(begin).filter(|_| drains);
    let all = draining.iter().cloned().chain(begun);
    let room = (MAX_ELASTIC_IPS as usize).saturating_sub(after.addresses().count());
    all.filter(|drain| after.may_drain(&drain.elastic_ip, &drain.nat_gateway)).take(room).collect()
}

impl Plan {
    /// Adds what drains to the plan of `config`.
    pub fn add_draining(&mut self, config: &Config, facts: &HostFacts, draining: &[Draining]) {
        for Draining { elastic_ip, nat_gateway, .. } in draining {
            let number = config.nat_gateways.iter().position(|gateway| gateway.name == *nat_gateway);
            let Some(number) = number.filter(|number| *number < self.gateways.len()) else { continue };
            let shared = u16::from(facts.locals.contains(&elastic_ip.address.into()));
            let value = pool::ElasticIp { gateway: number as u16, shared };
            self.elastic_ips.insert(raw(elastic_ip.address), value);
            if elastic_ip.arp == Arp::Announce {
                self.announced.push((self.gateways[number].ifindex, elastic_ip.address));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{address, config, facts, two_addresses};

    const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

    /// The configuration without one of its two Elastic IPs, and with this drain time.
    fn without(gone: Ipv4Addr, drain: u64) -> Config {
        let two = config(two_addresses());
        Config { drain, ..two.without_elastic_ip(gone).unwrap() }
    }

    fn drain(before: &Config, known: &[Draining], after: &Config) -> Vec<(Ipv4Addr, u64)> {
        draining(before, known, after, 1_000).iter().map(|drain| (drain.address(), drain.deadline)).collect()
    }

    #[test]
    fn what_a_configuration_no_longer_names_drains_for_its_time() {
        let two = config(two_addresses());
        assert_eq!(drain(&two, &[], &two), []);
        assert_eq!(drain(&two, &[], &without(FIRST, 350)), [(FIRST, 351_000)]);
        assert_eq!(drain(&two, &[], &without(SECOND, 3)), [(SECOND, 4_000)]);
        assert_eq!(drain(&two, &[], &without(SECOND, 0)), [], "with no time it is cut");
    }

    #[test]
    fn what_drains_keeps_its_deadline_until_it_is_in_use_again() {
        let two = config(two_addresses());
        let one = without(FIRST, 350);
        let known = vec![Draining::begin(&two, FIRST, 0, 7).unwrap()];
        assert_eq!(drain(&one, &known, &one), [(FIRST, 7_000)]);
        assert_eq!(drain(&one, &known, &without(FIRST, 0)), [(FIRST, 7_000)]);
        assert_eq!(drain(&one, &known, &two), []);
        assert_eq!(
            [known[0].seconds_left(6_001), known[0].seconds_left(6_000), known[0].seconds_left(9_000)],
            [1, 1, 0]
        );
    }

    #[test]
    fn what_moves_to_another_nat_gateway_or_loses_its_own_does_not_drain() {
        let two = config(two_addresses());
        let mut renamed = without(FIRST, 350);
        renamed.nat_gateways[0].name = "nat-b".into();
        assert_eq!(drain(&two, &[], &renamed), []);
        let mut moved = renamed;
        moved.nat_gateways[0].elastic_ips.push(FIRST);
        assert_eq!(drain(&two, &[], &moved), []);
    }

    #[test]
    fn what_drains_is_known_and_announced_and_not_lent() {
        let two = config(two_addresses());
        let one = without(FIRST, 350);
        let mut plan = Plan::new(&one, &facts()).unwrap();
        let known = draining(&two, &[], &one, 0);
        plan.add_draining(&one, &facts(), &known);
        let lent: Vec<_> = plan.lent.iter().map(|lent| lent.address).collect();
        assert_eq!(lent, [address("203.0.113.11")]);
        assert_eq!(plan.elastic_ips[&address("203.0.113.10")].gateway, 0);
        assert_eq!(plan.announced, [(2, FIRST)], "the other one is routed");
    }

    #[test]
    fn draining_survives_the_way_through_json() {
        let known = Draining::begin(&config(two_addresses()), SECOND, 5, 7).unwrap();
        let json = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<Draining>(&json).unwrap(), known);
    }
}
