//! Sessions: find, refresh, judge anew.

use nat_common::{
    clock::LATELY,
    config::Role,
    drop::DropReason,
    flow::{Direction, ENDING, FlowEntry4, FlowKey4, Hop, holds_flow},
    tcp,
};

use crate::{
    admit,
    assembly::{self, opaque},
    clock,
    count::Own,
    fib::{self, Query},
    foresee,
    header::field,
    hook::Hook,
    interface,
    packet::Packet,
    parse::Parsed,
    stop::Stop,
    table,
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
    /// Bytes of IP that the next link carries, where the packet is longer and may be fragmented; 0 otherwise.
    pub mtu: u16,
    /// The identification of a fragment, or of a packet that leaves in fragments, network order.
    pub identification: u16,
    /// The sequence number that a TCP session begins with.
    pub sequence: u32,
}

impl Rewrite {
    /// Notes where a packet comes from that is translated twice. What opens sessions is of no use to it any more.
    #[inline(always)]
    pub fn note_origin(&mut self, key: &FlowKey4) {
        (self.sequence, self.gateway) = (key.source, key.source_port);
    }

    /// Whether it is of a packet that is translated twice.
    #[inline(always)]
    pub const fn is_turned(&self) -> bool {
        self.sequence != 0
    }

    /// The address and port of [`Self::note_origin`], network order.
    #[inline(always)]
    pub const fn origin(&self) -> (u32, u16) {
        (self.sequence, self.gateway)
    }
}

/// The flow of `key`, and its rewrite.
///
/// The entry may be recycled for another key while it is read (invariant 7): the key is compared once more after the
/// rewrite was read, and what does not belong is no hit.
#[inline(always)]
pub fn find(key: &FlowKey4, own: Own, rewrite: &mut Rewrite) -> Option<*mut FlowEntry4> {
    let entry = match table::find(key) {
        Some(entry) => entry,
        None => {
            foresee::inbound(key);
            table::seek(key)?
        }
    };
    read(key, entry, rewrite, |hop| foretell(hop, own.last_hop(key.direction())))
}

/// Gives back `hop`, out of `last` if it stands there: most packets leave by the hop of the one before. The processor
/// foretells that from experience and goes on, with the redirect and with the next packet, while it waits for the memory
/// of the flow that only confirms it.
#[inline(always)]
fn foretell(hop: [u64; 2], last: *mut [u64; 2]) -> [u64; 2] {
    // SAFETY: an entry of this CPU's own.
    let known = unsafe { last.read_volatile() };
    // Copies of which the compiler does not know that they equal `hop` where they do.
    let copy = known.map(opaque);
    if (known[0] ^ hop[0]) | (known[1] ^ hop[1]) == 0 {
        return copy;
    }
    // SAFETY: as above.
    unsafe { last.write_volatile(hop) };
    hop
}

/// The same, with less code where a packet more or less does not count.
#[inline(always)]
pub fn seek(key: &FlowKey4, rewrite: &mut Rewrite) -> Option<*mut FlowEntry4> {
    read(key, table::seek(key)?, rewrite, |hop| hop)
}

#[inline(always)]
fn read(
    key: &FlowKey4,
    entry: *mut FlowEntry4,
    rewrite: &mut Rewrite,
    foretell: impl FnOnce([u64; 2]) -> [u64; 2],
) -> Option<*mut FlowEntry4> {
    // SAFETY: map values stay readable while the program runs; the volatile reads keep their order.
    unsafe {
        let hop = (&raw const (*entry).hop).cast::<[u64; 2]>().read_volatile();
        (&raw mut rewrite.hop).cast::<[u64; 2]>().write(foretell(hop));
        rewrite.address = (&raw const (*entry).address).read_volatile();
        rewrite.port = (&raw const (*entry).port).read_volatile();
    }
    // From memory: in registers the words would be stack that other paths need.
    // SAFETY: a key is its two words.
    let words = unsafe { (&raw const *key).cast::<[u64; 2]>().read_volatile() };
    table::holds(entry, words).then_some(entry)
}

