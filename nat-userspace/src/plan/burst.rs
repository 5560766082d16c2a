//! What packets may be sent ahead, to be translated in bursts as they leave: those of which it is plain before anything is
//! looked up where they leave, if they do. Pure.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;
use nat_common::{
    burst::{Lead, Reach},
    config::Role,
    flow::{OUTSIDE, raw},
};

use super::Plan;
use crate::host::HostFacts;

/// The values of `LEADS` and `REACH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bursts {
    /// By interface index.
    pub leads: BTreeMap<u32, Lead>,
    /// By destination.
    pub reach: Box<Reach>,
    /// Why packets of a direction are not among them.
    pub why_not: Vec<String>,
}

impl Plan {
    /// What may be sent ahead on a host with these `facts`.
    #[must_use]
    pub fn bursts(&self, facts: &HostFacts) -> Bursts {
        let mut bursts = Bursts::default();
        let (internal, external) = (self.only(|role| role.zone != 0), self.only(Role::is_external));
        // What was sent ahead to a device that is down would be lost, and nobody told.
        let is_up = |role: &Role| facts.interface_at(role.device).is_some_and(|device| device.up);
        let follows_queues = self.same_queue.values().any(|found| !found.protocols.is_empty());
        match external {
            _ if follows_queues => bursts.refuse("outbound", "same_queue asks which queue they come in on"),
            None => bursts.refuse("outbound", NOT_ONE_EXTERNAL),
            Some((_, to)) if !is_up(to) => bursts.refuse("outbound", DOWN),
            Some((_, to)) => {
                let sources = self.interfaces.iter().filter(|(_, role)| is_plain(role) && role.zone != 0);
                bursts.leads.extend(sources.map(|(index, role)| (*index, lead(role, role.zone, to.device))));
            }
        }
        match (internal, external) {
            (Some((_, to)), _) if !is_up(to) => bursts.refuse("inbound", DOWN),
            (Some((_, to)), Some((index, role))) => {
                bursts.leads.insert(index, lead(role, OUTSIDE, to.device));
            }
            (None, _) => {
                bursts.refuse("inbound", "they do not all lead to one internal interface without a tag")
            }
            (_, None) => bursts.refuse("inbound", NOT_ONE_EXTERNAL),
        }
        let locals = super::locals(facts);
        let locals = locals.iter().filter_map(|address| Ipv6Addr::from(*address).to_ipv4_mapped());
        self.fill_reach(&mut bursts.reach, &locals.collect::<Vec<_>>());
        bursts
    }

    /// The only interface of its kind, if that serves one side and has no tag.
    fn only(&self, is_it: impl Fn(&Role) -> bool) -> Option<(u32, &Role)> {
        let mut found = self.interfaces.iter().filter(|(_, role)| is_it(role));
        let (index, role) = found.next()?;
        (found.next().is_none() && is_plain(role)).then_some((*index, role))
    }

    fn fill_reach(&self, reach: &mut Reach, locals: &[Ipv4Addr]) {
        let elastic_ips = || self.elastic_ips.keys().map(|address| Ipv4Addr::from(u32::from_be(*address)));
        reach.outbound = [u64::MAX; _];
        let hosts = locals.iter().copied().chain(elastic_ips()).map(Ipv4Net::from);
        let near = hosts.chain(self.subnets.iter().map(|subnet| subnet.cidr)).chain(NO_HOSTS);
        for half in near.flat_map(|network| halves(&network)) {
            Reach::set(&mut reach.outbound, half, false);
        }
        for (address, _) in self.elastic_ips.iter().filter(|(_, elastic_ip)| elastic_ip.shared == 0) {
            Reach::set(&mut reach.inbound, Reach::place(*address), true);
        }
        // Two addresses may have one place.
        for address in locals {
            Reach::set(&mut reach.inbound, Reach::place(raw(*address)), false);
        }
    }
}

const NOT_ONE_EXTERNAL: &str = "there is not one external interface, without a tag and for the outside alone";

const DOWN: &str = "the interface that they leave by is down";

/// Where nobody is: this network, loopback, multicast and what is reserved.
const NO_HOSTS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

impl Bursts {
    fn refuse(&mut self, direction: &str, why: &str) {
        self.why_not.push(format!("{direction} packets are translated one by one: {why}"));
    }
}

/// Whether an interface serves one side, without a tag.
const fn is_plain(role: &Role) -> bool {
    role.vlan == 0 && (role.zone == 0) == role.is_external()
}

fn lead(role: &Role, zone: u8, device: u32) -> Lead {
    Lead { device, mtu: u16::try_from(role.mtu).unwrap_or(u16::MAX), zone, spare: 0 }
}

/// The bits of all /16 that a network has a part in.
fn halves(network: &Ipv4Net) -> impl Iterator<Item = u32> + use<> {
    let half = |address: Ipv4Addr| u32::from(address) >> 16;
    (half(network.network())..=half(network.broadcast()))
        .map(|half| Reach::half(raw(Ipv4Addr::from(half << 16))))
}

#[cfg(test)]
mod tests;
