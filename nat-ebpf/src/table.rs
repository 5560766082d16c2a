//! `FLOWS4`: a hash table in an array map, without a lock.
//!
//! An entry is claimed by one compare-and-swap of its generation, written, and then published by the generation it is
//! to have; readers never see it before. Two CPUs that insert one key at once may claim different entries: each writes
//! its key before it looks for the other's, so at least one of them finds the other and withdraws (invariant 3).

use aya_ebpf::Global;
use nat_common::{
    flow::{CLAIMED, FREE, FlowEntry4, FlowKey4, KEY_BITS, holds_flow},
    table::{GROUP_ENTRIES, MAX_PROBES, Probe},
};

use crate::{
    assembly::{barrier, bound, compare_and_swap, is_not_zero, swap},
    maps::FLOWS4,
};

/// The secret of the hash; the loader sets it.
#[unsafe(no_mangle)]
static FLOW_SECRET: [Global<u64>; 5] = [const { Global::new(0) }; 5];

/// Groups of the table; the loader sets it.
#[unsafe(no_mangle)]
static FLOW_GROUPS: Global<u32> = Global::new(1);

/// Why a flow was not inserted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is a flow of this key, or another CPU inserts at this place or under this key at the same time.
    Exists,
    /// All its groups are full.
    Full,
}

/// Number of an entry: its group's, times the entries of a group, and its own there.
type Place = u32;

/// Mask of an entry's number in its group.
const IN_GROUP: i32 = GROUP_ENTRIES as i32 - 1;
/// Places of [`FlowEntry4`]'s words.
const KEY: usize = 0;
const PORTS: usize = 1;
const GENERATION: usize = 2;

/// The flow of `key`.
#[inline(always)]
pub fn find(key: &FlowKey4) -> Option<*mut FlowEntry4> {
    let words = key.words();
    let probe = first_probe(words);
    let group = FLOWS4.get_ptr_mut(group(probe))?.cast::<FlowEntry4>();
    // One of two neighbouring lines holds nearly every flow. Both are asked for at once, and no branch waits for the
    // first: it would be mispredicted for every fifth flow, at the price of another wait for memory.
    let home = bound::<IN_GROUP>(probe.home() as usize);
    let neighbour = group.wrapping_add(bound::<IN_GROUP>(home ^ 1));
    let _ = read(word(neighbour, KEY));
    let elsewhere = differs(group.wrapping_add(home), words);
    let entry = group.wrapping_add(bound::<IN_GROUP>(home ^ elsewhere as usize));
    if holds(entry, words) && is_flow(entry) {
        return Some(entry);
    }
    seek(key)
}

/// The same without the short way for what stands where it is looked for first.
#[inline(always)]
pub fn seek(key: &FlowKey4) -> Option<*mut FlowEntry4> {
    match flow_seek(key) {
        0 => None,
        place => at(place as u32 - 1),
    }
}

/// One more than the place of `key`'s flow, 0 for none. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn flow_seek(key: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    let words = key.words();
    let mut probe = first_probe(words);
    let mut left = MAX_PROBES;
    while left > 0 {
        let Some(first) = entry(group(probe), 0) else { return 0 };
        let mut number = 0;
        while number < GROUP_ENTRIES {
            let entry = first.wrapping_add(number as usize);
            if holds(entry, words) && is_flow(entry) {
                return u64::from(group(probe) * GROUP_ENTRIES + number) + 1;
            }
            number += 1;
        }
        if !has_spilled(first) {
            return 0;
        }
        probe = probe.next();
        left -= 1;
    }
    0
}

#[inline(always)]
fn group(probe: Probe) -> u32 {
    probe.group(FLOW_GROUPS.load())
}

#[inline(always)]
fn has_spilled(first: *mut FlowEntry4) -> bool {
    // SAFETY: a byte of a map value.
    unsafe { (&raw const (*first).spilled).read_volatile() != 0 }
}

#[inline(always)]
fn first_probe(words: [u64; 2]) -> Probe {
    let [a, b, c, d, e] = &FLOW_SECRET;
    Probe::first(&[a.load(), b.load(), c.load(), d.load(), e.load()], words)
}

/// Inserts `flow` under its own key, published with its generation; the place for [`release`].
#[inline(always)]
pub fn insert(flow: &FlowEntry4) -> Result<Place, Refusal> {
    match flow_insert(flow) {
        EXISTS => Err(Refusal::Exists),
        FULL => Err(Refusal::Full),
        place => Ok(place as u32),
    }
}

const EXISTS: u64 = u64::MAX;
const FULL: u64 = u64::MAX - 1;

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn flow_insert(flow: *const FlowEntry4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(flow) = (unsafe { flow.as_ref() }) else { return FULL };
    match claim_and_write(flow) {
        Ok(place) => place.into(),
        Err(Refusal::Exists) => EXISTS,
        Err(Refusal::Full) => FULL,
    }
}

#[inline(always)]
fn claim_and_write(flow: &FlowEntry4) -> Result<Place, Refusal> {
    let words = flow.key().words();
    let place = vacancy(words)?;
    let Some(entry) = at(place) else { return Err(Refusal::Full) };
    let generation = word(entry, GENERATION);
    let free = read(generation);
    if free as u32 != FREE || !compare_and_swap(generation, free, u64::from(CLAIMED)) {
        return Err(Refusal::Exists);
    }
    // SAFETY: the claim makes the entry this CPU's own until it is published.
    unsafe {
        word(entry, PORTS)
            .write_volatile(words[1] | u64::from(flow.vpc) << 48 | u64::from(flow.tcp_seen) << 56);
        word(entry, KEY).write_volatile(words[0]);
    }
    barrier();
    if stands_twice(words, place) {
        release(place);
        return Err(Refusal::Exists);
    }
    // SAFETY: as above. `spilled` is the group's and stays.
    unsafe {
        (*entry).address = flow.address;
        (*entry).port = flow.port;
        (*entry).packets_high = flow.packets_high;
        (*entry).hop = flow.hop;
        (*entry).opened = flow.opened;
        (*entry).packets = flow.packets;
        (*entry).bytes = flow.bytes;
    }
    swap(generation, u64::from(flow.generation) | u64::from(flow.last_seen) << 32);
    Ok(place)
}