/// Marks the flow as seen and lets the packet pass if it may: at once under the generation that judged the flow
/// last, after a new judgement otherwise.
#[inline(always)]
pub fn pass<P: Hook>(
    packet: &P,
    parsed: &Parsed,
    entry: *mut FlowEntry4,
    own: Own,
    generation: u32,
    role: &Role,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let tick = clock::now_by(own);
    let fits = u32::from(parsed.longest) <= role.mtu;
    // SAFETY: see `find`. Of all CPUs, only the one that carries this direction writes these fields.
    unsafe {
        let before = (&raw const (*entry).last_seen).read_volatile();
        if before != tick {
            (&raw mut (*entry).last_seen).write_volatile(tick);
            // Ageing marks a session as ending and then looks at `last_seen`; we set `last_seen` and then look at
            // the mark. With a barrier between, at least one side sees the other (invariant 6). What was seen lately
            // is not ended for being idle, and the barrier would keep this CPU from going on with the next packet.
            if tick.wrapping_sub(before) > LATELY || role.flags & Role::OUTBOUND_ALONE != 0 {
                assembly::barrier();
            }
        }
        let judged = (&raw const (*entry).generation).read_volatile() == generation && fits;
        if !judged && let Err(stop) = packet.judge(parsed, entry, generation, rewrite) {
            // A packet that may not pass does not keep its session alive (RFC 7857 §7).
            (&raw mut (*entry).last_seen).write_volatile(before);
            return Err(stop);
        }
        let packets = u64::from((*entry).packets) + packet.segments();
        (*entry).packets = packets as u32;
        if packets >> 32 != 0 {
            (*entry).packets_high += 1;
        }
        let bytes = (*entry).bytes.wrapping_add(u64::from(parsed.length));
        if parsed.key.protocol != protocol::TCP {
            (*entry).bytes = bytes;
        } else if parsed.tcp_flags & tcp::header::CONTROL | role.flags & Role::STREAMS != 0 {
            (*entry).bytes = bytes;
            packet.note(parsed, entry);
        } else {
            let seen = (*entry).tcp_seen;
            let now = tcp::go_on(seen);
            if now != seen {
                (*entry).tcp_seen = now;
            }
            // Read before; what is missing here is only so for the verifier.
            let sequence = packet.read::<u32>(parsed.l4 as usize + field::SEQUENCE).unwrap_or_default();
            (*entry).bytes = tcp::advance(bytes, u32::from_be(sequence).wrapping_add(parsed.length));
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
    let (before, last_seen, vpc) = unsafe {
        let before = (&raw const (*entry).generation).read_volatile();
        (before, (&raw const (*entry).last_seen).read_volatile(), (*entry).vpc)
    };
    if before == ENDING || !holds_flow(before) {
        return Err(Stop::Drop(DropReason::SessionEnding));
    }
    let query = match parsed.key.direction() {
        Direction::Outbound => {
            let mut target = Target::default();
            admit::leave(parsed, generation, &mut target)?;
            let gateway = admit::gateway_holding(rewrite.address, &target, generation)?;
            admit::outside(parsed, gateway, generation)?;
            if interface::gateway_of(parsed.key.destination, generation).is_some() {
                // To an Elastic IP there is no hop: the packet is turned round here.
                rewrite.hop = Hop::default();
                return judged(entry, last_seen, before, generation, rewrite);
            }
            Query::new(parsed, rewrite.address, parsed.key.destination, true)
        }
        Direction::Inbound => {
            admit::inside(parsed, vpc, rewrite.address, rewrite.port, generation)?;
            Query::new(parsed, parsed.key.source, rewrite.address, false)
        }
    };
    fib::hop::<P>(context, &query, generation, rewrite)?;
    judged(entry, last_seen, before, generation, rewrite)
}

/// Notes what a judgement has found, under a generation that may be the one `before`.
#[inline(always)]
fn judged(
    entry: *mut FlowEntry4,
    last_seen: u32,
    before: u32,
    generation: u32,
    rewrite: &Rewrite,
) -> Result<(), Stop> {
    // SAFETY: see `find`.
    unsafe { (*entry).hop = rewrite.hop };
    if before != generation && !table::replace_generation(entry, last_seen, before, generation) {
        // Another CPU carries this direction too, or ageing was faster.
        // SAFETY: see `find`.
        let now = unsafe { (&raw const (*entry).generation).read_volatile() };
        if now == ENDING || !holds_flow(now) {
            return Err(Stop::Drop(DropReason::SessionEnding));
        }
    }
    Ok(())
}
