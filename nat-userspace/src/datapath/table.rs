//! The flow table as user space sees it: mapped into memory, and the secret of its hash.

use std::{fs::File, io::Read, path::Path};

use aya::maps::{Array, Map, MapData};
use bytemuck::{Zeroable, bytes_of, bytes_of_mut};
use nat_common::{
    flow::{FlowEntry4, FlowKey4, holds_flow},
    table::{FlowGroup4, FlowHash, GROUP_ENTRIES, MAX_PROBES, Probe, Secret},
};

use super::{DatapathError, Maps, maps::again, memory::Memory};

/// The map.
pub(super) const NAME: &str = "FLOWS4";

/// Calls `visit` for every flow of the table. Flows that come or go meanwhile may be missed.
///
/// # Errors
/// What the kernel answers.
pub(super) fn for_each(table: &MapData, mut visit: impl FnMut(&FlowEntry4)) -> Result<(), DatapathError> {
    let mapping = Mapping::new(table)?;
    for number in 0..mapping.groups as usize * GROUP_ENTRIES as usize {
        if let Some(flow) = mapping.flow(number) {
            visit(&flow);
        }
    }
    Ok(())
}

/// Has every flow look as if `ticks` more had passed since its last packet.
///
/// # Errors
/// What the kernel answers.
pub(super) fn let_pass(table: &MapData, ticks: u32) -> Result<(), DatapathError> {
    let entries = groups(table)? as usize * GROUP_ENTRIES as usize;
    let length = entries * size_of::<FlowEntry4>();
    let memory = Memory::writable(table, length).map_err(DatapathError::access("map", NAME))?;
    for number in 0..entries {
        let entry = memory.value::<FlowEntry4>(number);
        // SAFETY: within the mapping.
        unsafe {
            if holds_flow((&raw const (*entry).generation).read_volatile()) {
                let seen = (&raw const (*entry).last_seen).read_volatile();
                (&raw mut (*entry).last_seen).write_volatile(seen.wrapping_sub(ticks));
            }
        }
    }
    Ok(())
}

/// Groups of the table; behind them, one more holds the secret.
///
/// # Errors
/// What the kernel answers.
pub(super) fn groups(table: &MapData) -> Result<u32, DatapathError> {
    let info = table.info().map_err(DatapathError::access("look at", NAME))?;
    Ok(info.max_entries().saturating_sub(1))
}

/// Entries that a table of `sessions` has: a group for each, and the secret.
pub(super) const fn entries(sessions: u32) -> u32 {
    sessions.saturating_add(1)
}

/// Places for flows that a table of so many groups has.
pub(super) const fn places(groups: u32) -> u32 {
    groups.saturating_mul(GROUP_ENTRIES)
}

/// The hash of the table pinned at `path`, or a new one for a table of `sessions`.
///
/// # Errors
/// What the kernel answers.
pub(super) fn hash(path: Option<&Path>, sessions: u32) -> Result<FlowHash, DatapathError> {
    if let Some(path) = path.filter(|path| path.exists()) {
        let table = MapData::from_pin(path).map_err(DatapathError::access("open", NAME))?;
        let groups = groups(&table)?;
        let last = array(table)?.get(&groups, 0).map_err(DatapathError::access("read", NAME))?;
        let mut hash = FlowHash::zeroed();
        let size = size_of::<FlowHash>();
        bytes_of_mut(&mut hash).copy_from_slice(&bytes_of(&last)[..size]);
        if hash.groups == u64::from(groups) {
            return Ok(hash);
        }
        // Nobody has used the table before its secret was written.
        return new_hash(groups);
    }
    new_hash(sessions)
}

fn new_hash(groups: u32) -> Result<FlowHash, DatapathError> {
    let mut hash = FlowHash::zeroed();
    let random =
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes_of_mut(&mut hash.secret)));
    random.map_err(|error| DatapathError::Setup(format!("cannot read /dev/urandom: {error}")))?;
    hash.groups = groups.into();
    Ok(hash)
}

/// Writes the hash down in its table, for the next who loads programs onto it.
///
/// # Errors
/// What the kernel answers.
pub(super) fn remember(table: &MapData, hash: &FlowHash) -> Result<(), DatapathError> {
    let mut last = FlowGroup4::zeroed();
    bytes_of_mut(&mut last)[..size_of::<FlowHash>()].copy_from_slice(bytes_of(hash));
    let groups = groups(table)?;
    array(again(table, NAME)?)?.set(groups, last, 0).map_err(DatapathError::access("write", NAME))
}

fn array(table: MapData) -> Result<Array<MapData, FlowGroup4>, DatapathError> {
    Array::try_from(Map::Array(table)).map_err(DatapathError::access("open", NAME))
}

/// The table's memory, shared with the data plane.
pub(super) struct Mapping {
    memory: Memory,
    groups: u32,
    hash: FlowHash,
}

impl Mapping {
    /// The table of these maps.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(super) fn of(maps: &Maps) -> Result<Self, DatapathError> {
        Self::new(&maps.flows)
    }

    fn new(table: &MapData) -> Result<Self, DatapathError> {
        let groups = groups(table)?;
        let length = (groups as usize + 1) * size_of::<FlowGroup4>();
        let memory = Memory::readable(table, length).map_err(DatapathError::access("map", NAME))?;
        // SAFETY: the last group holds the hash, which nobody changes while programs use the table.
        let hash = unsafe { memory.value::<FlowGroup4>(groups as usize).cast::<FlowHash>().read_volatile() };
        Ok(Self { memory, groups, hash })
    }

    /// The secret of its hash.
    pub(super) const fn secret(&self) -> Secret {
        self.hash.secret
    }

    /// Groups of the table.
    pub(super) const fn groups(&self) -> u32 {
        self.groups
    }

    /// The flow in entry `number`, if there is one.
    pub(super) fn flow(&self, number: usize) -> Option<FlowEntry4> {
        let entry = self.memory.value::<FlowEntry4>(number);
        // SAFETY: within the mapping.
        let flow = unsafe {
            if !holds_flow((&raw const (*entry).generation).read_volatile()) {
                return None;
            }
            entry.read_volatile()
        };
        // What was freed meanwhile has no key any more; and `spilled` is the group's.
        (flow.is_flow() && (flow.source | flow.destination) != 0).then_some(FlowEntry4 { spilled: 0, ..flow })
    }

    /// The flow of `key`.
    pub(super) fn find(&self, key: &FlowKey4) -> Option<FlowEntry4> {
        let mut probe = Probe::first(&self.hash.secret, key.words());
        for _ in 0..MAX_PROBES {
            let first = (probe.group(self.groups) * GROUP_ENTRIES) as usize;
            let flows = (first..first + GROUP_ENTRIES as usize).filter_map(|number| self.flow(number));
            if let Some(found) = flows.into_iter().find(|flow| flow.key() == *key) {
                return Some(found);
            }
            let entry = self.memory.value::<FlowEntry4>(first);
            // SAFETY: within the mapping.
            if unsafe { (&raw const (*entry).spilled).read_volatile() } == 0 {
                return None;
            }
            probe = probe.next();
        }
        None
    }
}
