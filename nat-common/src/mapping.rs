//! Mappings that do not depend on the remote (RFC 4787 §4.1): one external endpoint for all that an internal endpoint
//! sends.
//!
//! A mapping stands in `FLOWS4` as a session does, as two entries, toward the remote 0.0.0.0:0 and under a protocol of
//! its own: the insert of its inbound entry decides who owns an external endpoint toward all remotes. A session of it is
//! *held* in it: the mapping's outbound entry counts its sessions, and while there is one it stays. Where what comes in is
//! filtered, the inbound entry of a *permission* counts those toward one remote address in the same way.
//!
//! Neither carries packets. Ageing frees what counts no session.

use crate::{
    claim::{self, GENERATION},
    flow::{ENDING, FlowKey4, OUTSIDE, holds_flow},
    memory::Words,
    protocol,
};

/// Upper bit of the protocol in the key of a mapping, which no protocol that is translated has.
const MAPPING: u8 = 0x80;
/// The same of a permission.
const PERMISSION: u8 = 0xc0;

/// Bit of [`crate::flow::FlowEntry4::tcp_seen`] that no segment changes. Outbound: the session is held in its mapping;
/// inbound: in its permission.
pub const HELD: u8 = 1 << 7;

/// What may come in to an external endpoint from a remote that its internal endpoint has no session with (RFC 4787 §5).
pub mod filtering {
    /// Nothing.
    pub const BY_ENDPOINT: u8 = 0;
    /// What comes from an address that it has a session with.
    pub const BY_ADDRESS: u8 = 1;
    /// Everything.
    pub const NONE: u8 = 2;
}

/// Whether the entries of this protocol are no session's: a mapping's, or a permission.
#[inline(always)]
#[must_use]
pub const fn is_mapping(protocol: u8) -> bool {
    protocol & MAPPING != 0
}

/// Whether an entry of this protocol is a permission.
#[inline(always)]
#[must_use]
pub const fn is_permission(protocol: u8) -> bool {
    protocol & PERMISSION == PERMISSION
}

/// The protocol of the sessions of a mapping or permission.
#[inline(always)]
#[must_use]
pub const fn protocol_of(protocol: u8) -> u8 {
    if is_permission(protocol) { protocol & !PERMISSION } else { protocol & !MAPPING }
}

/// The outbound key of the mapping of a session's internal endpoint.
#[inline(always)]
#[must_use]
pub const fn outbound_key(session: &FlowKey4) -> FlowKey4 {
    FlowKey4 {
        destination: 0,
        destination_port: 0,
        protocol: session.protocol | MAPPING,
        spare: [0; 2],
        ..*session
    }
}

/// The inbound key of the mapping with the external endpoint that an inbound packet is addressed to.
#[inline(always)]
#[must_use]
pub const fn inbound_key(packet: &FlowKey4) -> FlowKey4 {
    FlowKey4 {
        source: 0,
        source_port: 0,
        protocol: packet.protocol | MAPPING,
        zone: OUTSIDE,
        spare: [0; 2],
        ..*packet
    }
}

/// The key of the permission for the remote address of an inbound packet.
#[inline(always)]
#[must_use]
pub const fn permission_key(packet: &FlowKey4) -> FlowKey4 {
    FlowKey4 {
        source_port: 0,
        protocol: packet.protocol | PERMISSION,
        zone: OUTSIDE,
        spare: [0; 2],
        ..*packet
    }
}

/// Whether packets of this protocol may come in without a session at all. Queries of ICMP may not: no host is meant to
/// answer for an address that all share (RFC 6269 §9).
#[inline(always)]
#[must_use]
pub const fn is_filtered_apart(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
}

/// Place of the word of [`crate::flow::FlowEntry4`] whose upper half counts sessions, and one session in it.
const COUNT: u32 = 6;
const ONE: u64 = 1 << 32;

/// Tries of what other CPUs get in the way of.
const PATIENCE: u32 = 32;

/// Sessions that are held in the entry.
#[inline(always)]
pub fn count(entry: impl Words) -> u32 {
    (entry.load(COUNT) >> 32) as u32
}

/// Holds a session in the entry that had this key; false if it is being freed, or another's by now.
#[inline(always)]
pub fn hold(entry: impl Words, key: [u64; 2]) -> bool {
    let mut left = PATIENCE;
    while left > 0 {
        let before = entry.load(COUNT);
        if !is_open(entry, key) {
            return false;
        }
        if entry.compare_and_swap(COUNT, before, before.wrapping_add(ONE)) {
            // Freeing looks at the count after it has marked the entry; this looks at the mark after it has counted.
            if is_open(entry, key) {
                return true;
            }
            let_go(entry);
            return false;
        }
        left -= 1;
    }
    false
}

/// Takes a session out that is held in the entry.
#[inline(always)]
pub fn let_go(entry: impl Words) {
    entry.add(COUNT, 0_u64.wrapping_sub(ONE));
}

/// Marks an entry without sessions as ending, so that it is the caller's to free; false if it has a session, or is
/// another's to free.
#[inline(always)]
pub fn end(entry: impl Words) -> bool {
    let word = entry.load(GENERATION);
    let (generation, last_seen) = (word as u32, (word >> 32) as u32);
    if generation == ENDING || !holds_flow(generation) || count(entry) != 0 {
        return false;
    }
    if !claim::replace_generation(entry, last_seen, generation, ENDING) {
        return false;
    }
    if count(entry) == 0 {
        return true;
    }
    claim::replace_generation(entry, last_seen, ENDING, generation);
    false
}

#[inline(always)]
fn is_open(entry: impl Words, key: [u64; 2]) -> bool {
    let generation = entry.load(GENERATION) as u32;
    holds_flow(generation) && generation != ENDING && claim::holds(entry, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: FlowKey4 = FlowKey4 {
        source: 1,
        destination: 2,
        source_port: 3,
        destination_port: 4,
        protocol: protocol::UDP,
        zone: 5,
        spare: [0; 2],
    };

    #[test]
    fn all_sessions_of_an_internal_endpoint_have_one_mapping() {
        let other = FlowKey4 { destination: 7, destination_port: 8, ..SESSION };
        assert_eq!(outbound_key(&SESSION), outbound_key(&other));
        assert_ne!(outbound_key(&SESSION), outbound_key(&FlowKey4 { protocol: protocol::TCP, ..SESSION }));
        assert_ne!(outbound_key(&SESSION), outbound_key(&FlowKey4 { zone: 6, ..SESSION }));
    }

    #[test]
    fn a_permission_is_for_all_ports_of_one_remote() {
        let packet = FlowKey4 { zone: OUTSIDE, ..SESSION };
        assert_eq!(permission_key(&packet), permission_key(&FlowKey4 { source_port: 9, ..packet }));
        assert_ne!(permission_key(&packet), permission_key(&FlowKey4 { source: 9, ..packet }));
        assert_ne!(permission_key(&packet), inbound_key(&packet));
    }

    #[test]
    fn a_mapping_remembers_its_protocol_and_is_no_session() {
        for protocol in [protocol::TCP, protocol::UDP, protocol::ICMP] {
            let session = FlowKey4 { protocol, ..SESSION };
            let (mapping, permission) = (outbound_key(&session).protocol, permission_key(&session).protocol);
            assert!(!is_mapping(protocol) && is_mapping(mapping) && is_mapping(permission));
            assert!(!is_permission(mapping) && is_permission(permission));
            assert_eq!((protocol_of(mapping), protocol_of(permission)), (protocol, protocol));
        }
    }
}
