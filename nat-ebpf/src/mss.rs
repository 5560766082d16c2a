//! The MSS option of a SYN: where it stands, and what it may say at most (RFC 9293 §3.7.1).

use aya_ebpf::helpers::generated::bpf_loop;
use core::{ffi::c_void, ptr::null_mut};
use nat_common::{config::slot, flow::Direction, pool::Gateway};

use crate::{
    admit, fib, flow::Rewrite, header::Tcp, interface, maps::SCRATCH, packet::Packet, parse::Parsed,
};

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
/// Bytes of the MSS option.
const MSS_LENGTH: usize = 4;
/// Most bytes of options.
const MAX: u32 = 40;
/// Where the walk through the options stands in the scratch buffer, behind them: at which byte, before which byte it
/// ends, and where it has found the MSS, or 0. What comes from a map the verifier takes for anything, and does not follow
/// the walk step by step.
const AT: usize = 1_024;
const LAST: usize = AT + 1;
const FOUND: usize = AT + 2;
/// Mask of a place in a TCP header.
const HEADER: u8 = 63;
/// Bytes of IP and TCP headers without options.
const HEADERS: u16 = 40;

/// A new value for the option: where it stands, counted from the TCP header, and what it was, both network order.
#[derive(Clone, Copy)]
pub struct Change {
    pub at: u16,
    pub old: u16,
    pub new: u16,
}

/// What is to become of the MSS of a SYN.
#[inline(always)]
pub fn change<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    rewrite: &Rewrite,
    generation: u32,
) -> Option<Change> {
    let most = limit::<P>(context, parsed, rewrite, generation);
    if most == 0 {
        return None;
    }
    let mut packet = P::attach(context);
    let header = packet.read::<Tcp>(parsed.l4 as usize)?.length() as usize;
    packet.reach(parsed.l4 as usize + header);
    // SAFETY: the entry is this CPU's own.
    let scratch = unsafe { &mut *SCRATCH.get_ptr_mut(0)? };
    if header > size_of::<Tcp>() + MAX as usize || !packet.copy_out(parsed.l4 as usize, scratch, header) {
        return None;
    }
    scratch[AT] = size_of::<Tcp>() as u8;
    scratch[LAST] = header as u8;
    scratch[FOUND] = 0;
    // SAFETY: the callback has the signature that the helper calls; it finds the walk by itself.
    unsafe { bpf_loop(MAX, step as *mut c_void, null_mut(), 0) };
    let scratch = SCRATCH.get(0)?;
    let found = scratch[FOUND];
    if found == 0 {
        return None;
    }
    let at = usize::from(found & HEADER) + 2;
    let old = u16::from_be_bytes([scratch[at], scratch[at + 1]]);
    (old > most).then_some(Change { at: at as u16, old: old.to_be(), new: most.to_be() })
}

/// The largest MSS that the session's NAT gateway lets pass; 0 for any.
#[inline(always)]
fn limit<P: Packet>(context: *mut P::Context, parsed: &Parsed, rewrite: &Rewrite, generation: u32) -> u16 {
    let (elastic_ip, internal, remote) = match parsed.key.direction() {
        Direction::Outbound => (rewrite.address, parsed.key.source, parsed.key.destination),
        Direction::Inbound => (parsed.key.destination, rewrite.address, parsed.key.source),
    };
    let Some(number) = interface::gateway_of(elastic_ip, generation) else { return 0 };
    let Some(gateway) = admit::gateway(number, generation) else { return 0 };
    if gateway.mss != Gateway::MSS_OF_PATH {
        return gateway.mss;
    }
    let Some(role) = interface::role(parsed.ifindex, slot(generation)) else { return 0 };
    // Where the kernel does not tell, what fits every link of the gateway.
    let fits = if role.mtu > u16::MAX.into() { u16::MAX } else { role.mtu as u16 };
    let out = fib::path_mtu::<P>(context, elastic_ip, remote, fits);
    let back = fib::path_mtu::<P>(context, remote, internal, fits);
    let path = if out < back { out } else { back };
    path.saturating_sub(HEADERS)
}

/// Looks at the next option; 1 ends the walk.
unsafe extern "C" fn step(_step: u32, _context: *mut c_void) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 1 };
    // SAFETY: the entry is this CPU's own.
    let scratch = unsafe { &mut *scratch };
    let (at, end) = (usize::from(scratch[AT] & HEADER), usize::from(scratch[LAST]));
    if at >= end {
        return 1;
    }
    let kind = scratch[at];
    if kind == END {
        return 1;
    }
    if kind == NOP {
        scratch[AT] = at as u8 + 1;
        return 0;
    }
    let length = usize::from(scratch[at + 1]);
    // A length that cannot be ends what can be read of the options: the receiver is to judge them.
    if at + 1 >= end || length < 2 || at + length > end {
        return 1;
    }
    if kind == MSS {
        scratch[FOUND] = if length == MSS_LENGTH { at as u8 } else { 0 };
        return 1;
    }
    scratch[AT] = (at + length) as u8;
    0
}
