//! The ICMP errors of the gateway itself (RFC 1812 §4.3.2).

use std::net::Ipv4Addr;

use super::{
    packet::{Datagram, IPV4, LINK},
    wire::{put, put_address, sum},
};

/// The longest error, and what of it is not the quote.
const LONGEST: usize = 576;
const HEADERS: usize = IPV4 + 8;

/// Why the gateway answers.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// ICMP type and code.
    pub kind: (u8, u8),
    /// The drop reason that is counted where the answer is not due, or in any case if the packet is refused.
    pub reason: &'static str,
    /// Whether the packet is refused, and its sender merely told.
    pub refusal: bool,
}

impl Reply {
    /// The TTL ran out.
    pub const EXCEEDED: Self = Self { kind: (11, 0), reason: "ttl_expired", refusal: false };
    /// No port is free.
    pub const NO_PORT: Self = Self { kind: (3, 13), reason: "error_port_allocation", refusal: true };
}

/// Whether a packet's source is one host that can be told (RFC 1812 §4.3.2.7).
pub fn is_due(datagram: &Datagram) -> bool {
    let [first, ..] = datagram.source.octets();
    !datagram.group && first != 0 && first != 127 && first < 224
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
