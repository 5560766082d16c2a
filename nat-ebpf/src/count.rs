//! Every packet moves one packet counter, or one drop reason.

use nat_common::{
    counter::{Counters, PerCpu},
    drop::{DropReason, DropSample},
    flow::Direction,
};

use crate::{
    clock,
    maps::{COUNTERS, DROPS, SAMPLES},
    parse::Parsed,
    pipeline::Way,
};

/// What this CPU keeps for itself: looked up once for a packet.
#[derive(Clone, Copy)]
pub struct Own(*mut PerCpu);

impl Own {
    /// That of the CPU that runs the program.
    #[inline(always)]
    pub fn of_this_cpu() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(Self)
    }

    /// Lets `change` read and update it.
    #[inline(always)]
    pub fn change<T>(self, change: impl FnOnce(&mut PerCpu) -> T) -> T {
        // SAFETY: the entry is this CPU's own, programs are not preempted by themselves, and no other reference lives
        // while `change` runs.
        change(unsafe { &mut *self.0 })
    }

    /// The hop that the last packet of this direction has left by.
    #[inline(always)]
    pub fn last_hop(self, direction: Direction) -> *mut [u64; 2] {
        let number = match direction {
            Direction::Outbound => 0,
            Direction::Inbound => 1,
        };
        // SAFETY: computes an address within the entry.
        unsafe { (&raw mut (*self.0).hops[number]).cast() }
    }

    /// `packets` packets of the wire leave by a hop.
    #[inline(always)]
    pub fn forwarded(self, way: Way, packets: u64, bytes: u64) {
        self.change(|PerCpu { counters, .. }| match way {
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
            Way::Hairpin => {
                counters.hairpin_packets += packets;
                counters.hairpin_bytes += bytes;
            }
        });
    }

    /// A frame goes to the host's stack.
    #[inline(always)]
    pub fn stack(self, bytes: u64) {
        self.change(|PerCpu { counters, .. }| {
            counters.stack_packets += 1;
            counters.stack_bytes += bytes;
        });
    }

    /// A fragment is held by the controller.
    #[inline(always)]
    pub fn held(self, bytes: u64) {
        self.change(|PerCpu { counters, .. }| {
            counters.held_packets += 1;
            counters.held_bytes += bytes;
        });
    }

    /// A packet was answered.
    #[inline(always)]
    pub fn replied(self, bytes: u64) {
        self.change(|PerCpu { counters, .. }| {
            counters.replied_packets += 1;
            counters.replied_bytes += bytes;
        });
    }
}

/// Lets `change` update this CPU's counters.
#[inline(always)]
pub fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(own) = Own::of_this_cpu() {
        own.change(|own| change(&mut own.counters));
    }
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
