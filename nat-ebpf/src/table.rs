//! `FLOWS4`: a hash table in an array map, without a lock. How flows get into it and out again stands in
//! [`nat_common::claim`].

use aya_ebpf::Global;
use nat_common::{
    claim::{self, GENERATION, KEY, PORTS, Place, Refusal, Table},
    flow::{FlowEntry4, FlowKey4, KEY_BITS, holds_flow},
    memory::Words,
    table::{GROUP_ENTRIES, MAX_PROBES, Probe},
};

use crate::{
    assembly::{bound, is_not_zero},
    maps::FLOWS4,
    words::MapWords,
};

/// The secret of the hash; the loader sets it.
#[unsafe(no_mangle)]
static FLOW_SECRET: [Global<u64>; 5] = [const { Global::new(0) }; 5];

/// Groups of the table; the loader sets it.
#[unsafe(no_mangle)]
static FLOW_GROUPS: Global<u32> = Global::new(1);

/// Mask of an entry's number in its group.
const IN_GROUP: i32 = GROUP_ENTRIES as i32 - 1;

/// Bytes of an entry: one cache line.
const LINE: usize = size_of::<FlowEntry4>();
/// Mask of the bytes at which entries begin.
const LINES: i32 = IN_GROUP * LINE as i32;

/// The flow of `key`, if it stands where it is looked for first.
#[inline(always)]
pub fn find(key: &FlowKey4) -> Option<*mut FlowEntry4> {
    let words = key.words();
    let probe = first_probe(words);
    let group = FLOWS4.get_ptr_mut(group(probe))?.cast::<FlowEntry4>();
    // One of two neighbouring lines holds nearly every flow. Both are asked for at once, and no branch waits for the
    // first: it would be mispredicted for every fifth flow, at the price of another wait for memory.
    let home = bound::<IN_GROUP>(probe.home() as usize);
    let neighbour = group.wrapping_add(bound::<IN_GROUP>(home ^ 1));
    let _ = words_of(neighbour).load(KEY);
    let elsewhere = differs(group.wrapping_add(home), words);
    let entry = group.wrapping_add(bound::<IN_GROUP>(home ^ elsewhere as usize));
    (holds(entry, words) && is_flow(entry)).then_some(entry)
}

/// The group where `key` is looked for first, and how many bytes into it the search begins.
#[inline(always)]
pub fn home(key: &FlowKey4) -> (u32, u32) {
    let probe = first_probe(key.words());
    (group(probe), probe.home() * LINE as u32)
}

/// Has the processor fetch the two lines that [`find`] looks at, of a key with this [`home`].
#[inline(always)]
pub fn fetch_pair(group: u32, home: u32) {
    let Some(group) = FLOWS4.get_ptr_mut(group) else { return };
    let line = |offset: usize| group.cast::<u64>().wrapping_byte_add(bound::<LINES>(offset));
    // SAFETY: words of a map value; the bound keeps within it.
    unsafe {
        line(home as usize).read_volatile();
        line(home as usize ^ LINE).read_volatile();
    }
}

/// Has the processor fetch the group where `key` is looked for first.
#[inline(always)]
pub fn fetch(key: &FlowKey4) {
    let Some(first) = entry(group(first_probe(key.words())), 0) else { return };
    for number in 0..GROUP_ENTRIES {
        words_of(first.wrapping_add(number as usize)).load(KEY);
    }
}

/// The flow of `key`, wherever it stands.
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
pub fn first_probe(words: [u64; 2]) -> Probe {
    let [a, b, c, d, e] = &FLOW_SECRET;
    Probe::first(&[a.load(), b.load(), c.load(), d.load(), e.load()], words)
}

/// Inserts `flow` under its own key, published with its generation; the place for [`release`].
#[inline(always)]
pub fn insert(flow: &FlowEntry4) -> Result<Place, Refusal> {
    match flow_insert(flow) {
        EXISTS => Err(Refusal::Exists),
        CONTENDED => Err(Refusal::Contended),
        FULL => Err(Refusal::Full),
        place => Ok(place as u32),
    }
}

