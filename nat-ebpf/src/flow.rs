//! Sessions: find, refresh, judge anew.

use nat_common::{
    drop::DropReason,
    flow::{Direction, ENDING, FlowEntry4, FlowKey4, Hop},
    tcp,
};

use crate::{
    admit, assembly, clock,
    fib::{self, Query},
    hook::Hook,
    maps::FLOWS4,
    packet::Packet,
    parse::Parsed,
    stop::Stop,
};
use nat_common::{protocol, route::Target};

/// What a session does to a packet of one direction.
#[derive(Clone, Copy, Default)]
pub struct Rewrite {
    /// Where it leaves.
    pub hop: Hop,
    /// The new source (outbound) or destination (inbound) address, network order.
    pub address: u32,
    /// The new port or identifier, network order.
    pub port: u16,
    /// The NAT gateway of a session that is about to be opened, counted from 1; 0 for none.
    pub gateway: u16,
}

/// The flow of `key`, and its rewrite.
///
/// The element may be recycled for another key while it is read (invariant 7): the rewrite is read first, the key
/// that stands in the element afterwards, and what does not belong is no hit.
#[inline(always)]
pub fn find(key: &FlowKey4, rewrite: &mut Rewrite) -> Option<*mut FlowEntry4> {
    let entry = FLOWS4.get_ptr_mut(key)?;
    // SAFETY: map values stay readable while the program runs; the volatile reads keep their order.
    unsafe {
        rewrite.hop = (&raw const (*entry).hop).read_volatile();
        rewrite.address = (&raw const (*entry).address).read_volatile();
        rewrite.port = (&raw const (*entry).port).read_volatile();
        let source = (&raw const (*entry).source).read_volatile();
        let destination = (&raw const (*entry).destination).read_volatile();
        let source_port = (&raw const (*entry).source_port).read_volatile();
        let destination_port = (&raw const (*entry).destination_port).read_volatile();
        let belongs = source == key.source
            && destination == key.destination
            && source_port == key.source_port
            && destination_port == key.destination_port;
        belongs.then_some(entry)
    }
}

/// Marks the flow as seen and lets the packet pass if it may: at once under the generation that judged the flow
/// last, after a new judgement otherwise.
#[inline(always)]
pub fn pass<P: Hook>(
    packet: &P,
    parsed: &Parsed,
    entry: *mut FlowEntry4,
    generation: u32,
    fits: bool,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let tick = clock::now();
    // SAFETY: see `find`. Of all CPUs, only the one that carries this direction writes these fields.
    unsafe {
        let before = (&raw const (*entry).last_seen).read_volatile();
        if before != tick {
            // Ageing marks a session as ending and then looks at `last_seen`; we set `last_seen` and then look at
            // the mark. With a barrier between, at least one side sees the other (invariant 6).
            (&raw mut (*entry).last_seen).write_volatile(tick);
            assembly::barrier();
        }
        let judged = (&raw const (*entry).generation).read_volatile() == generation && fits;
        if !judged && let Err(stop) = packet.judge(parsed, entry, generation, rewrite) {
            // A packet that may not pass does not keep its session alive (RFC 7857 §7).
            (&raw mut (*entry).last_seen).write_volatile(before);
            return Err(stop);
        }
        (*entry).packets += packet.segments();
        (*entry).bytes += u64::from(parsed.length);
        if parsed.key.protocol == protocol::TCP {
            let seen = (*entry).tcp_seen;
            let now = tcp::observe(seen, parsed.tcp_flags);
            if now != seen {
                (*entry).tcp_seen = now;
            }
        }
    }
    Ok(())
}

/// Asks NACLs, route and hop anew, and notes that this generation has been asked.
#[inline(always)]
pub fn judge<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    entry: *mut FlowEntry4,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    // SAFETY: see `find`.
    let zone = unsafe {
        if (&raw const (*entry).generation).read_volatile() == ENDING {
            return Err(Stop::Drop(DropReason::SessionEnding));
        }
        (*entry).zone
    };
    let query = match parsed.key.direction() {
        Direction::Outbound => {
            let mut target = Target::default();
            admit::leave(parsed, generation, &mut target)?;
            let gateway = admit::gateway_holding(rewrite.address, &target, generation)?;
            admit::outside(parsed, gateway, generation)?;
            Query::new(parsed, rewrite.address, parsed.key.destination, true)
        }
        Direction::Inbound => {
            admit::inside(parsed, zone, rewrite.address, rewrite.port, generation)?;
            Query::new(parsed, parsed.key.source, rewrite.address, false)
        }
    };
    fib::hop::<P>(context, &query, generation, &mut rewrite.hop)?;
    // SAFETY: see `find`.
    unsafe {
        (*entry).hop = rewrite.hop;
        (&raw mut (*entry).generation).write_volatile(generation);
    }
    Ok(())
}
