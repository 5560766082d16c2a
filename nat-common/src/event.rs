//! `EVENTS`: what the data plane tells the controller. Rare, never one per packet.

use bytemuck::{Pod, Zeroable};

use crate::flow::{FlowKey4, Hop};

/// A record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// [`Event::NO_NEIGHBOUR`] or [`Event::BLOCK_LENT`].
    pub kind: u32,
    /// Interface index; of a block the first port, and the last one in the upper half.
    pub ifindex: u32,
    /// Network order.
    pub address: u32,
    /// Of a block: who holds it, network order.
    pub host: u32,
}

impl Event {
    /// No MAC address is known for `address` on `ifindex`: a packet was dropped, resolve it.
    pub const NO_NEIGHBOUR: u32 = 1;
    /// In the lower byte: a host was lent a block of ports of the Elastic IP `address`; its zone stands in the next byte.
    pub const BLOCK_LENT: u32 = 2;
    /// The record is an [`Expired`].
    pub const EXPIRED: u32 = 3;
}

/// An established TCP session has ended for being idle, and both ends shall learn of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Expired {
    /// [`Event::EXPIRED`].
    pub kind: u32,
    /// The Elastic IP, network order.
    pub address: u32,
    /// The port lent, network order.
    pub port: u16,
    /// Always zero.
    pub spare: [u16; 3],
    /// The internal host and the remote: the key of the outbound flow.
    pub key: FlowKey4,
    /// Where packets leave to the remote and to the host.
    pub hops: [Hop; 2],
    /// The sequence numbers that the remote and the host expect next: what they have acknowledged last.
    pub sequences: [u32; 2],
}

/// Bytes of the ring.
pub const RING_BYTES: u32 = 64 * 1024;
