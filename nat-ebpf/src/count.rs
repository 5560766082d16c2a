//! Every packet moves one packet counter, or one drop reason.

use nat_common::{
    counter::Counters,
    drop::{DropReason, DropSample},
};

use crate::{
    clock,
    maps::{COUNTERS, DROPS, SAMPLES},
    parse::Parsed,
    pipeline::Way,
};

/// Lets `change` update this CPU's counters.
#[inline(always)]
pub fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's own, and programs are not preempted by themselves.
        change(unsafe { &mut *counters });
    }
}

/// `packets` packets of the wire leave by a hop.
#[inline(always)]
pub fn forwarded(way: Way, packets: u64, bytes: u64) {
    count(|counters| match way {
        Way::Outbound => {
            counters.outbound_packets += packets;
            counters.outbound_bytes += bytes;
        }
        Way::Inbound => {
            counters.inbound_packets += packets;
            counters.inbound_bytes += bytes;
        }
        Way::Local => {
            counters.local_packets += packets;
            counters.local_bytes += bytes;
        }
    });
}

/// A frame goes to the host's stack.
#[inline(always)]
pub fn stack(bytes: u64) {
    count(|counters| {
        counters.stack_packets += 1;
        counters.stack_bytes += bytes;
    });
}

/// A packet was answered.
#[inline(always)]
pub fn replied(bytes: u64) {
    count(|counters| {
        counters.replied_packets += 1;
        counters.replied_bytes += bytes;
    });
}

/// A packet is refused.
#[inline(always)]
pub fn dropped(reason: DropReason, parsed: &Parsed, ingress: u32) {
    count_dropped(reason as u32, parsed, ingress);
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn count_dropped(reason: u32, parsed: *const Parsed, ingress: u32) -> u32 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(parsed) = (unsafe { parsed.as_ref() }) else { return 0 };
    if let Some(drops) = DROPS.get_ptr_mut(reason) {
        // SAFETY: the entry is this CPU's own.
        unsafe { *drops += 1 }
    }
    count(|counters| counters.dropped_bytes += u64::from(parsed.length));
    if let Some(sample) = SAMPLES.get_ptr_mut(reason) {
        let tick = clock::now();
        // SAFETY: a map value; CPUs may overwrite each other's sample, which is one of the latest all the same.
        unsafe {
            if (*sample).tick != tick {
                let length = parsed.length;
                *sample = DropSample { key: parsed.key, tick, ifindex: ingress, length, spare: 0 };
            }
        }
    }
    0
}
