//! `SLOW`: packets that the data plane leaves to the controller: fragments that come before their first one, and packets
//! that are too big for the next link and may be fragmented; and frames that are ready, but cannot leave where they are.

use bytemuck::{Pod, Zeroable};

use crate::flow::{FlowKey4, Hop};

/// What stands before the bytes of a packet in `SLOW`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Head {
    /// The packet's tuple as on the wire; of fragments but the first without ports.
    pub key: FlowKey4,
    /// Where it leaves, if that is known.
    pub hop: Hop,
    /// The address that replaces source (outbound) or destination (inbound), network order; 0: none is replaced.
    pub address: u32,
    /// The port or identifier that replaces the one beside it, network order.
    pub port: u16,
    /// [`Head::HELD`], or the bytes of IP that the next link carries.
    pub mtu: u16,
    /// [`Head::PENDING_CHECKSUM`], [`Head::FRAME`].
    pub flags: u16,
    /// Bytes of the IP packet, or of the frame, which follow.
    pub length: u16,
    /// The generation in force.
    pub generation: u32,
    /// The identification that it leaves with, if that is known, network order.
    pub identification: u16,
    /// Always zero.
    pub spare: [u8; 6],
}

impl Head {
    /// In place of an MTU: a fragment whose first one has not come yet.
    pub const HELD: u16 = 0;
    /// Its transport checksum covers the pseudo-header alone, and was left to a device to complete.
    pub const PENDING_CHECKSUM: u16 = 1;
    /// What follows is a whole frame, ready to leave by the device of its hop.
    pub const FRAME: u16 = 2;
}

/// Bytes of the longest IP packet that is handed over: jumbo frames fit.
pub const MAX_BYTES: usize = 16_384;

/// A packet of `SLOW` with room for the longest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Packet {
    /// What is known of it.
    pub head: Head,
    /// The IP packet as it came, or the frame as it is to leave.
    pub bytes: [u8; MAX_BYTES],
}

/// Bytes of the ring.
pub const RING_BYTES: u32 = 1024 * 1024;

/// Fragments that one CPU may hand over in a tick to wait for their first one: a flood of others costs no copies.
pub const HELD_PER_TICK: u32 = 1_024;

/// What the controller has made of the packets handed over; the one entry of `SLOW_COUNTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counts {
    /// Held fragments that were sent on after their first one.
    pub released: u64,
    /// Held fragments whose first one did not come in time, or that others displaced.
    pub expired: u64,
    /// Packets too big for the next link that were sent on in fragments, and what followed them of their datagrams.
    pub divided: u64,
    /// Packets handed over that could not be sent.
    pub failed: u64,
}

impl Counts {
    /// Their names, in order: metric labels and JSON fields.
    pub const NAMES: [&'static str; 4] =
        ["fragments_released", "fragments_expired", "packets_divided", "slow_failed"];
    /// One line for people each.
    pub const DESCRIPTIONS: [&'static str; 4] = [
        "Held fragments that the controller sent on after their first one.",
        "Held fragments whose first one did not come in time.",
        "Packets too big for the next link that the controller sent on in fragments, and what followed them of their datagrams.",
        "Packets handed to the controller that it could not send.",
    ];

    /// All values, in the order of [`Counts::NAMES`].
    #[must_use]
    pub const fn values(&self) -> [u64; 4] {
        [self.released, self.expired, self.divided, self.failed]
    }
}

const _: () = assert!(size_of::<Head>() == 56);
