//! The time of the packet.
//!
//! Asking the kernel's clock costs as much as half a look-up of a session, so each CPU asks again only when the
//! kernel's jiffies, which cost nothing to read, have moved on.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use nat_common::clock;

use crate::count::Own;

/// Binary logarithm of the jiffies between two readings: 16 to 160 ms on kernels with 1,000 to 100 of them a second.
const JIFFIES_SHIFT: u32 = 4;

/// The current tick of the monotonic clock, at most 160 ms late.
#[inline(always)]
pub fn now() -> u32 {
    Own::of_this_cpu().map_or_else(read, now_by)
}

/// The same, for who has this CPU's own at hand.
#[inline(always)]
pub fn now_by(own: Own) -> u32 {
    // SAFETY: the helper takes no arguments.
    let when = unsafe { bpf_jiffies64() } >> JIFFIES_SHIFT;
    own.change(|own| {
        if own.clock_read != when {
            own.clock_read = when;
            own.tick = read().into();
        }
        own.tick as u32
    })
}

#[inline(always)]
fn read() -> u32 {
    // SAFETY: the helper takes no arguments.
    clock::ticks(unsafe { bpf_ktime_get_coarse_ns() })
}
