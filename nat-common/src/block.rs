//! `BLOCKS`, `BLOCK_BASES` and `HOLDERS`: blocks of ports that hosts hold (RFC 6888, RFC 7422).
//!
//! A block's word in `BLOCKS` says who holds it, and is the only thing that does: it is claimed by one compare-and-swap.
//! The slots of a host's entry in `HOLDERS` merely say where to look; one that names a block of somebody else by now is
//! as good as empty.
//!
//! Blocks come back by the controller: it *gives notice*, waits until no program runs that may not have seen it, looks
//! through the flow table, and frees the block unless a session stands in it. A host that opens a session meanwhile
//! withdraws the notice. Both are compare-and-swaps of the block's word.

use bytemuck::{Pod, Zeroable};

use crate::{flow::FlowKey4, memory::Words, ports::scale};

/// The least ports of a block.
pub const MIN_SIZE: u32 = 64;
/// Words of an Elastic IP in `BLOCKS`.
pub const NUMBERS: u32 = 65_536 / MIN_SIZE;
/// Elastic IPs whose ports can be lent in blocks.
pub const MAX_BASES: u32 = 256;
/// Hosts that can hold blocks.
pub const MAX_HOLDERS: u32 = 65_536;
/// Blocks that one host can hold.
pub const MAX_HELD: u32 = 8;

/// Value of `BLOCK_BASES`, by Elastic IP (network order): the numbers of its blocks, which times the size are their first
/// ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Base {
    /// Its place in `BLOCKS`, in units of [`NUMBERS`].
    pub place: u32,
    /// The first block's number.
    pub first: u16,
    /// How many blocks.
    pub count: u16,
    /// Ports of a block.
    pub size: u16,
    /// Always zero.
    pub spare: u16,
}

impl Base {
    /// Where the word of block `number` stands in `BLOCKS`.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self, number: u32) -> u32 {
        self.place * NUMBERS + number % NUMBERS
    }

    /// The first and last port of block `number`.
    #[inline(always)]
    #[must_use]
    pub const fn ports(&self, number: u32) -> (u16, u16) {
        let first = number * self.size as u32;
        (first as u16, (first + self.size as u32 - 1) as u16)
    }
}

/// What a NAT gateway lends in blocks: the value of `BLOCK_RULES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rules {
    /// Ports of a block.
    pub size: u32,
    /// Blocks that one host may hold, up to [`MAX_HELD`].
    pub max: u32,
}

/// Value of `POSITIONS`: the hosts of a private subnet whose blocks are computed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Position {
    /// The subnet's first address, host order.
    pub network: u32,
    /// Position of that address.
    pub first: u32,
}

/// Value of `HOLDERS`: one slot for each block, as [`slot`] makes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Holder {
    /// See [`slot`]; 0: empty.
    pub slots: [u64; MAX_HELD as usize],
}

/// A slot that names block `number` of `address` (network order).
#[inline(always)]
#[must_use]
pub const fn slot(address: u32, number: u32) -> u64 {
    USED | (number as u64 % NUMBERS as u64) << 32 | address as u64
}

/// The Elastic IP (network order) and the number of the block that a slot names.
#[inline(always)]
#[must_use]
pub const fn named(slot: u64) -> (u32, u32) {
    (slot as u32, (slot >> 32) as u32 % NUMBERS)
}

const USED: u64 = 1 << 63;

/// The word of a block that nobody holds.
pub const FREE: u64 = 0;
/// The word of what is no block, for ports in it that are not lent.
pub const RESERVED: u64 = 1;
const HELD: u64 = 1 << 63;
const NOTICE: u64 = 1 << 62;

/// The word of a block that a host holds; `host` as [`crate::host::host_key`] makes it.
#[inline(always)]
#[must_use]
pub const fn held_by(host: &FlowKey4) -> u64 {
    HELD | (host.zone as u64) << 40 | (host.source_port as u64 & 0xff) << 32 | host.source as u64
}

/// Who holds a block: zone and address (network order).
#[must_use]
pub const fn holder(word: u64) -> Option<(u8, u32)> {
    if word & HELD == 0 { None } else { Some(((word >> 40) as u8, word as u32)) }
}

/// Whether whoever `held_by` stands for holds the block, once it has withdrawn a notice.
#[inline(always)]
pub fn holds(blocks: impl Words, word: u32, held_by: u64) -> bool {
    let found = blocks.load(word);
    found == held_by || found == held_by | NOTICE && blocks.compare_and_swap(word, found, held_by)
}

/// Claims a block; false if somebody holds it.
#[inline(always)]
pub fn claim(blocks: impl Words, word: u32, held_by: u64) -> bool {
    blocks.load(word) == FREE && blocks.compare_and_swap(word, FREE, held_by)
}

/// Notes a block that was just claimed in the slot where `before` stood. False if another CPU was faster: then the block
/// goes back.
#[inline(always)]
pub fn note(holder: impl Words, slot: u32, before: u64, new: u64) -> bool {
    holder.compare_and_swap(slot, before, new)
}

/// Gives back a block that was claimed and not noted.
#[inline(always)]
pub fn give_back(blocks: impl Words, word: u32, held_by: u64) {
    let _ = blocks.compare_and_swap(word, held_by, FREE);
}

/// Gives notice to whoever holds a block; its word, for [`free`].
pub fn give_notice(blocks: impl Words, word: u32) -> Option<u64> {
    let found = blocks.load(word);
    let noticed = found | NOTICE;
    (found & HELD != 0 && (found == noticed || blocks.compare_and_swap(word, found, noticed)))
        .then_some(noticed)
}

/// Whether notice was given to the holder whose word this is.
#[must_use]
pub const fn is_noticed(word: u64) -> bool {
    word & NOTICE != 0
}

/// Withdraws the notice given to whoever holds a block, if `found` is still its word.
pub fn withdraw_notice(blocks: impl Words, word: u32, found: u64) {
    if is_noticed(found) {
        let _ = blocks.compare_and_swap(word, found, found & !NOTICE);
    }
}

/// Frees a block that notice was given of, unless it was withdrawn.
pub fn free(blocks: impl Words, word: u32, noticed: u64) -> bool {
    blocks.compare_and_swap(word, noticed, FREE)
}

/// The number to try at this step of a search for a free block, from one on that the uniform number `random` picks.
#[inline(always)]
#[must_use]
pub const fn candidate(base: &Base, random: u32, step: u32) -> u32 {
    let count = base.count as u32;
    let place = scale(random, count) + step;
    base.first as u32 + if place >= count { place - count } else { place }
}
