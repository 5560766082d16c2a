//! New sessions: a free port, and both flows.
//!
//! The insert of the inbound flow decides who owns a port toward a remote (invariant 3); there is no lock. Which ports
//! are tried, and in which order, stands in [`nat_common::search`].

use nat_common::{
    claim::Refusal,
    counter::Counters,
    drop::DropReason,
    flow::FlowEntry4,
    mapping::HELD,
    pool::{Gateway, strategy},
    protocol, tcp,
};

use crate::{
    admit, choose, count,
    flow::{self, Rewrite},
    host,
    mapping::{self, Mapped},
    opening::{self, Opening, Order},
    parse::Parsed,
    stop::{Reply, Stop},
};

/// How often the endpoint of a session is looked for anew: where another CPU was faster with the mapping, and without
/// a mapping where there is none to be had.
const ATTEMPTS: u32 = 3;

/// Opens the session of an outbound packet that came in on `queue`; `rewrite` brings the NAT gateway and the hop, and
/// takes the endpoint.
#[inline(always)]
pub fn open(parsed: &Parsed, generation: u32, queue: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
    Stop::decode(open_session(parsed, generation, queue, rewrite))
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn open_session(parsed: *const Parsed, generation: u32, queue: u32, rewrite: *mut Rewrite) -> u64 {
    // SAFETY: callers pass references; the verifier asks for the checks against null.
    let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
        return Stop::encode(Err(Stop::Drop(DropReason::NotConfigured)));
    };
    let (Some(opening), Some(gateway)) =
        (Opening::of_this_cpu(), admit::gateway(u32::from(rewrite.gateway).wrapping_sub(1), generation))
    else {
        return Stop::encode(Err(Stop::Drop(DropReason::NoRoute)));
    };
    opening.order = Order {
        generation,
        queue,
        sequence: rewrite.sequence,
        gateway: rewrite.gateway,
        flags: gateway.flags,
        strategy: gateway.strategy,
    };
    Stop::encode(open_pair(opening, parsed, rewrite))
}

#[inline(always)]
fn open_pair(opening: &mut Opening, parsed: &Parsed, rewrite: &mut Rewrite) -> Result<(), Stop> {
    opening.mark = 0;
    if opening.order.flags & Gateway::LIMITED != 0 {
        opening.mark = host::admit(&parsed.key, opening.order.gateway, opening.order.generation)?;
    }
    if !endpoint(opening, parsed) {
        host::release(&parsed.key, opening.mark);
        if opening.twin && flow::seek(&parsed.key, rewrite).is_some() {
            return Ok(());
        }
        return Err(Stop::Reply(Reply::Prohibited(opening.refusal())));
    }
    rewrite.address = opening.entry.destination;
    rewrite.port = opening.entry.destination_port;
    opening.remember(&parsed.key);
    become_outbound(opening, parsed, rewrite);
    match opening.insert_entry() {
        Ok(_) => {
            count::count(|counters| opened(counters, parsed));
            if opening.order.strategy == strategy::LEAST_USED {
                choose::count_session(rewrite.address, true);
            }
            Ok(())
        }
        Err(refusal) => {
            opening.withdraw(rewrite.port);
            mapping::let_go(&parsed.key, rewrite.address, rewrite.port, opening.held_in);
            host::release(&parsed.key, opening.mark);
            // Another CPU has opened this very session meanwhile: the packet belongs to that one.
            if refusal == Refusal::Exists && flow::seek(&parsed.key, rewrite).is_some() {
                return Ok(());
            }
            Err(Stop::Drop(DropReason::TableFull))
        }
    }
}

/// Inserts the inbound flow at an endpoint of the session's own toward its remote, or at its mapping's; false if there is
/// none.
#[inline(always)]
fn endpoint(opening: &mut Opening, parsed: &Parsed) -> bool {
    opening.stand_alone();
    opening.mapped = mapping::is_kept(opening.order.flags, parsed.key.protocol);
    let mut left = ATTEMPTS;
    while left > 0 {
        left -= 1;
        if opening.mapped {
            match mapping::join(&parsed.key) {
                Mapped::Joined => return true,
                Mapped::Refused if opening.order.flags & Gateway::OVERLOAD != 0 => opening.mapped = false,
                Mapped::Refused => return false,
                Mapped::Missing => {}
            }
        }
        opening::begin(&parsed.key);
        opening.claim(&parsed.key);
        if !opening.mapped {
            return opening.claimed;
        }
        if opening.claimed {
            mapping::publish(&parsed.key);
        } else if opening.order.flags & Gateway::OVERLOAD == 0 {
            return false;
        } else {
            opening.mapped = false;
        }
    }
    false
}

#[inline(always)]
fn opened(counters: &mut Counters, parsed: &Parsed) {
    counters.sessions_opened += 1;
    if parsed.key.protocol == protocol::TCP {
        counters.connection_attempts += 1;
    }
}

/// Has the entry, the session's inbound flow until now, become its outbound one.
#[inline(always)]
fn become_outbound(opening: &mut Opening, parsed: &Parsed, rewrite: &Rewrite) {
    let seen = if parsed.key.protocol == protocol::TCP { tcp::SYN } else { 0 };
    // Other protocols have no sequence number, and nobody asks where their stream has got to.
    let end = opening.order.sequence.wrapping_add(parsed.length);
    let tick = opening.entry.opened;
    opening.entry = FlowEntry4 {
        address: rewrite.address,
        port: rewrite.port,
        vpc: opening.mark,
        tcp_seen: seen | opening.held_in & HELD,
        generation: opening.order.generation,
        last_seen: tick,
        opened: tick,
        packets: 1,
        bytes: tcp::begin(parsed.length.into(), end),
        hop: rewrite.hop,
        ..FlowEntry4::of(&parsed.key)
    };
}
