//! Everything the data plane remembers, at one moment, and what changed between two.

use std::collections::{BTreeMap, HashMap};

use nat_common::{
    counter::Counters,
    drop::DropReason,
    flow::{Direction, FlowEntry4, FlowKey4},
};
use nat_userspace::datapath::Maps;

/// All counters, all drops, all flows.
#[derive(Clone, Debug)]
pub struct State {
    counters: Counters,
    drops: Vec<u64>,
    /// The flows of sessions.
    pub flows: HashMap<FlowKey4, FlowEntry4>,
    /// What else the flow table holds: mappings that do not depend on the remote, and permissions.
    pub mappings: HashMap<FlowKey4, FlowEntry4>,
}

/// What one packet did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Counters by name that moved, and by how much.
    pub counters: BTreeMap<&'static str, u64>,
    /// Drop reasons by name that moved.
    pub drops: BTreeMap<&'static str, u64>,
    /// Flows that are new.
    pub opened: usize,
    /// Flows that are gone.
    pub released: usize,
    /// Flows that are not what they were, by direction: how many packets and bytes of IP each was given.
    pub refreshed: Vec<(Direction, u64, u64)>,
}

impl State {
    /// Reads the maps.
    ///
    /// # Panics
    /// If they cannot be read.
    #[must_use]
    pub fn read(maps: &Maps) -> Self {
        let drops = DropReason::ALL.iter().map(|reason| maps.drops(*reason).expect("DROPS can be read"));
        let entries = maps.flows().expect("FLOWS4 can be read").into_iter().map(|flow| (flow.key(), flow));
        let (mappings, flows) = entries.partition(|(key, _)| key.protocol & 0x80 != 0);
        Self {
            counters: maps.counters().expect("COUNTERS can be read"),
            drops: drops.collect(),
            flows,
            mappings,
        }
    }

    /// The counter called `name`.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let place = Counters::NAMES.iter().position(|known| *known == name);
        self.counters.values()[place.unwrap_or_else(|| panic!("there is no counter {name}"))]
    }

    /// Packets that any packet counter or drop reason tells of.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let counters = Counters::NAMES.iter().zip(self.counters.values());
        let counted: u64 =
            counters.filter(|(name, _)| name.ends_with("_packets")).map(|(_, value)| value).sum();
        counted + self.drops.iter().sum::<u64>()
    }

    /// Every drop reason that has refused a packet, and how many.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let named = DropReason::ALL.iter().map(|reason| reason.name()).zip(self.drops.iter().copied());
        named.filter(|(_, count)| *count != 0).collect()
    }

    /// What happened between `before` and this state.
    #[must_use]
    pub fn since(&self, before: &Self) -> Change {
        let counters = Counters::NAMES.iter().zip(self.counters.values()).zip(before.counters.values());
        let counters = counters.map(|((name, now), then)| (*name, now.wrapping_sub(then)));
        let drops = DropReason::ALL.iter().zip(&self.drops).zip(&before.drops);
        let drops = drops.map(|((reason, now), then)| (reason.name(), now.wrapping_sub(*then)));
        let mut refreshed: Vec<_> = self.flows.iter().filter_map(|flow| refresh(before, flow)).collect();
        refreshed.sort_unstable();
        Change {
            counters: counters.filter(|(_, moved)| *moved != 0).collect(),
            drops: drops.filter(|(_, moved)| *moved != 0).collect(),
            opened: self.flows.keys().filter(|key| !before.flows.contains_key(key)).count(),
            released: before.flows.keys().filter(|key| !self.flows.contains_key(key)).count(),
            refreshed,
        }
    }

    /// What is wrong with the flow table: flows without their other half, or whose halves do not agree.
    #[must_use]
    pub fn half_open(&self) -> Vec<FlowKey4> {
        let agrees = |(key, entry): &(&FlowKey4, &FlowEntry4)| {
            let other_key = entry.other_key(key);
            let other = self.flows.get(&other_key).or_else(|| self.mappings.get(&other_key));
            other.is_some_and(|other| other.other_key(&other_key) == **key)
        };
        let mappings = self.mappings.iter().filter(|(key, _)| key.protocol & 0xc0 != 0xc0);
        self.flows.iter().chain(mappings).filter(|flow| !agrees(flow)).map(|(key, _)| *key).collect()
    }
}

fn refresh(before: &State, (key, now): (&FlowKey4, &FlowEntry4)) -> Option<(Direction, u64, u64)> {
    let then = before.flows.get(key).filter(|then| *then != now)?;
    Some((
        key.direction(),
        now.packet_count().wrapping_sub(then.packet_count()),
        now.byte_count().wrapping_sub(then.byte_count()),
    ))
}
