//! The benchmark's driver: writes a packet of a known flow over whatever the last round left, and hands it to the
//! program under measurement by a tail call. What that costs is measured with an empty program in its place.
//!
//! The translating program takes frames in several buffers (`frags`), and the kernel lets only programs that agree on
//! that call each other: hence these take them too, though their own frame is the smallest.
#![no_std]
#![no_main]

#[allow(dead_code, reason = "the driver writes headers and needs little else of what the data plane knows")]
mod header;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::{Array, ProgramArray},
    programs::{TcContext, XdpContext},
};
use nat_common::{bench::Orders, flow::FlowKey4, protocol};

use crate::header::{ETHERNET, Ethernet, IPV4, Ipv4, Udp, ethertype};

/// What to do; the driver counts on in it.
#[map]
static BENCH_ORDERS: Array<Orders> = Array::with_max_entries(1, 0);

/// The flows to cycle through.
#[map]
static BENCH_FLOWS: Array<FlowKey4> = Array::with_max_entries(1, 0);

/// The program under measurement.
#[map]
static BENCH_TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The program that [`bench_queue`] calls.
#[map]
static BENCH_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Bytes of IP in every packet: a UDP datagram of 18 bytes, which fills the smallest Ethernet frame.
const LENGTH: u16 = 46;

/// One packet.
#[xdp(frags)]
pub fn bench_driver(context: XdpContext) -> u32 {
    if write_next(&context).is_some() {
        // SAFETY: the map holds nothing but an XDP program.
        unsafe { BENCH_TARGET.tail_call(&context, 0) };
    }
    // Only reached when there was nothing to call.
    xdp_action::XDP_ABORTED
}

/// Makes the packet one that came in on the queue that its priority names, counted from 1: a program that is run on a
/// single packet can be told its priority, but not its queue.
#[classifier]
pub fn bench_queue(context: TcContext) -> i32 {
    let buffer = context.skb.skb;
    // SAFETY: the context is the program's own; the map holds nothing but a TC program.
    unsafe {
        (*buffer).queue_mapping = (*buffer).priority;
        BENCH_TC.tail_call(&context, 0);
    }
    // Only reached when there was nothing to call.
    TC_ACT_SHOT
}

/// The program that does nothing.
#[xdp(frags)]
pub fn bench_empty(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The program that only forwards: MACs and a redirect, the least that any gateway does.
#[xdp(frags)]
pub fn bench_bare(context: XdpContext) -> u32 {
    let start = context.data();
    if start + ETHERNET > context.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: checked against the packet's end; the helper takes no pointers.
    unsafe {
        *(start as *mut [u32; 3]) = [0x0000_0002, 0x0002_0100, 0x0200_0000];
        bpf_redirect((*context.ctx).ingress_ifindex, 0) as u32
    }
}

/// Writes a packet of the next flow.
#[inline(always)]
fn write_next(context: &XdpContext) -> Option<()> {
    let orders = BENCH_ORDERS.get_ptr_mut(0)?;
    // SAFETY: the driver runs on one CPU at a time.
    let orders = unsafe { &mut *orders };
    let number = if orders.next < orders.flows { orders.next } else { 0 };
    orders.next = number + 1;
    let key = BENCH_FLOWS.get(number)?;
    let start = context.data();
    if start + ETHERNET + IPV4 + size_of::<Udp>() > context.data_end() {
        return None;
    }
    // SAFETY: checked against the packet's end; packet memory may be written at any alignment on this target.
    unsafe {
        (*(start as *mut Ethernet)).ethertype = ethertype::IPV4;
        *((start + ETHERNET) as *mut Ipv4) = ip(key);
        *((start + ETHERNET + IPV4) as *mut Udp) = Udp {
            source: key.source_port,
            destination: key.destination_port,
            length: (LENGTH - IPV4 as u16).to_be(),
            // Any sum but "none": a NAT brings it up to date without looking.
            checksum: 0x5a5a,
        };
    }
    Some(())
}

#[inline(always)]
fn ip(key: &FlowKey4) -> Ipv4 {
    let mut ip = Ipv4 {
        version_and_length: 0x45,
        service: 0,
        total_length: LENGTH.to_be(),
        identification: 0,
        fragment: 0x4000_u16.to_be(),
        ttl: 64,
        protocol: protocol::UDP,
        checksum: 0,
        source: key.source,
        destination: key.destination,
    };
    ip.checksum = !ip.sum();
    ip
}

/// The verifier proves that no panic is reachable; the compiler wants a handler all the same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
