//! The kernel's routing and neighbour tables: where a packet leaves.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, bpf_fib_lookup,
    },
    helpers::generated::bpf_fib_lookup as lookup,
};
use nat_common::{
    config::slot,
    drop::DropReason,
    event::Event,
    neighbour::{Neighbour, UNANSWERED_LIFETIME},
    slow::MAX_BYTES,
};

use crate::{
    clock, count,
    flow::Rewrite,
    hops, interface,
    maps::{EVENTS, UNANSWERED},
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
        Self { source, destination, length: parsed.longest, atomic: parsed.division.is_atomic(), external }
    }
}

/// Where the packet leaves, or why it cannot.
#[inline(never)]
pub fn hop<P: Packet>(
    context: *mut P::Context,
    query: &Query,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    count::count(|counters| counters.hop_lookups += 1);
    if let Some(found) = hops::recall(query, generation) {
        rewrite.hop = found;
        return Ok(());
    }
    // SAFETY: all-zero is a valid `bpf_fib_lookup`; the helper reads no more than what is set below.
    let mut parameters: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    parameters.family = AF_INET;
    parameters.ifindex = LOOPBACK;
    parameters.__bindgen_anon_1.tot_len = query.length;
    parameters.__bindgen_anon_3.ipv4_src = query.source;
    parameters.__bindgen_anon_4.ipv4_dst = query.destination;
    let mut answer = ask::<P>(context, &mut parameters);
    if answer == BPF_FIB_LKUP_RET_FRAG_NEEDED {
        // SAFETY: with this answer the helper has put the MTU there.
        let mtu = unsafe { parameters.__bindgen_anon_1.mtu_result };
        if query.atomic {
            return Err(Stop::Reply(Reply::FragmentationNeeded(mtu)));
        }
        // Before its session is refreshed: what stands for many packets is not one datagram, and some are too large to be
        // handed over.
        if query.length as usize > MAX_BYTES || P::attach(context).segment_payload() != 0 {
            return Err(Stop::Drop(DropReason::TooBig));
        }
        rewrite.mtu = mtu;
        // Its fragments will fit.
        parameters.ifindex = LOOPBACK;
        parameters.__bindgen_anon_1.tot_len = 1;
        answer = ask::<P>(context, &mut parameters);
    }
    if answer == BPF_FIB_LKUP_RET_NO_NEIGH {
        // SAFETY: the helper has put the next hop's address there.
        return Err(no_neighbour(parameters.ifindex, unsafe { parameters.__bindgen_anon_4.ipv4_dst }));
    }
    if answer != BPF_FIB_LKUP_RET_SUCCESS {
        return Err(no_way(answer));
    }
    let role = interface::role(parameters.ifindex, slot(generation));
    let Some(role) = role else {
        return Err(Stop::Reply(Reply::NetworkUnreachable(DropReason::Unreachable)));
    };
    if (query.external && !role.is_external()) || (!query.external && role.zone == 0) {
        return Err(Stop::Reply(Reply::NetworkUnreachable(DropReason::Unreachable)));
    }
    let hop = &mut rewrite.hop;
    hop.destination = parameters.dmac;
    hop.source = parameters.smac;
    hop.device = u32::from(role.vlan) << 20 | role.device;
    if rewrite.mtu == 0 {
        hops::remember(query, generation, &rewrite.hop);
    }
    Ok(())
}

/// The MTU of the path from `source` to `destination` (both network order), or `unknown` where the kernel has none.
#[inline(never)]
pub fn path_mtu<P: Packet>(context: *mut P::Context, source: u32, destination: u32, unknown: u16) -> u16 {
    // SAFETY: as for `hop`.
    let mut parameters: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    parameters.family = AF_INET;
    parameters.ifindex = LOOPBACK;
    // Zero would ask for no MTU at all.
    parameters.__bindgen_anon_1.tot_len = 1;
    parameters.__bindgen_anon_3.ipv4_src = source;
    parameters.__bindgen_anon_4.ipv4_dst = destination;
    // SAFETY: as for `hop`; with success the helper has put the MTU there.
    unsafe {
        let size = size_of::<bpf_fib_lookup>() as i32;
        let answer = lookup(context.cast(), &raw mut parameters, size, 0) as u32;
        if answer == BPF_FIB_LKUP_RET_SUCCESS { parameters.__bindgen_anon_1.mtu_result } else { unknown }
    }
}

/// What the kernel's answer means to the sender: what its own forwarding would say of the types of routes.
#[inline(always)]
const fn no_way(answer: u32) -> Stop {
    match answer {
        BPF_FIB_LKUP_RET_BLACKHOLE => Stop::Drop(DropReason::Unreachable),
        BPF_FIB_LKUP_RET_UNREACHABLE => Stop::Reply(Reply::HostUnreachable(DropReason::Unreachable)),
        BPF_FIB_LKUP_RET_PROHIBIT => Stop::Reply(Reply::Prohibited(DropReason::Unreachable)),
        _ => Stop::Reply(Reply::NetworkUnreachable(DropReason::Unreachable)),
    }
}

/// The next hop's MAC address is missing: the controller is asked to resolve it, and its sender told if that was in vain
/// before (RFC 1812 §4.3.3.1).
#[inline(always)]
fn no_neighbour(ifindex: u32, address: u32) -> Stop {
    ask_to_resolve(ifindex, address);
    let since = UNANSWERED.get_ptr(Neighbour { ifindex, address });
    // SAFETY: a word of a map value.
    match since.map(|since| unsafe { since.read_volatile() }) {
        // The controller's clock may be a tick ahead of this CPU's.
        Some(since) if clock::now().wrapping_add(1).wrapping_sub(since) <= UNANSWERED_LIFETIME + 1 => {
            Stop::Reply(Reply::HostUnreachable(DropReason::NoNeighbour))
        }
        _ => Stop::Drop(DropReason::NoNeighbour),
    }
}

/// What the kernel's tables answer.
#[inline(always)]
fn ask<P: Packet>(context: *mut P::Context, parameters: &mut bpf_fib_lookup) -> u32 {
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the parameters are the caller's and of the size given.
    unsafe { lookup(context.cast(), parameters, size, 0) as u32 }
}

/// Tells the controller that a next hop's MAC address is missing.
#[inline(always)]
fn ask_to_resolve(ifindex: u32, address: u32) {
    if let Some(mut record) = EVENTS.reserve::<Event>(0) {
        record.write(Event { kind: Event::NO_NEIGHBOUR, ifindex, address, host: 0 });
        record.submit(0);
    }
}
