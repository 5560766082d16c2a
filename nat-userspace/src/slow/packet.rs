//! The translation that the data plane makes, on bytes of memory: of packets that it has left to the controller.

use nat_common::{checksum::Delta, flow::Direction, protocol};

/// Bytes of an IP header without options.
const IPV4: usize = 20;

/// How a packet is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Whose endpoint is replaced: the source of outbound packets, the destination of inbound ones.
    pub direction: Direction,
    /// The address in its place, network order; 0: none is replaced.
    pub address: u32,
    /// The port or identifier in its place, network order; only whole packets and first fragments have one.
    pub port: u16,
    /// The identification that it leaves with, network order.
    pub identification: u16,
    /// Whether its transport checksum covers the pseudo-header alone, because a device was to complete it.
    pub pending: bool,
}

/// The fields of an IP packet that say where its content belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the IP header.
    pub header: usize,
    /// Where the content begins in the datagram's.
    pub offset: usize,
    /// Whether more follows.
    pub more: bool,
    /// Whether it must not be fragmented.
    pub atomic: bool,
}

impl Place {
    /// Reads an IP packet; `None` if there is no whole header.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        if header < IPV4 || packet.len() < header {
            return None;
        }
        let bits = u16::from_be_bytes([packet[6], packet[7]]);
        Some(Self {
            header,
            offset: usize::from(bits & 0x1fff) * 8,
            more: bits & 0x2000 != 0,
            atomic: bits & 0x4000 != 0,
        })
    }
}

/// The identification of an IP packet, network order; `None` if there is no whole header.
#[must_use]
pub fn identification_of(packet: &[u8]) -> Option<u16> {
    Place::of(packet).map(|_| word(packet, 4))
}

/// Translates an IP packet as the data plane would; false, and nothing has changed, if it cannot be sent on.
#[must_use]
pub fn translate(packet: &mut [u8], rewrite: &Rewrite) -> bool {
    let Some(place) = Place::of(packet) else { return false };
    let protocol = packet[9];
    let has_transport = place.offset == 0;
    let needed = match protocol {
        protocol::TCP => 20,
        _ => 8,
    };
    if packet[8] <= 1 || has_transport && packet.len() < place.header + needed {
        return false;
    }
    let ttl = word(packet, 8);
    packet[8] -= 1;
    let mut of_header = Delta::NONE.word(ttl, word(packet, 8));
    of_header = of_header.and(set_word(packet, 4, rewrite.identification));
    let mut pseudo = Delta::NONE;
    let mut ports = Delta::NONE;
    if rewrite.address != 0 {
        let (address_at, port_at) = match rewrite.direction {
            Direction::Outbound => (12, 0),
            Direction::Inbound => (16, 2),
        };
        let port_at = if protocol == protocol::ICMP { 4 } else { port_at };
        let [high, low] = halves(rewrite.address);
        pseudo = set_word(packet, address_at, high).and(set_word(packet, address_at + 2, low));
        if has_transport {
            ports = set_word(packet, place.header + port_at, rewrite.port);
        }
    }
    let checksum = of_header.and(pseudo).apply(word(packet, 10));
    set_word(packet, 10, checksum);
    if has_transport {
        transport(packet, place.header, protocol, pseudo, ports, rewrite.pending);
    }
    true
}

/// Brings a transport checksum up to date.
fn transport(packet: &mut [u8], header: usize, protocol: u8, pseudo: Delta, ports: Delta, pending: bool) {
    let (at, is_udp) = match protocol {
        protocol::TCP => (header + 16, false),
        protocol::UDP => (header + 6, true),
        _ => {
            let checksum = ports.apply(word(packet, header + 2));
            set_word(packet, header + 2, checksum);
            return;
        }
    };
    if pending {
        return complete(packet, header, at, is_udp);
    }
    let (old, change) = (word(packet, at), pseudo.and(ports));
    set_word(packet, at, if is_udp { change.apply_udp(old) } else { change.apply(old) });
}

/// Computes the transport checksum that was left to a device.
fn complete(packet: &mut [u8], header: usize, at: usize, is_udp: bool) {
    set_word(packet, at, 0);
    let length = (packet.len() - header) as u16;
    let pseudo = [[0, packet[9]], length.to_be_bytes()].concat();
    let checksum = !sum(&[&packet[12..20], &pseudo, &packet[header..]]);
    set_word(packet, at, if is_udp && checksum == 0 { 0xffff } else { checksum });
}

/// The one's complement sum of these bytes, each part of even length but the last (RFC 1071).
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let last = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_ne_bytes([pair[0], last]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a word and says what that changes in a checksum over it.
pub(super) fn set_word(bytes: &mut [u8], at: usize, new: u16) -> Delta {
    let old = word(bytes, at);
    bytes[at..at + 2].copy_from_slice(&new.to_ne_bytes());
    Delta::NONE.word(old, new)
}

fn halves(address: u32) -> [u16; 2] {
    let [a, b, c, d] = address.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}
