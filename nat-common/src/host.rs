//! `LIMITS` and `HOSTS`: what one internal host may take, and what it has taken.
//!
//! A record of `HOSTS` counts the sessions of a host, or those toward one remote. *A record that counts none is dead*:
//! nobody counts in it any more, and whoever took the last session out removes it. So a record stands for one session at
//! least, or for one that is being opened, and vanishes with it.
//!
//! A session carries a [mark] of the records it is counted in, in its outbound flow. Whoever ends it takes
//! the mark, by one atomic operation, and takes the session out of just those records. So counts cannot drift, whatever
//! configuration was in force when the session began.

use bytemuck::{Pod, Zeroable};

use crate::{
    claim::{KEY as FLOW_KEY, PORTS as FLOW_PORTS},
    flow::FlowKey4,
    memory::Words,
};

/// What a NAT gateway allows each host; the value of `LIMITS`, where 0 is no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limits {
    /// Sessions open at a time.
    pub sessions: u32,
    /// The same toward one remote address, port and protocol.
    pub sessions_per_remote: u32,
    /// Nanoseconds between new sessions, on average; 0: as many as it likes.
    pub interval: u64,
    /// How many nanoseconds ahead of that average a host may be.
    pub burst: u64,
}

impl Limits {
    /// `interval` and `burst` for so many new sessions in a second, all of which may come at once.
    #[must_use]
    pub const fn rate(per_second: u32) -> (u64, u64) {
        if per_second == 0 {
            return (0, 0);
        }
        let interval = 1_000_000_000 / per_second as u64;
        (interval, interval * (per_second as u64 - 1))
    }

    /// The records that a session of such a NAT gateway is counted in: bits of a [mark].
    #[inline(always)]
    #[must_use]
    pub const fn records(&self) -> u8 {
        let host = if self.sessions != 0 || self.interval != 0 { mark::HOST } else { 0 };
        let remote = if self.sessions_per_remote != 0 { mark::REMOTE } else { 0 };
        host | remote
    }
}

/// Where a session is counted, and the number of its NAT gateway then. 0: nowhere.
pub mod mark {
    /// In its host's record.
    pub const HOST: u8 = 0x40;
    /// In the record of its host and remote.
    pub const REMOTE: u8 = 0x80;
    /// Bits of the NAT gateway's number.
    pub const GATEWAY: u8 = 0x3f;

    /// The mark of a session through this NAT gateway that is counted in these records.
    #[inline(always)]
    #[must_use]
    pub const fn new(records: u8, gateway: u32) -> u8 {
        if records == 0 { 0 } else { records | gateway as u8 & GATEWAY }
    }
}

const _: () = assert!(crate::pool::MAX_GATEWAYS <= mark::GATEWAY as u32 + 1);

/// The value of `HOSTS`. The kernel may use a record's memory anew under whoever still looks at it; it writes the words
/// in their order, so `sessions` comes last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Record {
    /// Whose it is: its own key.
    pub key: FlowKey4,
    /// The nanosecond that the host's next session is due at, on average; it may be ahead by [`Limits::burst`].
    pub due: u64,
    /// Sessions; 0: the record is dead.
    pub sessions: u64,
}

/// Records `HOSTS` can hold unless told otherwise: one for each session.
pub const MAX_RECORDS: u32 = 262_144;

/// Words of [`Record`].
mod word {
    pub const KEY: u32 = 0;
    pub const DUE: u32 = 2;
    pub const SESSIONS: u32 = 3;
}

/// Tries of what other CPUs get in the way of.
const PATIENCE: u32 = 32;

/// The key of the record of a session's host, given its outbound key and its NAT gateway's number.
#[inline(always)]
#[must_use]
pub const fn host_key(outbound: &FlowKey4, gateway: u32) -> FlowKey4 {
    FlowKey4 {
        source: outbound.source,
        destination: 0,
        source_port: gateway as u16,
        destination_port: 0,
        protocol: 0,
        zone: outbound.zone,
        spare: [0; 2],
    }
}

