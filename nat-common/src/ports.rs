//! Which ports of an Elastic IP are taken toward a busy remote: a map of bits beside the flow table, so that the last
//! free port costs no more to find than the first.
//!
//! The insert of the inbound flow decides who owns a port (invariant 3); a port map only says where not to look. A bit is
//! *set before* its port is tried and *cleared after* the flow that held it was freed. So a bit that is set stands for a
//! flow, or for a search that is about to find out; a port may be taken without its bit, and costs one vain try.

use bytemuck::{Pod, Zeroable};

use crate::{
    flow::{FlowKey4, OUTSIDE},
    memory::Words,
    table::Probe,
};

/// Ports that one word of a port map tells of.
const WORD: u32 = u64::BITS;
/// Words for all ports of an address.
const WORDS: usize = 65_536 / WORD as usize;
/// Ports that one word of the summary tells of.
const SUMMARY: u32 = WORD * WORD;

/// What a port map says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortMapHead {
    /// Whose ports these are, as [`key`] makes it.
    pub key: FlowKey4,
    /// How many bits are set.
    pub taken: u64,
    /// How many were ever cleared.
    pub cleared: u64,
    /// Generation (upper half) and `cleared` (lower half) when a search last found no free port; 0: never.
    pub full: u64,
    /// Tick of the last search.
    pub searched: u64,
    /// Where the search for dead sessions goes on.
    pub cursor: u64,
    /// Always zero.
    pub spare: u64,
}

/// Words of [`PortMapHead`].
mod head {
    pub const KEY: u32 = 0;
    pub const TAKEN: u32 = 2;
    pub const CLEARED: u32 = 3;
    pub const FULL: u32 = 4;
    pub const SEARCHED: u32 = 5;
    pub const CURSOR: u32 = 6;
}

/// The value of `PORTS4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PortMap4 {
    /// Whose it is.
    pub head: PortMapHead,
    /// One bit for each word of `taken`: no port of it is free.
    pub full: [u64; WORDS / WORD as usize],
    /// One bit for each port.
    pub taken: [u64; WORDS],
}

const _: () = assert!(size_of::<PortMapHead>() == 64 && size_of::<PortMap4>() == 8_384);

/// The key of a port map: an inbound flow's, without its port.
#[inline(always)]
#[must_use]
pub const fn key(inbound: &FlowKey4) -> FlowKey4 {
    FlowKey4 { destination_port: 0, zone: OUTSIDE, ..*inbound }
}

/// A port map.
pub trait PortMap: Copy {
    /// The words of [`PortMap4::head`].
    type Head: Words;
    /// The words of [`PortMap4::full`].
    type Full: Words;
    /// The words of [`PortMap4::taken`].
    type Taken: Words;

    /// See [`PortMap4::head`].
    fn head(self) -> Self::Head;
    /// See [`PortMap4::full`].
    fn full(self) -> Self::Full;
    /// See [`PortMap4::taken`].
    fn taken(self) -> Self::Taken;
}

/// Marks `port` as taken; false if it already was.
#[inline(always)]
pub fn take(map: impl PortMap, port: u32) -> bool {
    let (word, bit) = (port / WORD, 1 << (port % WORD));
    let before = map.taken().set(word, bit);
    if before & bit != 0 {
        return false;
    }
    map.head().add(head::TAKEN, 1);
    if before | bit == u64::MAX {
        map.full().set(word / WORD, 1 << (word % WORD));
        // Given back meanwhile, by one who cleared the summary before it was set.
        if map.taken().load(word) != u64::MAX {
            map.full().clear(word / WORD, 1 << (word % WORD));
        }
    }
    true
}

/// Marks `port` as free again. Its flow must be freed by then.
#[inline(always)]
pub fn give_back(map: impl PortMap, port: u32) {
    let (word, bit) = (port / WORD, 1 << (port % WORD));
    let before = map.taken().clear(word, bit);
    if before & bit == 0 {
        return;
    }
    map.full().clear(word / WORD, 1 << (word % WORD));
    map.head().add(head::TAKEN, u64::MAX);
    map.head().add(head::CLEARED, 1);
}

/// Whether `port` is marked as taken.
#[inline(always)]
pub fn is_taken(map: impl PortMap, port: u32) -> bool {
    map.taken().load(port / WORD) & 1 << (port % WORD) != 0
}

