//! Inserting into the flow table and freeing its entries, without a lock.
//!
//! An entry is claimed by one compare-and-swap of its generation, written, and then published by the generation it is
//! to have; readers never see it before. Two CPUs that insert one key at once may claim different entries: each writes
//! its key before it looks for the other's, so at least one of them finds the other and withdraws (invariant 3).

use crate::{
    flow::{CLAIMED, FREE, FlowEntry4, KEY_BITS},
    memory::Words,
    table::{GROUP_ENTRIES, MAX_PROBES, Probe},
};

/// Number of an entry: its group's, times the entries of a group, and its own there.
pub type Place = u32;

/// Places of [`FlowEntry4`]'s words: the addresses of the key,
pub const KEY: u32 = 0;
/// its ports, protocol and zone, and what stands beside them,
pub const PORTS: u32 = 1;
/// generation and last seen.
pub const GENERATION: u32 = 2;

/// Why a flow was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is a flow of this key.
    Exists,
    /// Another CPU inserts at this place, or under this key, at the same time: it is worth another try.
    Contended,
    /// All its groups are full.
    Full,
}

/// A flow table.
pub trait Table: Copy {
    /// The words of an entry.
    type Entry: Words;

    /// The first probe for a key.
    fn probe(self, words: [u64; 2]) -> Probe;
    /// The group of a probe.
    fn group(self, probe: Probe) -> u32;
    /// The entry `number`, below [`GROUP_ENTRIES`], of a group.
    fn entry(self, group: u32, number: u32) -> Option<Self::Entry>;
    /// Whether flows have gone on from this group.
    fn has_spilled(self, group: u32) -> bool;
    /// Has all who search go on from this group.
    fn spill(self, group: u32);
    /// Writes all of `flow` but key, generation and last seen.
    fn fill(self, entry: Self::Entry, flow: &FlowEntry4);
}

/// Inserts `flow` under its own key, published with its generation; the place for [`release`].
///
/// # Errors
/// [`Refusal`].
#[inline(always)]
pub fn insert<T: Table>(table: T, flow: &FlowEntry4) -> Result<Place, Refusal> {
    let words = flow.key().words();
    let place = vacancy(table, words)?;
    let Some(entry) = at(table, place) else { return Err(Refusal::Full) };
    let free = entry.load(GENERATION);
    if free as u32 != FREE || !entry.compare_and_swap(GENERATION, free, CLAIMED as u64) {
        return Err(Refusal::Contended);
    }
    // The claim makes the entry this CPU's own until it is published.
    entry.store(PORTS, words[1] | (flow.vpc as u64) << 48 | (flow.tcp_seen as u64) << 56);
    entry.store(KEY, words[0]);
    entry.barrier();
    if stands_twice(table, words, place) {
        release(table, place);
        return Err(Refusal::Contended);
    }
    table.fill(entry, flow);
    entry.swap(GENERATION, flow.generation as u64 | (flow.last_seen as u64) << 32);
    Ok(place)
}

/// The first free place for a key that has no flow yet.
#[inline(always)]
fn vacancy<T: Table>(table: T, words: [u64; 2]) -> Result<Place, Refusal> {
    let mut vacant = None;
    let mut search = Search::new(table, words);
    while let Some(group) = search.next() {
        let mut step = 0;
        while step < GROUP_ENTRIES {
            let number = search.probe.entry(step);
            let Some(entry) = table.entry(group, number) else { return Err(Refusal::Full) };
            if holds(entry, words) {
                return Err(refusal(entry, words));
            }
            if entry.load(GENERATION) as u32 == FREE {
                vacant = vacant.or(Some(group * GROUP_ENTRIES + number));
            }
            step += 1;
        }
        if vacant.is_none() {
            search.more = true;
            table.spill(group);
        }
    }
    vacant.ok_or(Refusal::Full)
}

/// What an entry that has the key says to its insert. Whoever has claimed it may yet withdraw, and whoever was seen there
/// may be gone: only a flow that has been published under this key exists.
#[inline(always)]
fn refusal(entry: impl Words, words: [u64; 2]) -> Refusal {
    entry.barrier();
    let generation = entry.load(GENERATION) as u32;
    if generation == FREE || generation == CLAIMED || !holds(entry, words) {
        return Refusal::Contended;
    }
    Refusal::Exists
}

/// Whether another place than `own` has the key, claimed or in use.
#[inline(always)]
fn stands_twice<T: Table>(table: T, words: [u64; 2], own: Place) -> bool {
    let mut search = Search::new(table, words);
    while let Some(group) = search.next() {
        let mut number = 0;
        while number < GROUP_ENTRIES {
            let Some(entry) = table.entry(group, number) else { return false };
            let other = group * GROUP_ENTRIES + number != own;
            if other && holds(entry, words) && entry.load(GENERATION) as u32 != FREE {
                return true;
            }
            number += 1;
        }
    }
    false
}

/// Frees the entry at `place`, whose flow is this CPU's to end.
#[inline(always)]
pub fn release<T: Table>(table: T, place: Place) {
    if let Some(entry) = at(table, place) {
        vacate(entry);
    }
}

/// Frees an entry whose flow is this CPU's to end.
#[inline(always)]
pub fn vacate(entry: impl Words) {
    // Readers compare it and find nothing.
    entry.store(KEY, 0);
    entry.swap(GENERATION, FREE as u64);
}

/// Replaces the generation of a flow that was seen at `last_seen`, if neither has changed meanwhile.
#[inline(always)]
pub fn replace_generation(entry: impl Words, last_seen: u32, old: u32, new: u32) -> bool {
    let seen = (last_seen as u64) << 32;
    entry.compare_and_swap(GENERATION, seen | old as u64, seen | new as u64)
}

/// The entry at `place`.
#[inline(always)]
pub fn at<T: Table>(table: T, place: Place) -> Option<T::Entry> {
    table.entry(place / GROUP_ENTRIES, place % GROUP_ENTRIES)
}

/// Whether the entry has this key, be it in use or not.
#[inline(always)]
pub fn holds(entry: impl Words, words: [u64; 2]) -> bool {
    entry.load(KEY) == words[0] && entry.load(PORTS) & KEY_BITS == words[1]
}

/// The groups that a key may stand in, as far as flows have gone on from one to the next.
struct Search<T> {
    table: T,
    probe: Probe,
    following: Probe,
    probes: u32,
    more: bool,
}

impl<T: Table> Search<T> {
    #[inline(always)]
    fn new(table: T, words: [u64; 2]) -> Self {
        let probe = table.probe(words);
        Self { table, probe, following: probe, probes: 0, more: true }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if !self.more || self.probes == MAX_PROBES {
            return None;
        }
        self.probes += 1;
        self.probe = self.following;
        self.following = self.probe.next();
        let group = self.table.group(self.probe);
        self.more = self.table.has_spilled(group);
        Some(group)
    }
}
