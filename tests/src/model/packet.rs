//! What a frame says: link, IPv4 and transport, each checked before it is believed (RFC 1812 §5.2.2).

use std::net::Ipv4Addr;

use super::wire::{address, sum, word};

/// Bytes of the link header.
pub const LINK: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4: usize = 20;

/// ICMP message types (RFC 792).
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Echo.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER: u8 = 12;
    /// Timestamp.
    pub const TIMESTAMP: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
}

/// Header flags of TCP.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;
}

/// An IPv4 packet: where its parts stand in the frame, and what its header says.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Where the IP header begins.
    pub ip: usize,
    /// Where the transport header begins.
    pub transport: usize,
    /// Where the packet ends; the frame may go on with padding.
    pub end: usize,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Whether it is part of a larger datagram.
    pub fragment: bool,
    /// Whether it must not become one (RFC 6864: then its identification says nothing).
    pub atomic: bool,
    /// Whether the frame is addressed to a group of hosts.
    pub group: bool,
}

/// What a frame is.
pub enum Read {
    /// IPv4.
    Datagram(Datagram),
    /// IPv6 to this address.
    Ipv6([u8; 16]),
    /// A protocol of the link itself.
    Link,
    /// Nothing that can be read, and why.
    Unsound(&'static str),
}

/// Reads a frame.
pub fn read(frame: &[u8]) -> Read {
    if frame.len() < LINK {
        return Read::Unsound("frame_too_short");
    }
    // 802.1D keeps these group addresses for the link: no bridge forwards them.
    let reserved = frame[..5] == [0x01, 0x80, 0xc2, 0, 0];
    match word(frame, 12) {
        0x0800 => datagram(frame),
        0x0806 => Read::Link,
        _ if reserved => Read::Link,
        0x86dd => match frame.get(LINK + 24..LINK + 40) {
            Some(bytes) => Read::Ipv6(bytes.try_into().expect("sixteen bytes")),
            None => Read::Unsound("frame_too_short"),
        },
        0x88a8 => Read::Unsound("vlan_depth"),
        _ => Read::Unsound("ether_type"),
    }
}

fn datagram(frame: &[u8]) -> Read {
    let ip = LINK;
    let Some(fixed) = frame.get(ip..ip + IPV4) else { return Read::Unsound("frame_too_short") };
    let (header, total) = (usize::from(fixed[0] & 15) * 4, usize::from(word(fixed, 2)));
    if fixed[0] >> 4 != 4 {
        return Read::Unsound("ip_version");
    }
    if header < IPV4 {
        return Read::Unsound("ip_header_length");
    }
    if total < header || ip + total > frame.len() {
        return Read::Unsound("ip_total_length");
    }
    let whole = &frame[ip..ip + header];
    if sum(whole) != 0xffff {
        return Read::Unsound("ip_checksum");
    }
    if let Err(reason) = options(&whole[IPV4..]) {
        return Read::Unsound(reason);
    }
    Read::Datagram(Datagram {
        ip,
        transport: ip + header,
        end: ip + total,
        source: address(fixed, 12),
        destination: address(fixed, 16),
        protocol: fixed[9],
        ttl: fixed[8],
        // The reserved bit and "don't fragment" say nothing about that.
        fragment: word(fixed, 6) & 0x3fff != 0,
        atomic: word(fixed, 6) & 0x4000 != 0,
        group: frame[0] & 1 != 0,
    })
}

/// Walks the options: those that record or steer a route are refused (RFC 7126 §4), and those that overrun.
fn options(mut options: &[u8]) -> Result<(), &'static str> {
    const ROUTE: [u8; 4] = [7, 68, 131, 137];
    while let Some(option) = options.first() {
        match option {
            0 => return Ok(()),
            1 => options = &options[1..],
            option if ROUTE.contains(option) => return Err("source_route"),
            _ => {
                let length = options.get(1).map_or(0, |length| usize::from(*length));
                if length < 2 || length > options.len() {
                    return Err("ip_options");
                }
                options = &options[length..];
            }
        }
    }
    Ok(())
}

/// What a packet carries, as far as a NAT cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// TCP.
    Tcp {
        /// Source and destination port.
        ports: [u16; 2],
        /// Header flags.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// What the segment occupies of the stream, SYN and FIN not counted.
        data: u32,
    },
    /// UDP.
    Udp {
        /// Source and destination port.
        ports: [u16; 2],
    },
    /// An ICMP query or its reply.
    Query {
        /// Whether it is the reply.
        reply: bool,
        /// What tells queries apart.
        identifier: u16,
    },
    /// An ICMP error.
    Error,
    /// GRE or ESP, which have no ports.
    Bare,
    /// Any other protocol.
    Other,
}

/// Reads the transport header of a whole packet.
pub fn content(frame: &[u8], datagram: &Datagram) -> Result<Content, &'static str> {
    let body = &frame[datagram.transport..datagram.end];
    match datagram.protocol {
        6 => tcp(body),
        17 => udp(body),
        1 => icmp(body),
        47 | 50 if body.len() < if datagram.protocol == 47 { 4 } else { 8 } => Err("transport_truncated"),
        47 | 50 => Ok(Content::Bare),
        _ => Ok(Content::Other),
    }
}

fn tcp(body: &[u8]) -> Result<Content, &'static str> {
    if body.len() < 20 {
        return Err("transport_truncated");
    }
    let header = usize::from(body[12] >> 4) * 4;
    if header < 20 || header > body.len() {
        return Err("tcp_header_length");
    }
    Ok(Content::Tcp {
        ports: [word(body, 0), word(body, 2)],
        flags: body[13],
        sequence: u32::from(word(body, 4)) << 16 | u32::from(word(body, 6)),
        acknowledgement: u32::from(word(body, 8)) << 16 | u32::from(word(body, 10)),
        data: (body.len() - header) as u32,
    })
}

fn udp(body: &[u8]) -> Result<Content, &'static str> {
    if body.len() < 8 {
        return Err("transport_truncated");
    }
    let length = usize::from(word(body, 4));
    if length < 8 || length > body.len() {
        return Err("udp_length");
    }
    Ok(Content::Udp { ports: [word(body, 0), word(body, 2)] })
}

fn icmp(body: &[u8]) -> Result<Content, &'static str> {
    if body.len() < 8 {
        return Err("transport_truncated");
    }
    match body[0] {
        kind::ECHO | kind::TIMESTAMP => Ok(Content::Query { reply: false, identifier: word(body, 4) }),
        kind::ECHO_REPLY | kind::TIMESTAMP_REPLY => {
            Ok(Content::Query { reply: true, identifier: word(body, 4) })
        }
        kind::UNREACHABLE | kind::EXCEEDED | kind::PARAMETER => Ok(Content::Error),
        _ => Err("icmp_type"),
    }
}
