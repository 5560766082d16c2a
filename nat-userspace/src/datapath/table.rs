//! The flow table as user space sees it: mapped into memory, and the secret of its hash.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::fd::AsFd,
    path::Path,
    ptr::NonNull,
};

use aya::maps::{Array, Map, MapData};
use bytemuck::{Zeroable, bytes_of, bytes_of_mut};
use nat_common::{
    flow::{FlowEntry4, holds_flow},
    table::{FlowGroup4, FlowHash, GROUP_ENTRIES},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{DatapathError, maps::again};

/// The map.
pub(super) const NAME: &str = "FLOWS4";

/// Calls `visit` for every flow of the table. Flows that come or go meanwhile may be missed.
///
/// # Errors
/// What the kernel answers.
pub(super) fn for_each(table: &MapData, mut visit: impl FnMut(&FlowEntry4)) -> Result<(), DatapathError> {
    let groups = groups(table)?;
    let mapping = Mapping::new(table, groups).map_err(DatapathError::access("map", NAME))?;
    for number in 0..groups as usize * GROUP_ENTRIES as usize {
        if let Some(flow) = mapping.flow(number) {
            visit(&flow);
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
    memory: NonNull<std::ffi::c_void>,
    length: NonZeroUsize,
}

impl Mapping {
    pub(super) fn new(table: &MapData, groups: u32) -> io::Result<Self> {
        let length = NonZeroUsize::new(groups as usize * size_of::<FlowGroup4>())
            .ok_or_else(|| io::Error::other("the table has no groups"))?;
        let (readable, shared) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; what other CPUs write there is read by volatile
        // reads alone.
        let memory = unsafe { mmap(None, length, readable, shared, table.fd().as_fd(), 0)? };
        Ok(Self { memory, length })
    }

    /// The flow in entry `number`, if there is one.
    pub(super) fn flow(&self, number: usize) -> Option<FlowEntry4> {
        let entries = self.memory.cast::<FlowEntry4>().as_ptr();
        assert!((number + 1) * size_of::<FlowEntry4>() <= self.length.get());
        // SAFETY: within the mapping, and aligned, since a mapping begins on a page.
        let flow = unsafe {
            let entry = entries.add(number);
            if !holds_flow((&raw const (*entry).generation).read_volatile()) {
                return None;
            }
            entry.read_volatile()
        };
        // What was freed meanwhile has no key any more; and `spilled` is the group's.
        (flow.is_flow() && flow.source != 0).then_some(FlowEntry4 { spilled: 0, ..flow })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it.
        if let Err(error) = unsafe { munmap(self.memory, self.length.get()) } {
            tracing::warn!("cannot unmap {NAME}: {error}");
        }
    }
}
