//! Protocol headers as they stand in a packet: network order, no interpretation.

use nat_common::checksum::fold;

/// Ethernet addresses and type (IEEE 802.3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    pub destination: [u16; 3],
    pub source: [u16; 3],
    pub ethertype: u16,
}

/// What follows the ethertype of a tagged frame (IEEE 802.1Q).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vlan {
    pub control: u16,
    pub ethertype: u16,
}

/// IPv4 without options (RFC 791 §3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub version_and_length: u8,
    pub service: u8,
    pub total_length: u16,
    pub identification: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

impl Ipv4 {
    /// Length of the header with its options, in bytes.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        (self.version_and_length & 0x0f) as usize * 4
    }

    /// The one's complement sum of the header without options: all ones if its checksum is right.
    #[inline(always)]
    pub const fn sum(&self) -> u16 {
        let sum = u16::from_ne_bytes([self.version_and_length, self.service]) as u64
            + self.total_length as u64
            + self.identification as u64
            + self.fragment as u64
            + u16::from_ne_bytes([self.ttl, self.protocol]) as u64
            + self.checksum as u64
            + self.source as u64
            + self.destination as u64;
        fold_wide(sum)
    }
}

/// The same header as words, which is how it is read fastest: five loads, of which the sum needs all.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Ipv4Words([u32; 5]);

impl Ipv4Words {
    /// Version, and the length of the header with its options in words.
    #[inline(always)]
    pub const fn version_and_length(&self) -> u8 {
        self.0[0] as u8
    }

    /// Length of the header with its options, in bytes.
    #[inline(always)]
    pub const fn length(&self) -> usize {
        (self.0[0] & 0x0f) as usize * 4
    }

    /// Type of service.
    #[inline(always)]
    pub const fn service(&self) -> u8 {
        (self.0[0] >> 8) as u8
    }

    /// Bytes of the packet, host order.
    #[inline(always)]
    pub const fn total_length(&self) -> u16 {
        u16::from_be((self.0[0] >> 16) as u16)
    }

    /// Whether it is a fragment, of whatever position. Reserved and DF bits do not count.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        (self.0[1] >> 16) as u16 & 0x3fff_u16.to_be() != 0
    }

    /// Whether it must not be fragmented.
    #[inline(always)]
    pub const fn is_atomic(&self) -> bool {
        (self.0[1] >> 16) as u16 & 0x4000_u16.to_be() != 0
    }

    /// Time to live.
    #[inline(always)]
    pub const fn ttl(&self) -> u8 {
        self.0[2] as u8
    }

    /// Protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.0[2] >> 8) as u8
    }

    /// Source address, network order.
    #[inline(always)]
    pub const fn source(&self) -> u32 {
        self.0[3]
    }

    /// Destination address, network order.
    #[inline(always)]
    pub const fn destination(&self) -> u32 {
        self.0[4]
    }

    /// Whether the checksum of the header without options is right.
    #[inline(always)]
    pub const fn is_intact(&self) -> bool {
        let [a, b, c, d, e] = self.0;
        is_all_ones(a as u64 + b as u64 + c as u64 + d as u64 + e as u64)
    }
}

/// TCP without options (RFC 9293 §3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: u32,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

impl Tcp {
    /// Bytes of the header with its options.
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        (self.offset >> 4) as u32 * 4
    }

    /// The sum of the header without options, in words of up to 32 bits.
    #[inline(always)]
    pub const fn sum(&self) -> u64 {
        self.ports as u64
            + self.sequence as u64
            + self.acknowledgement as u64
            + u16::from_ne_bytes([self.offset, self.flags]) as u64
            + self.window as u64
            + self.checksum as u64
            + self.urgent as u64
    }
}

/// UDP (RFC 768).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    pub length: u16,
    pub checksum: u16,
}

/// ICMP (RFC 792); of a query, `rest[0]` is the identifier; of "fragmentation needed", `rest[1]` the MTU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub rest: [u16; 2],
}

/// Bytes of an untagged Ethernet header.
pub const ETHERNET: usize = size_of::<Ethernet>();
/// Bytes of a tagged Ethernet header.
pub const TAGGED: usize = ETHERNET + size_of::<Vlan>();
/// Bytes of an IPv4 header without options.
pub const IPV4: usize = size_of::<Ipv4>();
/// Bytes of the longest transport header that is read.
pub const TRANSPORT: usize = size_of::<Tcp>();
/// Bytes of an ICMP header.
pub const ICMP: usize = size_of::<Icmp>();

/// Offset of the destination address in an IPv6 header (RFC 8200 §3).
pub const IPV6_DESTINATION: usize = 24;

const _: () = assert!(ETHERNET == 14 && IPV4 == 20 && size_of::<Tcp>() == 20 && ICMP == 8);

/// Offsets of the fields that translation writes.
pub mod field {
    /// IPv4: identification.
    pub const IDENTIFICATION: usize = 4;
    /// TCP: sequence number.
    pub const SEQUENCE: usize = 4;
    /// IPv4: TTL and protocol, one checksummed word.
    pub const TTL: usize = 8;
    /// IPv4: header checksum.
    pub const IP_CHECKSUM: usize = 10;
    /// IPv4: source address.
    pub const SOURCE: usize = 12;
    /// IPv4: destination address.
    pub const DESTINATION: usize = 16;
    /// TCP and UDP: source port.
    pub const SOURCE_PORT: usize = 0;
    /// TCP and UDP: destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// TCP: checksum.
    pub const TCP_CHECKSUM: usize = 16;
    /// UDP: checksum.
    pub const UDP_CHECKSUM: usize = 6;
    /// ICMP: checksum.
    pub const ICMP_CHECKSUM: usize = 2;
    /// ICMP: identifier of a query.
    pub const IDENTIFIER: usize = 4;
}

/// Ethertypes (IEEE 802 numbers), in network order.
pub mod ethertype {
    pub const IPV4: u16 = 0x0800_u16.to_be();
    pub const ARP: u16 = 0x0806_u16.to_be();
    pub const VLAN: u16 = 0x8100_u16.to_be();
    pub const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();
    pub const IPV6: u16 = 0x86dd_u16.to_be();
}

/// Whether `sum`, which is not 0, is all ones when it is folded: whether 65,535 divides it. A product with the inverse of
/// an odd number is a small one where that divides.
#[inline(always)]
const fn is_all_ones(sum: u64) -> bool {
    const ONES: u64 = 0xffff;
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const _: () = assert!(ONES.wrapping_mul(INVERSE) == 1);
    sum.wrapping_mul(INVERSE) <= u64::MAX / ONES
}

/// Folds a sum of words of up to 32 bits into 16 bits: one's complement addition does not care where words begin.
#[inline(always)]
pub const fn fold_wide(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold(((sum & 0xffff) + (sum >> 16)) as u32)
}