/// The first free place for a key that has no flow yet.
#[inline(always)]
fn vacancy(words: [u64; 2]) -> Result<Place, Refusal> {
    let mut vacant = None;
    let mut search = Search::new(words);
    while let Some((group, first)) = search.next() {
        let mut step = 0;
        while step < GROUP_ENTRIES {
            let number = search.probe.entry(step);
            let entry = first.wrapping_add(bound::<IN_GROUP>(number as usize));
            if read(word(entry, GENERATION)) as u32 == FREE {
                vacant = vacant.or(Some(group * GROUP_ENTRIES + number));
            } else if holds(entry, words) {
                return Err(Refusal::Exists);
            }
            step += 1;
        }
        if vacant.is_none() {
            search.spill(first);
        }
    }
    vacant.ok_or(Refusal::Full)
}

/// Whether another place than `own` has the key, claimed or in use.
#[inline(always)]
fn stands_twice(words: [u64; 2], own: Place) -> bool {
    let mut search = Search::new(words);
    while let Some((group, first)) = search.next() {
        let mut number = 0;
        while number < GROUP_ENTRIES {
            let entry = first.wrapping_add(number as usize);
            let other = group * GROUP_ENTRIES + number != own;
            if other && holds(entry, words) && read(word(entry, GENERATION)) as u32 != FREE {
                return true;
            }
            number += 1;
        }
    }
    false
}

/// Frees the entry at `place`, whose flow is this CPU's to end.
#[inline(always)]
pub fn release(place: Place) {
    if let Some(entry) = at(place) {
        vacate(entry);
    }
}

/// Frees an entry whose flow is this CPU's to end.
#[inline(always)]
pub fn vacate(entry: *mut FlowEntry4) {
    // SAFETY: a word of a map value; readers compare it and find nothing.
    unsafe { word(entry, KEY).write_volatile(0) };
    swap(word(entry, GENERATION), FREE.into());
}

/// Replaces the generation of a flow that was seen at `last_seen`, if neither has changed meanwhile.
#[inline(always)]
pub fn replace_generation(entry: *mut FlowEntry4, last_seen: u32, old: u32, new: u32) -> bool {
    let seen = u64::from(last_seen) << 32;
    compare_and_swap(word(entry, GENERATION), seen | u64::from(old), seen | u64::from(new))
}

/// The groups that a key may stand in, each with its first entry, as far as flows have gone on from one to the next.
struct Search {
    probe: Probe,
    following: Probe,
    probes: u32,
    more: bool,
}

impl Search {
    #[inline(always)]
    fn new(words: [u64; 2]) -> Self {
        let probe = first_probe(words);
        Self { probe, following: probe, probes: 0, more: true }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<(u32, *mut FlowEntry4)> {
        if !self.more || self.probes == MAX_PROBES {
            return None;
        }
        self.probes += 1;
        self.probe = self.following;
        self.following = self.probe.next();
        let group = group(self.probe);
        let first = entry(group, 0)?;
        self.more = has_spilled(first);
        Some((group, first))
    }

    /// Goes on from the group whose first entry this is, and has all who search go on from it.
    #[inline(always)]
    fn spill(&mut self, first: *mut FlowEntry4) {
        self.more = true;
        // SAFETY: a byte of a map value that is only ever set to 1.
        unsafe { (&raw mut (*first).spilled).write_volatile(1) }
    }
}

/// The entry at `place`.
#[inline(always)]
pub fn at(place: Place) -> Option<*mut FlowEntry4> {
    entry(place / GROUP_ENTRIES, place % GROUP_ENTRIES)
}

#[inline(always)]
fn entry(group: u32, number: u32) -> Option<*mut FlowEntry4> {
    let group = FLOWS4.get_ptr_mut(group)?.cast::<FlowEntry4>();
    Some(group.wrapping_add(bound::<IN_GROUP>(number as usize)))
}

#[inline(always)]
fn word(entry: *mut FlowEntry4, number: usize) -> *mut u64 {
    entry.cast::<u64>().wrapping_add(number)
}

#[inline(always)]
fn read(word: *mut u64) -> u64 {
    // SAFETY: an aligned word of a map value.
    unsafe { word.read_volatile() }
}

/// Whether the entry has this key, be it in use or not.
#[inline(always)]
pub fn holds(entry: *mut FlowEntry4, words: [u64; 2]) -> bool {
    read(word(entry, KEY)) == words[0] && read(word(entry, PORTS)) & KEY_BITS == words[1]
}

/// 1 if the entry has another key, 0 if it has this one, without a branch.
#[inline(always)]
fn differs(entry: *mut FlowEntry4, words: [u64; 2]) -> u64 {
    let difference = (read(word(entry, KEY)) ^ words[0]) | ((read(word(entry, PORTS)) ^ words[1]) & KEY_BITS);
    is_not_zero(difference)
}

#[inline(always)]
fn is_flow(entry: *mut FlowEntry4) -> bool {
    holds_flow(read(word(entry, GENERATION)) as u32)
}