/// Notes that a search has begun at `tick`. False if it would be in vain: none has found a free port under this
/// `generation`, and none was given back since.
#[inline(always)]
pub fn is_worth_searching(map: impl PortMap, generation: u32, tick: u32) -> bool {
    map.head().store(head::SEARCHED, tick as u64);
    map.head().load(head::FULL) != vain(generation, map.head().load(head::CLEARED))
}

/// How many ports were ever given back: for [`note_full`], to be read before the search, which then finds all of them.
#[inline(always)]
pub fn given_back(map: impl PortMap) -> u64 {
    let cleared = map.head().load(head::CLEARED);
    map.head().barrier();
    cleared
}

/// Notes that a search under `generation` that began at so many ports `given_back` has found none.
#[inline(always)]
pub fn note_full(map: impl PortMap, generation: u32, given_back: u64) {
    map.head().store(head::FULL, vain(generation, given_back));
}

/// Moves the place where the search for dead sessions goes on by `ports`; where it stood.
#[inline(always)]
pub fn advance_cursor(map: impl PortMap, ports: u32) -> u32 {
    map.head().add(head::CURSOR, ports as u64) as u32
}

#[inline(always)]
const fn vain(generation: u32, given_back: u64) -> u64 {
    (generation as u64) << 32 | given_back & 0xffff_ffff
}

/// A walk over the ports of a range, once round from a start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// First port.
    pub low: u32,
    /// Last port.
    pub high: u32,
    /// The next port, and how many are left.
    pub next: u32,
    /// How many are left.
    pub left: u32,
}

impl Walk {
    /// A walk over the ports `low` to `high`, from one on that the uniform number `random` picks (RFC 6056 §3.3.1).
    #[inline(always)]
    #[must_use]
    pub const fn new(low: u32, high: u32, random: u32) -> Self {
        let span = high - low + 1;
        Self { low, high, next: low + scale(random, span), left: span }
    }

    /// The port that the uniform number `random` picks.
    #[inline(always)]
    #[must_use]
    pub const fn pick(&self, random: u32) -> u32 {
        self.low + scale(random, self.span())
    }

    /// How many ports there are.
    #[inline(always)]
    #[must_use]
    pub const fn span(&self) -> u32 {
        self.high - self.low + 1
    }

    /// The next port.
    #[inline(always)]
    pub fn step(&mut self) -> Option<u32> {
        if self.left == 0 {
            return None;
        }
        let port = self.next;
        self.skip(1);
        Some(port)
    }

    /// The next port that `map` has as free and that is not `unwanted` (a bit for each of 64 in a row), or `None` and on the way to it while there are some `left`: a call takes a
    /// bounded time.
    #[inline(always)]
    pub fn step_to_free(&mut self, map: impl PortMap, unwanted: u64) -> Option<u32> {
        let bit = self.next % WORD;
        // Zeros come in from above: a run of ones ends with the word at the latest.
        let taken = ((map.taken().load(self.next / WORD) | unwanted) >> bit).trailing_ones();
        let within = self.skip(taken);
        if taken < WORD - bit {
            return if within { self.step() } else { None };
        }
        if within {
            let words = map.full().load(self.next / SUMMARY) >> (self.next / WORD % WORD);
            self.skip(words.trailing_ones() * WORD);
        }
        None
    }

    /// Passes so many ports by, but no further than the end of the range or of the walk; false if it got there.
    #[inline(always)]
    fn skip(&mut self, ports: u32) -> bool {
        let to_end = self.high - self.next + 1;
        let room = if to_end < self.left { to_end } else { self.left };
        if ports < room {
            self.next += ports;
            self.left -= ports;
            return true;
        }
        self.left -= room;
        self.next = if room == to_end { self.low } else { self.next + room };
        false
    }
}

/// Maps a uniform `number` onto `0..span`, without a division.
#[inline(always)]
#[must_use]
pub const fn scale(number: u32, span: u32) -> u32 {
    ((number as u64 * span as u64) >> 32) as u32
}

/// Port maps in a bucket of the directory.
pub const BUCKET: u32 = 8;

/// The value of `BUSY`, one bucket of the directory of port maps, one cache line: for each of its maps, 0 or a hash of
/// whose it is and its state.
pub type Bucket = [u64; BUCKET as usize];

