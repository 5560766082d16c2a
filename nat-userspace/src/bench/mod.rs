//! `natgw bench`: nanoseconds per packet of the data plane on this host.
//!
//! The program is the one that `run` attaches, with NACLs, routes, counters and all; it runs in a network namespace
//! of its own on maps of its own, so that a gateway in operation is not disturbed.

mod measure;
mod rig;

use serde::Serialize;

pub use measure::measure;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// The processor, as the kernel names it.
    pub cpu: String,
    /// Nanoseconds of a packet through an empty XDP program, the driver's own share included.
    pub empty_ns: f64,
    /// Nanoseconds of a packet through a program that only writes MACs and redirects.
    pub bare_ns: f64,
    /// One per direction, kind and number of sessions.
    pub results: Vec<Measurement>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// `outbound` or `inbound`.
    pub direction: &'static str,
    /// `established`; or `new`: outbound, every packet opens a session; inbound, every packet is the first of its.
    pub kind: &'static str,
    /// Sessions that the packets cycle through.
    pub sessions: u32,
    /// Packets measured.
    pub packets: u64,
    /// Nanoseconds per packet, the driver's share included; the median of several rounds.
    pub ns: f64,
    /// Nanoseconds per packet beyond an empty program's.
    pub net_ns: f64,
    /// Packets per second that one CPU translates at this pace, the NIC's own cost not counted.
    pub packets_per_second: f64,
}

impl Measurement {
    /// Gbit/s on the wire at this pace with frames of `frame` bytes: 20 more are preamble and gap.
    #[must_use]
    pub fn line_rate(&self, frame: u32) -> f64 {
        self.packets_per_second * f64::from(frame + 20) * 8.0 / 1e9
    }
}
