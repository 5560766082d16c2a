//! The ports that a search would rather have: those whose answers the external device delivers on the queue, and so to
//! the CPU, of the packet that opens the session.
//!
//! A preference is a hint: it looks at a bounded number of ports, claims none, and then leaves the range to the search.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use nat_common::{config::slot, flow::FlowKey4, pool::Gateway, rss::MAX_DEVICES};

use crate::maps::RSS;

/// Ports looked at in one range: enough to miss one queue of 64 in one session of fifty.
pub const MAX_LOOKS: u32 = 256;
/// Preferred ports that may turn out to be taken before any port will do.
const MAX_TAKEN: u32 = 16;

/// What a search prefers. It stands in the search, in a map.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Preference {
    /// The external device, in `RSS`.
    device: u32,
    /// The queue that answers shall come in on.
    queue: u32,
    /// What the remote contributes to their hash; then also the Elastic IP.
    remote: u32,
    hash: u32,
    /// Looks left in this range; how many a range gets, which is 0 without a preference.
    left: u32,
    looks: u32,
    /// Preferred ports of this range that may still be tried.
    tries: u32,
    /// The next port to look at, and how far from it the one after stands.
    next: u32,
    step: u32,
}

impl Preference {
    /// The preference of a packet that came in on `queue`, counted from 1; 0: nobody knows.
    #[inline(always)]
    pub fn new(outbound: &FlowKey4, gateway: &Gateway, generation: u32, queue: u32) -> Self {
        let none = Self::default();
        if gateway.rss == 0 || queue == 0 {
            return none;
        }
        let device = slot(generation) * MAX_DEVICES + u32::from(gateway.rss) - 1;
        match RSS.get(device) {
            Some(rss) if rss.hashes(outbound.protocol) => {
                let remote = rss.remote(outbound.destination, outbound.destination_port);
                Self { device, queue: queue - 1, remote, looks: MAX_LOOKS, ..none }
            }
            _ => none,
        }
    }

    /// Turns to the ports `low` to `low + span - 1` of `address`, from `start` on.
    #[inline(always)]
    pub fn begin(&mut self, address: u32, start: u32, span: u32) {
        if self.is_none() {
            return;
        }
        let Some(rss) = RSS.get(self.device) else { return };
        self.hash = self.remote ^ rss.elastic_ip(address);
        self.left = if span < self.looks { span } else { self.looks };
        self.tries = MAX_TAKEN;
        self.next = start;
        // Not to the neighbour, whose hash differs in few bits; and never the same way, which would favour some ports.
        // SAFETY: the helper takes no arguments.
        self.step = ((u64::from(unsafe { bpf_get_prandom_u32() }) * u64::from(span)) >> 32) as u32 | 1;
    }

    /// Whether any port will do.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.looks == 0
    }

    /// Whether it is still worth to [`Self::look`].
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.left != 0
    }

    /// Looks at a port; `None` if it is not preferred. `low` and `high` bound the range.
    #[inline(always)]
    pub fn look(&mut self, low: u32, high: u32) -> Option<u32> {
        let port = self.next;
        self.next += self.step;
        if self.next > high {
            self.next -= high - low + 1;
        }
        self.left -= 1;
        let rss = RSS.get(self.device)?;
        if u32::from(rss.queue(self.hash ^ rss.port(port as u16))) != self.queue {
            return None;
        }
        self.tries -= 1;
        if self.tries == 0 {
            self.left = 0;
        }
        Some(port)
    }
}