const EXISTS: u64 = u64::MAX;
const CONTENDED: u64 = u64::MAX - 1;
const FULL: u64 = u64::MAX - 2;

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn flow_insert(flow: *const FlowEntry4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(flow) = (unsafe { flow.as_ref() }) else { return FULL };
    match claim::insert(Flows4, flow) {
        Ok(place) => place.into(),
        Err(Refusal::Exists) => EXISTS,
        Err(Refusal::Contended) => CONTENDED,
        Err(Refusal::Full) => FULL,
    }
}

/// Frees the entry at `place`, whose flow is this CPU's to end.
#[inline(always)]
pub fn release(place: Place) {
    claim::release(Flows4, place);
}

/// Frees an entry whose flow is this CPU's to end.
#[inline(always)]
pub fn vacate(entry: *mut FlowEntry4) {
    claim::vacate(words_of(entry));
}

/// Replaces the generation of a flow that was seen at `last_seen`, if neither has changed meanwhile.
#[inline(always)]
pub fn replace_generation(entry: *mut FlowEntry4, last_seen: u32, old: u32, new: u32) -> bool {
    claim::replace_generation(words_of(entry), last_seen, old, new)
}

/// `FLOWS4`, as [`claim`] sees it.
#[derive(Clone, Copy)]
struct Flows4;

impl Table for Flows4 {
    type Entry = MapWords;

    #[inline(always)]
    fn probe(self, words: [u64; 2]) -> Probe {
        first_probe(words)
    }

    #[inline(always)]
    fn group(self, probe: Probe) -> u32 {
        group(probe)
    }

    #[inline(always)]
    fn entry(self, group: u32, number: u32) -> Option<MapWords> {
        entry(group, number).map(words_of)
    }

    #[inline(always)]
    fn has_spilled(self, group: u32) -> bool {
        entry(group, 0).is_some_and(has_spilled)
    }

    #[inline(always)]
    fn spill(self, group: u32) {
        if let Some(first) = entry(group, 0) {
            // SAFETY: a byte of a map value that is only ever set to 1.
            unsafe { (&raw mut (*first).spilled).write_volatile(1) }
        }
    }

    #[inline(always)]
    fn fill(self, entry: MapWords, flow: &FlowEntry4) {
        let entry = entry.pointer().cast::<FlowEntry4>();
        // SAFETY: a map value that this CPU has claimed. `spilled` is the group's and stays.
        unsafe {
            (*entry).address = flow.address;
            (*entry).port = flow.port;
            (*entry).packets_high = flow.packets_high;
            (*entry).hop = flow.hop;
            (*entry).opened = flow.opened;
            (*entry).packets = flow.packets;
            (*entry).bytes = flow.bytes;
        }
    }
}

#[inline(always)]
fn words_of(entry: *mut FlowEntry4) -> MapWords {
    MapWords::new(entry.cast())
}

/// The entry at `place`.
#[inline(always)]
pub fn at(place: Place) -> Option<*mut FlowEntry4> {
    entry(place / GROUP_ENTRIES, place % GROUP_ENTRIES)
}

/// The place of `entry`.
#[inline(always)]
pub fn place_of(entry: *mut FlowEntry4) -> Option<Place> {
    let first = FLOWS4.get_ptr_mut(0)? as usize;
    Some(((entry as usize).wrapping_sub(first) / size_of::<FlowEntry4>()) as Place)
}

#[inline(always)]
fn entry(group: u32, number: u32) -> Option<*mut FlowEntry4> {
    let group = FLOWS4.get_ptr_mut(group)?.cast::<FlowEntry4>();
    Some(group.wrapping_add(bound::<IN_GROUP>(number as usize)))
}

/// Whether the entry has this key, be it in use or not.
#[inline(always)]
pub fn holds(entry: *mut FlowEntry4, words: [u64; 2]) -> bool {
    claim::holds(words_of(entry), words)
}

/// 1 if the entry has another key, 0 if it has this one, without a branch.
#[inline(always)]
fn differs(entry: *mut FlowEntry4, words: [u64; 2]) -> u64 {
    let entry = words_of(entry);
    is_not_zero((entry.load(KEY) ^ words[0]) | ((entry.load(PORTS) ^ words[1]) & KEY_BITS))
}

#[inline(always)]
fn is_flow(entry: *mut FlowEntry4) -> bool {
    holds_flow(words_of(entry).load(GENERATION) as u32)
}