/// The key of the record of a session's host and remote.
#[inline(always)]
#[must_use]
pub const fn remote_key(outbound: &FlowKey4, gateway: u32) -> FlowKey4 {
    FlowKey4 { source_port: gateway as u16, spare: [0; 2], ..*outbound }
}

/// What came of counting a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is counted.
    Yes,
    /// It would be one too many.
    Over,
    /// The record is dead, or another's by now: look it up anew.
    Gone,
    /// It is counted in a record that is another's by now, and must be taken out again ([`take_out`]).
    Elsewhere,
}

/// Counts a session in the record of `key`, unless there are `limit` in it; 0: no limit.
#[inline(always)]
pub fn count(record: impl Words, key: [u64; 2], limit: u32) -> Counted {
    let mut left = PATIENCE;
    while left > 0 {
        let before = record.load(word::SESSIONS);
        if before == 0 || !is_of(record, key) {
            return Counted::Gone;
        }
        if limit != 0 && before >= limit as u64 {
            return Counted::Over;
        }
        if record.compare_and_swap(word::SESSIONS, before, before + 1) {
            return if is_of(record, key) { Counted::Yes } else { Counted::Elsewhere };
        }
        left -= 1;
    }
    Counted::Over
}

/// Takes a session out that is counted in the record. True if it was the last: then the record is dead, and the caller's
/// to remove.
#[inline(always)]
pub fn take_out(record: impl Words) -> bool {
    record.add(word::SESSIONS, u64::MAX) == 1
}

/// Takes a turn for a new session at the nanosecond `now`; false if the host has had too many lately.
#[inline(always)]
pub fn take_turn(record: impl Words, now: u64, limits: &Limits) -> bool {
    let mut left = PATIENCE;
    while left > 0 {
        let due = record.load(word::DUE);
        let start = if due > now { due } else { now };
        if start - now > limits.burst {
            return false;
        }
        if record.compare_and_swap(word::DUE, due, start + limits.interval) {
            return true;
        }
        left -= 1;
    }
    false
}

/// The key that stands in a record.
#[inline(always)]
pub fn key_of(record: impl Words) -> [u64; 2] {
    [record.load(word::KEY), record.load(word::KEY + 1)]
}

#[inline(always)]
fn is_of(record: impl Words, key: [u64; 2]) -> bool {
    let found = key_of(record);
    found[0] == key[0] && found[1] == key[1]
}

/// Where the mark stands in the word of a flow's ports.
const MARK: u32 = 48;
const MARK_BITS: u64 = 0xff << MARK;

/// The mark of an outbound flow.
#[inline(always)]
pub fn mark_of(flow: impl Words) -> u8 {
    (flow.load(FLOW_PORTS) >> MARK) as u8
}

/// Takes the mark of an outbound flow whose session ends: of several who try, one gets it.
#[inline(always)]
pub fn take_mark(flow: impl Words) -> u8 {
    (flow.clear(FLOW_PORTS, MARK_BITS) >> MARK) as u8
}

/// Puts `new` in the place of the mark `old` of the outbound flow with this `key`, whatever TCP flags it has seen
/// meanwhile; false if it is another flow by now, or has another mark.
#[inline(always)]
pub fn replace_mark(flow: impl Words, key: [u64; 2], old: u8, new: u8) -> bool {
    let mut left = PATIENCE;
    while left > 0 {
        let before = flow.load(FLOW_PORTS);
        let is_it = flow.load(FLOW_KEY) == key[0] && before & crate::flow::KEY_BITS == key[1];
        if !is_it || (before >> MARK) as u8 != old {
            return false;
        }
        if flow.compare_and_swap(FLOW_PORTS, before, before & !MARK_BITS | (new as u64) << MARK) {
            return true;
        }
        left -= 1;
    }
    false
}
