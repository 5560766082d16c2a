//! The comparison's programs: a generator that sends packets of numbered flows, a sink that verifies and counts what
//! arrives, and gateways that only redirect, as limits of what any gateway can do.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

#[allow(dead_code, reason = "the rig writes headers and needs little else of what the data plane knows")]
mod header;
mod work;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_MMAPABLE, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT, bpf_fib_lookup, xdp_action},
    helpers::{bpf_redirect, generated::bpf_fib_lookup as fib_lookup},
    macros::{classifier, map, xdp},
    maps::{Array, DevMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use nat_common::{
    checksum::fold,
    protocol,
    rig::{Expectation, MARK, Orders, REMOTE_PORT, Seen, Tally, Way, flow},
};

use crate::header::{ETHERNET, Ethernet, IPV4, Ipv4, Udp, ethertype};

/// What the generator does.
#[map]
static RIG_ORDERS: Array<Orders> = Array::with_max_entries(1, 0);

/// What the sink expects.
#[map]
static RIG_EXPECT: Array<Expectation> = Array::with_max_entries(1, 0);

/// The source of every outbound flow as the sink saw it; the generator answers to it.
#[map]
static RIG_SEEN: Array<Seen> = Array::with_max_entries(1, 0);

/// What the sink counts.
#[map]
static RIG_TALLY: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);

/// The ways through the gateways that only redirect: outbound, inbound.
#[map]
static RIG_WAYS: Array<Way> = Array::with_max_entries(2, 0);

/// A table as large as a NAT's, of which each packet reads and writes the one line that its flow hashes to.
#[map]
static RIG_LINES: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The interfaces where these ways end.
#[map]
static RIG_DEVICES: DevMap = DevMap::with_max_entries(2, 0);

/// What every payload begins with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Payload {
    mark: u32,
    number: u32,
}

