//! Counting the sessions of some Elastic IPs, slice by slice: a large table is not walked in one go.

use std::{collections::BTreeMap, net::Ipv4Addr};

use nat_common::{
    flow::{OUTSIDE, raw},
    mapping::is_mapping,
    table::GROUP_ENTRIES,
};

use super::{DatapathError, Maps, table::Mapping};

/// Groups looked at in one slice: a millisecond or two.
const SLICE: u32 = 16_384;

/// A count under way.
pub struct Count {
    mapping: Mapping,
    groups: u32,
    next: u32,
    sessions: BTreeMap<u32, u64>,
}

impl Count {
    /// Begins to count the sessions of these Elastic IPs.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn new(maps: &Maps, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<Self, DatapathError> {
        let mapping = Mapping::of(maps)?;
        Ok(Self {
            groups: mapping.groups(),
            mapping,
            next: 0,
            sessions: addresses.map(|address| (raw(address), 0)).collect(),
        })
    }

    /// Looks at the next slice; true if it was the last one.
    pub fn go_on(&mut self) -> bool {
        let end = self.groups.min(self.next.saturating_add(SLICE));
        let group = GROUP_ENTRIES as usize;
        for number in self.next as usize * group..end as usize * group {
            let Some(flow) = self.mapping.flow(number) else { continue };
            if flow.zone == OUTSIDE || is_mapping(flow.protocol) {
                continue;
            }
            if let Some(sessions) = self.sessions.get_mut(&flow.address) {
                *sessions += 1;
            }
        }
        self.next = end;
        end == self.groups
    }

    /// Whether no session of `address` has been seen; it holds for all once the last slice was looked at.
    #[must_use]
    pub fn is_unused(&self, address: Ipv4Addr) -> bool {
        self.sessions.get(&raw(address)) == Some(&0)
    }
}
