//! The kernel's routing and neighbour tables: where a packet leaves.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup,
    },
    helpers::generated::bpf_fib_lookup as lookup,
};
use nat_common::{config::slot, drop::DropReason, event::Event, flow::Hop};

use crate::{
    count, hops, interface,
    maps::EVENTS,
    packet::Packet,
    parse::Parsed,
    stop::{Reply, Stop},
};

/// The loopback device. Looking up on its behalf lets the real interfaces keep forwarding switched off, so that the
/// kernel never forwards an internal packet by itself, whatever happens to this program.
const LOOPBACK: u32 = 1;
const AF_INET: u8 = 2;

/// What the routing table is asked.
#[derive(Clone, Copy, Default)]
pub struct Query {
    /// Source address as the packet leaves, network order.
    pub source: u32,
    /// Destination address as the packet leaves, network order.
    pub destination: u32,
    /// Bytes of the longest IP packet that is to pass.
    pub length: u16,
    /// Whether the packet must not be fragmented.
    pub atomic: bool,
    /// The side it must leave on: an internal packet never leaves elsewhere by mistake (invariant 1).
    pub external: bool,
}

impl Query {
    /// The question for a packet that will carry these addresses.
    #[inline(always)]
    pub const fn new(parsed: &Parsed, source: u32, destination: u32, external: bool) -> Self {
        Self { source, destination, length: parsed.longest, atomic: parsed.atomic, external }
    }
}

/// Where the packet leaves, or why it cannot.
#[inline(never)]
pub fn hop<P: Packet>(
    context: *mut P::Context,
    query: &Query,
    generation: u32,
    hop: &mut Hop,
) -> Result<(), Stop> {
    count::count(|counters| counters.hop_lookups += 1);
    if let Some(found) = hops::recall(query, generation) {
        *hop = found;
        return Ok(());
    }
    // SAFETY: all-zero is a valid `bpf_fib_lookup`; the helper reads no more than what is set below.
    let mut parameters: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    parameters.family = AF_INET;
    parameters.ifindex = LOOPBACK;
    parameters.__bindgen_anon_1.tot_len = query.length;
    parameters.__bindgen_anon_3.ipv4_src = query.source;
    parameters.__bindgen_anon_4.ipv4_dst = query.destination;
    // SAFETY: the parameters are ours and of the size given.
    let answer =
        unsafe { lookup(context.cast(), &raw mut parameters, size_of::<bpf_fib_lookup>() as i32, 0) } as u32;
    if answer == BPF_FIB_LKUP_RET_NO_NEIGH {
        // SAFETY: the helper has put the next hop's address there.
        ask_to_resolve(parameters.ifindex, unsafe { parameters.__bindgen_anon_4.ipv4_dst });
        return Err(Stop::Drop(DropReason::NoNeighbour));
    }
    if answer == BPF_FIB_LKUP_RET_FRAG_NEEDED {
        // SAFETY: with this answer the helper has put the MTU there.
        let mtu = unsafe { parameters.__bindgen_anon_1.mtu_result };
        let reply = Reply::FragmentationNeeded(mtu);
        return Err(if query.atomic { Stop::Reply(reply) } else { Stop::Drop(DropReason::TooBig) });
    }
    if answer != BPF_FIB_LKUP_RET_SUCCESS {
        return Err(Stop::Drop(DropReason::Unreachable));
    }
    let role = interface::role(parameters.ifindex, slot(generation));
    let Some(role) = role else { return Err(Stop::Drop(DropReason::Unreachable)) };
    if (query.external && !role.is_external()) || (!query.external && role.zone == 0) {
        return Err(Stop::Drop(DropReason::Unreachable));
    }
    hop.destination = parameters.dmac;
    hop.source = parameters.smac;
    hop.device = u32::from(role.vlan) << 20 | role.device;
    hops::remember(query, generation, hop);
    Ok(())
}

/// Tells the controller that a next hop's MAC address is missing.
#[inline(always)]
fn ask_to_resolve(ifindex: u32, address: u32) {
    if let Some(mut record) = EVENTS.reserve::<Event>(0) {
        record.write(Event { kind: Event::NO_NEIGHBOUR, ifindex, address, host: 0 });
        record.submit(0);
    }
}
