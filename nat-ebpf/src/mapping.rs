//! Mappings that do not depend on the remote, where a NAT gateway keeps them. How they stand in the flow table, and how
//! sessions are held in them, stands in [`nat_common::mapping`].

use nat_common::{
    claim::{Place, Refusal},
    flow::{FlowEntry4, FlowKey4, UNJUDGED},
    mapping::{self, HELD, filtering},
    pool::Gateway,
    protocol, tcp,
};

use crate::{
    admit, clock,
    flow::{self, Rewrite},
    interface,
    opening::{self, Opening},
    parse::Parsed,
    table,
    words::MapWords,
};

/// Bit of [`Opening::held_in`] beside [`HELD`]: the session is held in a permission too.
const PERMITTED: u8 = 1 << 6;

/// What came of a session's wish to use the mapping of its internal endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mapped {
    /// Its inbound flow stands there.
    Joined,
    /// There is no mapping yet.
    Missing,
    /// The external endpoint is another session's toward this remote, or the table is full.
    Refused,
}

/// Whether a NAT gateway with these flags keeps mappings for this protocol.
#[inline(always)]
pub fn is_kept(flags: u8, protocol: u8) -> bool {
    flags & Gateway::ENDPOINT_INDEPENDENT != 0
        && matches!(protocol, protocol::TCP | protocol::UDP | protocol::ICMP)
}

/// Has the session of this outbound key, which this CPU opens, use the mapping of its internal endpoint, and inserts its
/// inbound flow.
#[inline(always)]
pub fn join(outbound: &FlowKey4) -> Mapped {
    match mapping_join(outbound) {
        JOINED => Mapped::Joined,
        MISSING => Mapped::Missing,
        _ => Mapped::Refused,
    }
}

const JOINED: u64 = 0;
const MISSING: u64 = 1;
const REFUSED: u64 = 2;

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn mapping_join(outbound: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return REFUSED };
    let Some(opening) = Opening::of_this_cpu() else { return REFUSED };
    let generation = opening.order.generation;
    let number = u32::from(opening.order.gateway).wrapping_sub(1);
    let Some(gateway) = admit::gateway(number, generation) else { return REFUSED };
    opening.probe = mapping::outbound_key(outbound);
    let Some(entry) = table::seek(&opening.probe) else { return MISSING };
    // SAFETY: a word of a map value.
    if interface::gateway_of(unsafe { (*entry).address }, generation) != Some(number) {
        // Its Elastic IP was withdrawn: it goes with its sessions.
        return MISSING;
    }
    if !mapping::hold(words_of(entry), opening.probe.words()) {
        return MISSING;
    }
    opening.entry = opening::inbound_entry(outbound, clock::now());
    // SAFETY: map values stay readable while the program runs; while a session is held in it the mapping stays.
    unsafe {
        opening.entry.destination = (*entry).address;
        opening.entry.destination_port = (*entry).port;
    }
    opening.held_in = HELD;
    if gateway.filtering == filtering::BY_ADDRESS && mapping::is_filtered_apart(outbound.protocol) {
        if mapping_permit() == 0 {
            return give_up(opening, outbound);
        }
        opening.held_in |= PERMITTED;
        opening.entry.tcp_seen = HELD;
    }
    match opening.insert_entry() {
        Ok(place) => {
            opening.place = place;
            opening.claimed = true;
            JOINED
        }
        Err(refusal) => {
            opening.twin = refusal == Refusal::Exists && is_twin(opening);
            opening.table_full = refusal == Refusal::Full;
            give_up(opening, outbound)
        }
    }
}

/// Lets go of what the opening is held in.
#[inline(always)]
fn give_up(opening: &mut Opening, outbound: &FlowKey4) -> u64 {
    let (address, port) = (opening.entry.destination, opening.entry.destination_port);
    mapping_let_go(outbound, endpoint(address, port), opening.held_in.into());
    opening.held_in = 0;
    REFUSED
}

/// Whether the flow that stands in the opening's place belongs to the same internal endpoint.
#[inline(always)]
fn is_twin(opening: &Opening) -> bool {
    let Some(entry) = table::seek(&opening.entry.key()) else { return true };
    // SAFETY: map values stay readable while the program runs.
    unsafe { (*entry).address == opening.entry.address && (*entry).port == opening.entry.port }
}

/// Holds this CPU's opening in the permission for its remote address, and makes it if there is none: 1 if it is held.
/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn mapping_permit() -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 0 };
    opening.probe = mapping::permission_key(&opening.entry.key());
    let mut left = 3;
    while left > 0 {
        left -= 1;
        if let Some(entry) = table::seek(&opening.probe) {
            if mapping::hold(words_of(entry), opening.probe.words()) {
                return 1;
            }
            continue;
        }
        match insert_permission(opening) {
            Ok(_) => return 1,
            Err(Refusal::Full) => {
                opening.table_full = true;
                return 0;
            }
            Err(_) => {}
        }
    }
    0
}

/// Inserts the opening's entry under the key of its permission for a moment: there is no stack for a copy.
#[inline(always)]
fn insert_permission(opening: &mut Opening) -> Result<Place, Refusal> {
    let (port, protocol) = (opening.entry.source_port, opening.entry.protocol);
    (opening.entry.source_port, opening.entry.protocol) = (0, opening.probe.protocol);
    opening.entry.packets = 1;
    let inserted = opening.insert_entry();
    (opening.entry.source_port, opening.entry.protocol) = (port, protocol);
    opening.entry.packets = 0;
    inserted
}

