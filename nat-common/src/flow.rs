//! `FLOWS4`: a session is two flows, one per direction, each found with one lookup.

use bytemuck::{Pod, Zeroable};
use core::net::Ipv4Addr;

use crate::tcp::COUNT;

/// The zone of packets that come from outside. VPCs are numbered from 1.
pub const OUTSIDE: u8 = 0;

/// Largest interface index the data plane can redirect to; the upper bits of [`Hop::device`] hold the VLAN.
pub const MAX_IFINDEX: u32 = (1 << 20) - 1;

/// Which way a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Internal to external.
    Outbound,
    /// External to internal.
    Inbound,
}

/// A flow's tuple as it stands on the wire, and the zone the packet came from.
///
/// For ICMP queries the identifier is the internal (or external) endpoint's port and the remote's port is zero. Aligned, so
/// that in memory it is its two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey4 {
    /// Source address, network order.
    pub source: u32,
    /// Destination address, network order.
    pub destination: u32,
    /// Source port, network order.
    pub source_port: u16,
    /// Destination port, network order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`OUTSIDE`], or the number of the VPC that the packet came from.
    pub zone: u8,
    /// Always zero.
    pub spare: [u8; 2],
}

impl FlowKey4 {
    /// Source address in host form.
    #[must_use]
    pub const fn source_address(&self) -> Ipv4Addr {
        address(self.source)
    }

    /// Destination address in host form.
    #[must_use]
    pub const fn destination_address(&self) -> Ipv4Addr {
        address(self.destination)
    }

    /// The key as two words: addresses; ports, protocol and zone.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        let ports = self.source_port as u64 | (self.destination_port as u64) << 16;
        [
            self.source as u64 | (self.destination as u64) << 32,
            ports | (self.protocol as u64) << 32 | (self.zone as u64) << 40,
        ]
    }

    /// The direction in which packets with this key travel.
    #[inline(always)]
    #[must_use]
    pub const fn direction(&self) -> Direction {
        if self.zone == OUTSIDE { Direction::Inbound } else { Direction::Outbound }
    }
}

/// The address whose network-order representation is `raw`.
#[must_use]
pub const fn address(raw: u32) -> Ipv4Addr {
    let [a, b, c, d] = raw.to_ne_bytes();
    Ipv4Addr::new(a, b, c, d)
}

/// The network-order representation of `address`.
#[must_use]
pub const fn raw(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// Where a packet leaves: a device, the VLAN it carries there, and the MACs. Aligned, so that it is read as two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hop {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// Interface index in the low 20 bits, VLAN identifier (0: untagged) in the upper 12.
    pub device: u32,
}

impl Hop {
    /// The interface index.
    #[inline(always)]
    #[must_use]
    pub const fn ifindex(&self) -> u32 {
        self.device & MAX_IFINDEX
    }

    /// The VLAN identifier, 0 for an untagged frame.
    #[inline(always)]
    #[must_use]
    pub const fn vlan(&self) -> u16 {
        (self.device >> 20) as u16
    }
}

/// [`FlowEntry4::generation`] of an entry that holds no flow.
pub const FREE: u32 = 0;
/// [`FlowEntry4::generation`] of an entry that is being written: not yet a flow, no longer free.
pub const CLAIMED: u32 = u32::MAX - 2;
/// [`FlowEntry4::generation`] of a flow whose NACLs, route and hop were never judged.
pub const UNJUDGED: u32 = u32::MAX - 1;
/// [`FlowEntry4::generation`] of a session that ageing is about to release: packets may no longer use it
/// (invariant 6).
pub const ENDING: u32 = u32::MAX;

/// One direction of a session: all that a packet of it needs, in one cache line.
///
/// The entry's own key stands in front: it is what a lookup compares, and since an entry may be recycled while it is
/// read, whoever reads the rewrite compares the key once more afterwards (invariant 7).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowEntry4 {
    /// Key: source address.
    pub source: u32,
    /// Key: destination address.
    pub destination: u32,
    /// Key: source port.
    pub source_port: u16,
    /// Key: destination port.
    pub destination_port: u16,
    /// Key: IP protocol number.
    pub protocol: u8,
    /// Key: the zone the packet came from.
    pub zone: u8,
    /// Inbound: the VPC of the session's internal side. Outbound, whose zone is that: where the session is counted
    /// ([`crate::host::mark`]).
    pub vpc: u8,
    /// What TCP has carried this way: bits of [`crate::tcp`].
    pub tcp_seen: u8,
    /// Generation under which NACLs, route and hop were last judged, or [`FREE`], [`CLAIMED`], [`UNJUDGED`] or
    /// [`ENDING`].
    pub generation: u32,
    /// Tick of the last packet.
    pub last_seen: u32,
    /// The address that replaces the source (outbound) or destination (inbound), network order.
    pub address: u32,
    /// The port or ICMP identifier that replaces it, network order.
    pub port: u16,
    /// Packets translated, beyond the 32 bits of `packets`.
    pub packets_high: u8,
    /// In the first entry of a group: whether a flow of this group ever had to go to the next one.
    pub spilled: u8,
    /// Where packets leave.
    pub hop: Hop,
    /// Tick of the first packet. In the inbound flow of a TCP session that the internal host has closed: the sequence
    /// number after its FIN.
    pub opened: u32,
    /// Packets translated, the lower 32 bits.
    pub packets: u32,
    /// Bytes of IP translated, in the lower 48 bits; above them, how far TCP's stream has got ([`crate::tcp::advance`]).
    pub bytes: u64,
}

