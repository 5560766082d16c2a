//! The time of the packet.
//!
//! Asking the kernel's clock costs as much as half a look-up of a session, so each CPU asks again only when the
//! kernel's jiffies, which cost nothing to read, have moved on.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use nat_common::clock;

use crate::maps::CLOCK;

/// Binary logarithm of the jiffies between two readings: 16 to 160 ms on kernels with 1,000 to 100 of them a second.
const JIFFIES_SHIFT: u32 = 4;

/// The last reading of a CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reading {
    /// When, in units of 2^[`JIFFIES_SHIFT`] jiffies.
    when: u64,
    /// What the clock said, in ticks.
    tick: u64,
}

/// The current tick of the monotonic clock, at most 160 ms late.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    let when = unsafe { bpf_jiffies64() } >> JIFFIES_SHIFT;
    let Some(reading) = CLOCK.get_ptr_mut(0) else { return read() };
    // SAFETY: the entry is this CPU's own.
    let reading = unsafe { &mut *reading };
    if reading.when != when {
        *reading = Reading { when, tick: read().into() };
    }
    reading.tick as u32
}

#[inline(always)]
fn read() -> u32 {
    // SAFETY: the helper takes no arguments.
    clock::ticks(unsafe { bpf_ktime_get_coarse_ns() })
}
