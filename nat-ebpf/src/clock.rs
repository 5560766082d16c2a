//! The time of the packet.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use nat_common::clock;

/// The current tick of the monotonic clock.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no arguments.
    clock::ticks(unsafe { bpf_ktime_get_coarse_ns() })
}