const _: () = assert!(size_of::<FlowKey4>() == 16 && size_of::<FlowEntry4>() == 64);

impl FlowEntry4 {
    /// An entry for `key` with nothing else in it.
    #[inline(always)]
    #[must_use]
    pub const fn of(key: &FlowKey4) -> Self {
        Self {
            source: key.source,
            destination: key.destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            protocol: key.protocol,
            zone: key.zone,
            vpc: 0,
            tcp_seen: 0,
            generation: FREE,
            last_seen: 0,
            address: 0,
            port: 0,
            packets_high: 0,
            spilled: 0,
            hop: Hop { destination: [0; 6], source: [0; 6], device: 0 },
            opened: 0,
            packets: 0,
            bytes: 0,
        }
    }

    /// The key of this flow.
    #[inline(always)]
    #[must_use]
    pub const fn key(&self) -> FlowKey4 {
        FlowKey4 {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: self.protocol,
            zone: self.zone,
            spare: [0; 2],
        }
    }

    /// Whether there is a flow in the entry.
    #[inline(always)]
    #[must_use]
    pub const fn is_flow(&self) -> bool {
        holds_flow(self.generation)
    }

    /// Packets translated.
    #[inline(always)]
    #[must_use]
    pub const fn packet_count(&self) -> u64 {
        (self.packets_high as u64) << 32 | self.packets as u64
    }

    /// Bytes of IP translated.
    #[inline(always)]
    #[must_use]
    pub const fn byte_count(&self) -> u64 {
        self.bytes & COUNT
    }

    /// The key of the session's other flow, given this one's `key`.
    #[inline(always)]
    #[must_use]
    pub const fn other_key(&self, key: &FlowKey4) -> FlowKey4 {
        match key.direction() {
            Direction::Outbound => FlowKey4 {
                source: key.destination,
                destination: self.address,
                source_port: key.destination_port,
                destination_port: self.port,
                protocol: key.protocol,
                zone: OUTSIDE,
                spare: [0; 2],
            },
            Direction::Inbound => FlowKey4 {
                source: self.address,
                destination: key.source,
                source_port: self.port,
                destination_port: key.source_port,
                protocol: key.protocol,
                zone: self.vpc,
                spare: [0; 2],
            },
        }
    }
}

/// The bits of an entry's second word that belong to its key.
pub const KEY_BITS: u64 = (1 << 48) - 1;

/// Whether an entry of this generation holds a flow.
#[inline(always)]
#[must_use]
pub const fn holds_flow(generation: u32) -> bool {
    generation != FREE && generation != CLAIMED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_through_network_order() {
        let elastic_ip = Ipv4Addr::new(203, 0, 113, 10);
        assert_eq!(address(raw(elastic_ip)), elastic_ip);
        assert_eq!(raw(elastic_ip).to_ne_bytes(), [203, 0, 113, 10]);
    }

    #[test]
    fn an_entry_begins_with_the_words_of_its_key() {
        let key = FlowKey4 {
            source: 0x0102_0304,
            destination: 0x0506_0708,
            source_port: 0x090a,
            destination_port: 0x0b0c,
            protocol: 17,
            zone: 3,
            spare: [0; 2],
        };
        let entry = FlowEntry4 { vpc: 9, tcp_seen: 9, ..FlowEntry4::of(&key) };
        let words: &[u64; 8] = bytemuck::cast_ref(&entry);
        assert_eq!([words[0], words[1] & KEY_BITS], key.words());
        assert_eq!(*bytemuck::cast_ref::<_, [u64; 2]>(&key), key.words());
        assert_eq!(entry.key(), key);
    }

    #[test]
    fn packets_are_counted_beyond_32_bits() {
        let entry = FlowEntry4 { packets: 7, packets_high: 2, ..FlowEntry4::default() };
        assert_eq!(entry.packet_count(), (2 << 32) + 7);
    }

    #[test]
    fn bytes_are_counted_beside_the_place_of_the_stream() {
        let entry = FlowEntry4 { bytes: 0xffff << 48 | 7, ..FlowEntry4::default() };
        assert_eq!(entry.byte_count(), 7);
    }

    #[test]
    fn the_other_key_of_the_other_key_is_the_key() {
        let key = FlowKey4 {
            source: 1,
            destination: 2,
            source_port: 3,
            destination_port: 4,
            protocol: 6,
            zone: 1,
            spare: [0; 2],
        };
        let outbound = FlowEntry4 { address: 5, port: 6, vpc: 1, ..FlowEntry4::default() };
        let inbound_key = outbound.other_key(&key);
        let inbound = FlowEntry4 { address: 1, port: 3, vpc: 1, ..FlowEntry4::default() };
        assert_eq!(inbound_key.direction(), Direction::Inbound);
        assert_eq!(inbound.other_key(&inbound_key), key);
    }
}