const UDP: usize = size_of::<Udp>();
/// Bytes of all headers and the mark.
const HEADERS: usize = ETHERNET + IPV4 + UDP + size_of::<Payload>();
/// Of so many packets one is looked into: a number that no number of flows is a multiple of.
const SAMPLE: u64 = 31;
/// 16-bit words from the IP addresses to the end of the longest frame.
const MAX_WORDS: usize = (1514 - (ETHERNET + 12)) / 2;
const AF_INET: u8 = 2;
/// An odd number whose bits look random (splitmix64).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Sends one packet.
#[xdp]
pub fn rig_generate(context: XdpContext) -> u32 {
    if write_next(&context).is_some() { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

/// Takes what arrives.
#[xdp]
pub fn rig_sink(context: XdpContext) -> u32 {
    if let Some(tally) = RIG_TALLY.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's own.
        take(&context, unsafe { &mut *tally });
    }
    xdp_action::XDP_DROP
}

/// Lets everything pass: end hosts need some program where frames come in by native redirect.
#[xdp]
pub fn rig_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// MACs and a redirect: the least that any gateway at the XDP hook does.
#[xdp]
pub fn rig_bare(context: XdpContext) -> u32 {
    bare(&context).unwrap_or(xdp_action::XDP_PASS)
}

/// The same with a lookup in the kernel's routing table.
#[xdp]
pub fn rig_fib(context: XdpContext) -> u32 {
    fib(&context).unwrap_or(xdp_action::XDP_PASS)
}

/// The same as [`rig_bare`] with one cache line of a table for each flow: the least that any gateway does that
/// remembers.
#[xdp]
pub fn rig_line(context: XdpContext) -> u32 {
    line(&context).unwrap_or(xdp_action::XDP_PASS)
}

/// The same with as many instructions more as a translation may take, which have nothing to do: the processor waits for
/// the lines of two packets at once only if it sees both.
#[xdp]
pub fn rig_work(context: XdpContext) -> u32 {
    work::work();
    line(&context).unwrap_or(xdp_action::XDP_PASS)
}

/// MACs and a redirect at the TC hook.
#[classifier]
pub fn rig_tc(context: TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    let ingress = unsafe { (*context.skb.skb).ingress_ifindex };
    let Some((_, way)) = way(ingress) else { return TC_ACT_SHOT };
    let Some(ethernet) = at::<Ethernet>(context.data(), 0, context.data_end()) else { return TC_ACT_SHOT };
    // SAFETY: checked against the packet's end.
    unsafe {
        // What is not IPv4 belongs to the kernel: ARP, for one.
        if (*ethernet).ethertype != ethertype::IPV4 {
            return aya_ebpf::bindings::TC_ACT_OK;
        }
        (*ethernet).destination = way.destination;
        (*ethernet).source = way.source;
        bpf_redirect(way.egress, 0) as i32
    }
}

/// A header at `offset`, if the packet reaches so far.
#[inline(always)]
fn at<T>(start: usize, offset: usize, end: usize) -> Option<*mut T> {
    let start = start + offset;
    if start + size_of::<T>() > end { None } else { Some(start as *mut T) }
}

/// Writes a packet of the next flow over whatever the frame was before.
#[inline(always)]
fn write_next(context: &XdpContext) -> Option<()> {
    // SAFETY: the generator runs on one CPU at a time.
    let orders = unsafe { &mut *RIG_ORDERS.get_ptr_mut(0)? };
    let number = if orders.next < orders.flows { orders.next } else { 0 };
    orders.next = number + 1;
    let flow = flow(orders.pattern, number);
    let internal = (flow.host.to_be(), flow.port.to_be());
    let remote = (flow.remote.to_be(), REMOTE_PORT.to_be());
    let (source, destination) = if orders.inbound == 0 {
        (internal, remote)
    } else {
        let seen = RIG_SEEN.get(number)?;
        (remote, (seen.address, seen.port))
    };
    let start = context.data();
    if start + HEADERS > context.data_end() {
        return None;
    }
    let length = orders.length as u16;
    let payload = Payload { mark: MARK, number };
    // SAFETY: checked against the packet's end; packet memory may be written at any alignment on this target.
    unsafe {
        *(start as *mut Ethernet) =
            Ethernet { destination: orders.destination, source: orders.source, ethertype: ethertype::IPV4 };
        *((start + ETHERNET) as *mut Ipv4) = ip(source.0, destination.0, length);
        *((start + ETHERNET + IPV4) as *mut Udp) = udp(source, destination, length, payload);
        *((start + ETHERNET + IPV4 + UDP) as *mut Payload) = payload;
    }
    Some(())
}

#[inline(always)]
fn ip(source: u32, destination: u32, length: u16) -> Ipv4 {
    let mut ip = Ipv4 {
        version_and_length: 0x45,
        service: 0,
        total_length: length.to_be(),
        identification: 0,
        fragment: 0x4000_u16.to_be(),
        ttl: 64,
        protocol: protocol::UDP,
        checksum: 0,
        source,
        destination,
    };
    let sum = u32::from(0x45_u16)
        + u32::from(ip.total_length)
        + u32::from(ip.fragment)
        + u32::from(u16::from_ne_bytes([64, protocol::UDP]))
        + halves(source)
        + halves(destination);
    ip.checksum = !fold(sum);
    ip
}

#[inline(always)]
fn udp(source: (u32, u16), destination: (u32, u16), length: u16, payload: Payload) -> Udp {
    let length = (length - IPV4 as u16).to_be();
    let sum = halves(source.0)
        + halves(destination.0)
        + u32::from(u16::from_ne_bytes([0, protocol::UDP]))
        + u32::from(length) * 2
        + u32::from(source.1)
        + u32::from(destination.1)
        + halves(payload.mark)
        + halves(payload.number);
    let checksum = match !fold(sum) {
        0 => 0xffff,
        sum => sum,
    };
    Udp { source: source.1, destination: destination.1, length, checksum }
}

#[inline(always)]
const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Counts a frame, and looks into it now and then.
#[inline(always)]
fn take(context: &XdpContext, tally: &mut Tally) {
    let Some((ip, udp, number)) = read(context) else {
        tally.strangers += 1;
        return;
    };
    tally.packets += 1;
    let Some(expected) = RIG_EXPECT.get(0) else { return };
    if expected.learn != 0
        && let Some(seen) = RIG_SEEN.get_ptr_mut(number)
    {
        // SAFETY: only one CPU carries packets.
        unsafe { *seen = Seen { address: ip.source, port: udp.source, spare: 0 } };
    }
    if tally.until_sample > 0 {
        tally.until_sample -= 1;
        return;
    }
    tally.until_sample = SAMPLE - 1;
    tally.checked += 1;
    tally.wrong_addresses += u64::from(!is_expected(&ip, &udp, number, expected));
    tally.wrong_ip_sums += u64::from(!ip_sums_up(context));
    tally.wrong_udp_sums += u64::from(udp.checksum == 0 || !udp_sums_up(context, &udp));
}

/// The headers and the flow number of a packet of the generator.
#[inline(always)]
fn read(context: &XdpContext) -> Option<(Ipv4, Udp, u32)> {
    let start = context.data();
    if start + HEADERS > context.data_end() {
        return None;
    }
    // SAFETY: checked against the packet's end.
    let (ethernet, ip, udp, payload) = unsafe {
        (
            *(start as *const Ethernet),
            *((start + ETHERNET) as *const Ipv4),
            *((start + ETHERNET + IPV4) as *const Udp),
            *((start + ETHERNET + IPV4 + UDP) as *const Payload),
        )
    };
    let ours = ethernet.ethertype == ethertype::IPV4
        && ip.version_and_length == 0x45
        && ip.protocol == protocol::UDP
        && payload.mark == MARK;
    ours.then_some((ip, udp, payload.number))
}

#[inline(always)]
fn is_expected(ip: &Ipv4, udp: &Udp, number: u32, expected: &Expectation) -> bool {
    let flow = flow(expected.pattern, number);
    let internal = (flow.host.to_be(), flow.port.to_be());
    let remote = (flow.remote.to_be(), REMOTE_PORT.to_be());
    let (source, destination) = ((ip.source, udp.source), (ip.destination, udp.destination));
    if expected.inbound != 0 {
        return source == remote && destination == internal;
    }
    let translated = ip.source == expected.sources[0] || ip.source == expected.sources[1];
    let from = if expected.sources[0] == 0 { source == internal } else { translated };
    from && destination == remote
}

#[inline(always)]
fn ip_sums_up(context: &XdpContext) -> bool {
    let Some(words) = at::<[u16; 10]>(context.data(), ETHERNET, context.data_end()) else { return false };
    // SAFETY: checked against the packet's end.
    let words = unsafe { *words };
    let mut sum = 0;
    for word in words {
        sum += u32::from(word);
    }
    fold(sum) == 0xffff
}

/// Sums up the pseudo-header, the UDP header and the payload.
#[inline(always)]
fn udp_sums_up(context: &XdpContext, udp: &Udp) -> bool {
    let (start, end) = (context.data() + ETHERNET + 12, context.data_end());
    let mut sum = u32::from(udp.length) + u32::from(u16::from_ne_bytes([0, protocol::UDP]));
    for word in 0..MAX_WORDS {
        let Some(word) = at::<u16>(start, word * 2, end) else { break };
        // SAFETY: checked against the packet's end.
        sum += u32::from(unsafe { *word });
    }
    fold(sum) == 0xffff
}

/// The way of frames that come in on this interface, and its slot.
#[inline(always)]
fn way(ingress: u32) -> Option<(u32, &'static Way)> {
    let outbound = RIG_WAYS.get(0)?;
    if outbound.ingress == ingress {
        return Some((0, outbound));
    }
    RIG_WAYS.get(1).map(|inbound| (1, inbound))
}

#[inline(always)]
fn bare(context: &XdpContext) -> Option<u32> {
    let ethernet = ipv4_frame(context)?;
    // SAFETY: the context is the program's own, and the frame was checked.
    unsafe {
        let (slot, way) = way((*context.ctx).ingress_ifindex)?;
        (*ethernet).destination = way.destination;
        (*ethernet).source = way.source;
        RIG_DEVICES.redirect(slot, 0).ok()
    }
}

#[inline(always)]
fn line(context: &XdpContext) -> Option<u32> {
    let ip = at::<Ipv4>(context.data(), ETHERNET, context.data_end())?;
    let udp = at::<Udp>(context.data(), ETHERNET + IPV4, context.data_end())?;
    // SAFETY: checked against the packet's end; the context is the program's own.
    unsafe {
        let (_, way) = way((*context.ctx).ingress_ifindex)?;
        let addresses = u64::from((*ip).source) << 32 | u64::from((*ip).destination);
        let ports = u64::from((*udp).source) << 16 | u64::from((*udp).destination);
        let hash = (addresses ^ ports.wrapping_mul(MIX)).wrapping_mul(MIX);
        let line = RIG_LINES.get_ptr_mut((((hash >> 32) * u64::from(way.lines)) >> 32) as u32)?;
        (*line)[0] += 1;
    }
    bare(context)
}

#[inline(always)]
fn fib(context: &XdpContext) -> Option<u32> {
    let ethernet = ipv4_frame(context)?;
    let ip = at::<Ipv4>(context.data(), ETHERNET, context.data_end())?;
    // SAFETY: all-zero is a valid `bpf_fib_lookup`; the frame was checked; the context is the program's own.
    unsafe {
        let (slot, way) = way((*context.ctx).ingress_ifindex)?;
        let mut parameters: bpf_fib_lookup = core::mem::zeroed();
        parameters.family = AF_INET;
        parameters.ifindex = way.ingress;
        parameters.__bindgen_anon_1.tot_len = u16::from_be((*ip).total_length);
        parameters.__bindgen_anon_3.ipv4_src = (*ip).source;
        parameters.__bindgen_anon_4.ipv4_dst = (*ip).destination;
        let size = size_of::<bpf_fib_lookup>() as i32;
        let answer = fib_lookup(context.as_ptr(), &raw mut parameters, size, 0) as u32;
        if answer != BPF_FIB_LKUP_RET_SUCCESS || parameters.ifindex != way.egress {
            return None;
        }
        *(&raw mut (*ethernet).destination).cast::<[u8; 6]>() = parameters.dmac;
        *(&raw mut (*ethernet).source).cast::<[u8; 6]>() = parameters.smac;
        RIG_DEVICES.redirect(slot, 0).ok()
    }
}

/// The Ethernet header of a frame with IPv4 in it; all else belongs to the kernel.
#[inline(always)]
fn ipv4_frame(context: &XdpContext) -> Option<*mut Ethernet> {
    let ethernet = at::<Ethernet>(context.data(), 0, context.data_end())?;
    // SAFETY: checked against the packet's end.
    (unsafe { (*ethernet).ethertype } == ethertype::IPV4).then_some(ethernet)
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
