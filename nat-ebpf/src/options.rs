//! IPv4 options: refused when they overrun their header, or record or steer the route (RFC 7126 §4.3–4.5: a recorded
//! route would show internal addresses outside).

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use nat_common::drop::DropReason;

use crate::{
    assembly::bound,
    header,
    maps::{SCRATCH, SCRATCH_BYTES},
    packet::Packet,
};

/// Longest options field (RFC 791 §3.1).
const MAX: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Checks the options of the IPv4 header of `length` bytes at `offset`, its checksum included.
#[inline(always)]
pub fn check<P: Packet>(context: *mut P::Context, offset: usize, length: usize) -> Result<(), DropReason> {
    let mut packet = P::attach(context);
    packet.reach(offset + length + header::TRANSPORT);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Err(DropReason::NotConfigured) };
    // SAFETY: the entry is this CPU's own.
    let scratch = unsafe { &mut *scratch };
    if length > header::IPV4 + MAX || !packet.copy_out(offset, scratch, length) {
        return Err(DropReason::IpHeaderLength);
    }
    let mut walk = Walk { at: header::IPV4, end: length, sum: 0, finding: Finding::Sound };
    // SAFETY: the callbacks have the signature that the helper calls, and `walk` outlives the calls.
    unsafe {
        bpf_loop(length as u32 / 2, add as *mut c_void, (&raw mut walk).cast(), 0);
        if nat_common::checksum::fold(walk.sum) != 0xffff {
            return Err(DropReason::IpChecksum);
        }
        bpf_loop(MAX as u32, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    match walk.finding {
        Finding::Sound => Ok(()),
        Finding::Overrun => Err(DropReason::IpOptions),
        Finding::Route => Err(DropReason::SourceRoute),
    }
}

#[derive(Clone, Copy)]
enum Finding {
    Sound,
    Overrun,
    Route,
}

struct Walk {
    at: usize,
    end: usize,
    sum: u32,
    finding: Finding,
}

/// The byte of the header at `at`.
#[inline(always)]
fn byte(at: usize) -> u8 {
    match SCRATCH.get(0) {
        Some(scratch) => scratch[at & (SCRATCH_BYTES - 1)],
        None => END,
    }
}

/// Adds the next 16-bit word to the header's sum.
unsafe extern "C" fn add(word: u32, walk: *mut Walk) -> u64 {
    // SAFETY: the pointer that `check` handed to the helper.
    let walk = unsafe { &mut *walk };
    let at = word as usize * 2;
    walk.sum += u32::from(byte(at)) << 8 | u32::from(byte(at + 1));
    0
}

/// Looks at the next option; 1 ends the walk.
unsafe extern "C" fn step(_step: u32, walk: *mut Walk) -> u64 {
    // SAFETY: the pointer that `check` handed to the helper.
    let walk = unsafe { &mut *walk };
    // The header is shorter than this; the verifier would otherwise follow the walk without end.
    walk.at = bound::<63>(walk.at);
    if walk.at >= walk.end {
        return 1;
    }
    let kind = byte(walk.at);
    if kind == END {
        return 1;
    }
    if kind == NOP {
        walk.at += 1;
        return 0;
    }
    if matches!(kind, RECORD_ROUTE | TIMESTAMP | LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE) {
        walk.finding = Finding::Route;
        return 1;
    }
    let length = usize::from(byte(walk.at + 1));
    if walk.at + 1 >= walk.end || length < 2 || walk.at + length > walk.end {
        walk.finding = Finding::Overrun;
        return 1;
    }
    walk.at += length;
    0
}