/// Inserts the outbound entry of the mapping that this CPU's opening has claimed an external endpoint for, or gives that
/// back.
#[inline(always)]
pub fn publish(outbound: &FlowKey4) {
    mapping_publish(outbound);
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn mapping_publish(outbound: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return 0 };
    let Some(opening) = Opening::of_this_cpu() else { return 0 };
    let (address, port) = (opening.entry.destination, opening.entry.destination_port);
    let inbound = opening.entry;
    opening.entry =
        FlowEntry4 { address, port, vpc: 0, ..with_key(&inbound, &mapping::outbound_key(outbound)) };
    if opening.insert_entry().is_err() {
        opening.withdraw(port);
    }
    0
}

/// The same entry under another key.
#[inline(always)]
fn with_key(entry: &FlowEntry4, key: &FlowKey4) -> FlowEntry4 {
    FlowEntry4 {
        source: key.source,
        destination: key.destination,
        source_port: key.source_port,
        destination_port: key.destination_port,
        protocol: key.protocol,
        zone: key.zone,
        tcp_seen: 0,
        generation: UNJUDGED,
        ..*entry
    }
}

/// Lets go of what a session with this outbound key and this external endpoint is held in, as `held_in` says.
#[inline(always)]
pub fn let_go(outbound: &FlowKey4, address: u32, port: u16, held_in: u8) {
    if held_in != 0 {
        mapping_let_go(outbound, endpoint(address, port), held_in.into());
    }
}

/// What the two flows of a session say of where it is held.
#[inline(always)]
pub fn held_in(outbound: &FlowEntry4, inbound: &FlowEntry4) -> u8 {
    let permitted = if inbound.tcp_seen & HELD != 0 { PERMITTED } else { 0 };
    outbound.tcp_seen & HELD | permitted
}

#[inline(always)]
const fn endpoint(address: u32, port: u16) -> u64 {
    address as u64 | (port as u64) << 32
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn mapping_let_go(outbound: *const FlowKey4, endpoint: u64, held_in: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return 0 };
    if held_in & u32::from(PERMITTED) != 0 {
        let packet = FlowKey4 {
            source: outbound.destination,
            destination: endpoint as u32,
            destination_port: (endpoint >> 32) as u16,
            ..*outbound
        };
        let_go_of(&mapping::permission_key(&packet));
    }
    if held_in & u32::from(HELD) != 0 {
        let_go_of(&mapping::outbound_key(outbound));
    }
    0
}

#[inline(always)]
fn let_go_of(key: &FlowKey4) {
    if let Some(entry) = table::seek(key) {
        mapping::let_go(words_of(entry));
    }
}

/// The mapping, or the permission, that lets an inbound packet of no session in; its internal endpoint in `rewrite`.
#[inline(always)]
pub fn accepting(packet: &FlowKey4, gateway: &Gateway, rewrite: &mut Rewrite) -> Option<*mut FlowEntry4> {
    if !mapping::is_filtered_apart(packet.protocol) {
        return None;
    }
    let key = match gateway.filtering {
        filtering::BY_ENDPOINT => return None,
        filtering::BY_ADDRESS => mapping::permission_key(packet),
        _ => mapping::inbound_key(packet),
    };
    flow::seek(&key, rewrite)
}

/// What a TCP segment that begins no connection is to the mapping of its internal endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The answer to a connection from outside that has been let in: it opens the session.
    Opens,
    /// The refusal of such a connection: it goes out by the mapping, and opens nothing (RFC 7857 §7.1).
    Passes,
    /// Neither.
    Stray,
}

/// What a packet that begins no connection is; the external endpoint of the mapping in `rewrite`.
#[inline(always)]
pub fn answer(parsed: &Parsed, gateway: &Gateway, rewrite: &mut Rewrite) -> Answer {
    use tcp::header::{ACK, FIN, RST, SYN};
    let key = &parsed.key;
    let lets_in = is_kept(gateway.flags, key.protocol) && gateway.filtering != filtering::BY_ENDPOINT;
    if key.protocol != protocol::TCP || !lets_in {
        return Answer::Stray;
    }
    let answer = match parsed.tcp_flags & (SYN | ACK | FIN | RST) {
        flags if flags == SYN | ACK => Answer::Opens,
        flags if flags & RST != 0 => Answer::Passes,
        _ => return Answer::Stray,
    };
    if flow::seek(&mapping::outbound_key(key), rewrite).is_some() { answer } else { Answer::Stray }
}

/// Whether there is a mapping with the external endpoint that a packet is addressed to.
#[inline(always)]
pub fn is_mapped(packet: &FlowKey4) -> bool {
    mapping::is_filtered_apart(packet.protocol) && table::seek(&mapping::inbound_key(packet)).is_some()
}

/// Marks the entry as ending if no session is held in it: then it is the caller's to free.
#[inline(always)]
pub fn end(entry: *mut FlowEntry4) -> bool {
    mapping::end(words_of(entry))
}

#[inline(always)]
fn words_of(entry: *mut FlowEntry4) -> MapWords {
    MapWords::new(entry.cast())
}