/// Buckets for a table of so many `sessions`: a remote becomes busy by taking a good part of an Elastic IP's ports, so
/// there can be few of them for each million sessions; the buckets have room for ten times as many.
#[must_use]
pub const fn buckets(sessions: u32) -> u32 {
    let buckets = sessions / 16_384;
    if buckets < 8 { 8 } else { buckets }
}

/// In the lowest bits of a tag.
mod state {
    pub const CLAIMED: u64 = 1;
    pub const READY: u64 = 2;
    pub const RETIRED: u64 = 3;
    pub const MASK: u64 = 3;
}

/// The directory of port maps.
pub trait Directory: Copy {
    /// The words of a bucket.
    type Bucket: Words;
    /// Its port maps.
    type Map: PortMap;

    /// The hash of a key.
    fn probe(self, words: [u64; 2]) -> Probe;
    /// The number of the bucket of a hash.
    fn bucket(self, probe: Probe) -> u32;
    /// The tags of a bucket.
    fn tags(self, bucket: u32) -> Option<Self::Bucket>;
    /// The port map with this number.
    fn map(self, number: u32) -> Option<Self::Map>;
}

/// The number of the port map for `words`, a [`key`]'s; `None` if that remote is not busy.
#[inline(always)]
pub fn find<D: Directory>(directory: D, words: [u64; 2]) -> Option<u32> {
    let probe = directory.probe(words);
    let bucket = directory.bucket(probe);
    let tags = directory.tags(bucket)?;
    let mut slot = 0;
    while slot < BUCKET {
        let number = bucket * BUCKET + slot;
        if tags.load(slot) == probe.tag() | state::READY && is_for(directory, number, words) {
            return Some(number);
        }
        slot += 1;
    }
    None
}

/// Begins a port map for `words`; `None` if there is no room, or another CPU begins one at the same time.
#[inline(always)]
pub fn begin<D: Directory>(directory: D, words: [u64; 2]) -> Option<u32> {
    let probe = directory.probe(words);
    let bucket = directory.bucket(probe);
    let tags = directory.tags(bucket)?;
    let mut slot = 0;
    while slot < BUCKET && tags.load(slot) != 0 {
        slot += 1;
    }
    if slot == BUCKET || !tags.compare_and_swap(slot, 0, probe.tag() | state::CLAIMED) {
        return None;
    }
    let number = bucket * BUCKET + slot;
    let head = directory.map(number)?.head();
    head.store(head::KEY, words[0]);
    head.store(head::KEY + 1, words[1]);
    head.barrier();
    // As for flows: of two who begin at once, one at least finds the other and withdraws.
    let mut other = 0;
    while other < BUCKET {
        let tag = tags.load(other);
        let live = tag & state::MASK == state::CLAIMED || tag & state::MASK == state::READY;
        if other != slot
            && live
            && tag & !state::MASK == probe.tag()
            && is_for(directory, bucket * BUCKET + other, words)
        {
            head.store(head::KEY, 0);
            tags.swap(slot, 0);
            return None;
        }
        other += 1;
    }
    tags.swap(slot, probe.tag() | state::READY);
    Some(number)
}

#[inline(always)]
fn is_for<D: Directory>(directory: D, number: u32, words: [u64; 2]) -> bool {
    let Some(map) = directory.map(number) else { return false };
    map.head().load(head::KEY) == words[0] && map.head().load(head::KEY + 1) == words[1]
}

/// Whether a tag is of a port map in use.
#[must_use]
pub const fn is_ready(tag: u64) -> bool {
    tag & state::MASK == state::READY
}

/// Whether a tag is of a port map that nobody finds any more, to be [`free`]d when nobody holds it any more.
#[must_use]
pub const fn is_retired(tag: u64) -> bool {
    tag & state::MASK == state::RETIRED
}

/// Has nobody find the port map in this `slot` any more, whose tag is ready; false if it has changed meanwhile.
pub fn retire(tags: impl Words, slot: u32, tag: u64) -> bool {
    tags.compare_and_swap(slot, tag, tag & !state::MASK | state::RETIRED)
}

/// Clears a port map that was retired and that nobody holds any more, and frees its slot.
pub fn free(tags: impl Words, slot: u32, map: impl PortMap) {
    for word in 0..WORDS as u32 {
        map.taken().store(word, 0);
    }
    for word in 0..WORDS as u32 / WORD {
        map.full().store(word, 0);
    }
    for word in 0..size_of::<PortMapHead>() as u32 / 8 {
        map.head().store(word, 0);
    }
    tags.swap(slot, 0);
}
