//! `EVENTS`: what the data plane tells the controller. Rare, never one per packet.

use bytemuck::{Pod, Zeroable};

/// A record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// [`Event::NO_NEIGHBOUR`].
    pub kind: u32,
    /// Interface index.
    pub ifindex: u32,
    /// Network order.
    pub address: u32,
    /// Always zero.
    pub spare: u32,
}

impl Event {
    /// No MAC address is known for `address` on `ifindex`: a packet was dropped, resolve it.
    pub const NO_NEIGHBOUR: u32 = 1;
}

/// Bytes of the ring.
pub const RING_BYTES: u32 = 64 * 1024;
