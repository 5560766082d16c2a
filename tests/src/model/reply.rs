//! The ICMP errors of the gateway itself (RFC 1812 §4.3.2).

use std::net::Ipv4Addr;

use super::{
    packet::{Datagram, IPV4, LINK, flag},
    wire::{put, put_address, sum},
};

/// The longest error, and what of it is not the quote.
const LONGEST: usize = 576;
const HEADERS: usize = IPV4 + 8;
/// Bytes of a TCP header without options.
const TCP: usize = 20;

/// Why the gateway answers.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// ICMP type and code.
    pub kind: (u8, u8),
    /// The drop reason that is counted where the answer is not due, or in any case if the packet is refused.
    pub reason: &'static str,
    /// Whether the packet is refused, and its sender merely told.
    pub refusal: bool,
    /// Whether private hosts alone are told.
    pub inside: bool,
}

impl Reply {
    /// The TTL ran out.
    pub const EXCEEDED: Self = Self { kind: (11, 0), reason: "ttl_expired", refusal: false, inside: false };
    /// No port is free.
    pub const NO_PORT: Self =
        Self { kind: (3, 13), reason: "error_port_allocation", refusal: true, inside: false };
    /// A protocol that is not translated (RFC 1812 §5.2.7.1).
    pub const NO_PROTOCOL: Self = Self::told(2, "protocol");
    /// No route leads there.
    pub const NO_ROUTE: Self = Self::told(0, "no_route");

    /// A private host is told by this code that its packet is refused, for this reason.
    pub const fn told(code: u8, reason: &'static str) -> Self {
        Self { kind: (3, code), reason, refusal: true, inside: true }
    }
}

/// Whether a packet's source is one host that can be told (RFC 1812 §4.3.2.7).
pub fn is_due(datagram: &Datagram) -> bool {
    !datagram.group && !is_martian(datagram.source)
}

/// Whether an address may not appear on a wire (RFC 1812 §5.3.7).
pub fn is_martian(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first == 127 || first >= 224
}

/// The RST that tells the sender of a segment that nobody knows its connection (RFC 9293 §3.10.7.1), as its remote would.
pub fn reset(frame: &[u8], datagram: &Datagram) -> Vec<u8> {
    let segment = &frame[datagram.transport..datagram.end];
    let mut answer = [&frame[6..12], &frame[..6], &frame[12..datagram.transport]].concat();
    let header = datagram.transport - datagram.ip;
    let ip = &mut answer[LINK..];
    ip[1] &= 0xfc;
    put(ip, 2, (header + TCP) as u16);
    put(ip, 4, 0);
    put(ip, 6, 0x4000);
    ip[8] = 64;
    put_address(ip, 12, datagram.destination);
    put_address(ip, 16, datagram.source);
    put(ip, 10, 0);
    let checksum = !sum(ip);
    put(ip, 10, checksum);
    let mut tcp = [0; TCP];
    tcp[..2].copy_from_slice(&segment[2..4]);
    tcp[2..4].copy_from_slice(&segment[..2]);
    tcp[12] = 5 << 4;
    let flags = segment[13];
    if flags & flag::ACK != 0 {
        tcp[4..8].copy_from_slice(&segment[8..12]);
        tcp[13] = flag::RST;
    } else {
        let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
        let data = segment.len() - usize::from(segment[12] >> 4) * 4;
        let controls = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        let next = sequence.wrapping_add(data as u32).wrapping_add(controls);
        tcp[8..12].copy_from_slice(&next.to_be_bytes());
        tcp[13] = flag::RST | flag::ACK;
    }
    let pseudo = [&answer[LINK + 12..LINK + IPV4], &[0, 6, 0, TCP as u8], &tcp[..]].concat();
    let checksum = !sum(&pseudo);
    put(&mut tcp, 16, checksum);
    answer.extend(tcp);
    answer
}

/// The frame that tells the sender of `frame`, from the gateway's address `own`.
pub fn frame(frame: &[u8], datagram: &Datagram, reply: Reply, own: Ipv4Addr) -> Vec<u8> {
    let packet = &frame[datagram.ip..datagram.end];
    let quote = &packet[..packet.len().min(LONGEST - HEADERS)];
    let mut answer = [&frame[6..12], &frame[..6], &frame[12..LINK]].concat();
    let mut ip = [0; IPV4];
    ip[0] = 0x45;
    // The error is as urgent as what it is about (RFC 5508 §7.7); congestion is not for errors.
    ip[1] = packet[1] & 0xfc;
    put(&mut ip, 2, (HEADERS + quote.len()) as u16);
    put(&mut ip, 6, 0x4000);
    (ip[8], ip[9]) = (64, 1);
    put_address(&mut ip, 12, own);
    put_address(&mut ip, 16, datagram.source);
    let checksum = !sum(&ip);
    put(&mut ip, 10, checksum);
    answer.extend(ip);
    let mut icmp = [&[reply.kind.0, reply.kind.1, 0, 0, 0, 0, 0, 0], quote].concat();
    let checksum = !sum(&icmp);
    put(&mut icmp, 2, checksum);
    answer.extend(icmp);
    answer
}
