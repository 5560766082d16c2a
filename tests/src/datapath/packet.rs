//! Packets, and what must become of them. Every checksum is computed from scratch over the finished packet, by code
//! that natgw does not use.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader, checksum::Sum16BitWords};

use super::{
    flags::{ACK, FIN, RST, SYN},
    network::{ROUTER, Side, mac_of},
};

const IPV4: [u8; 2] = [0x08, 0x00];
const TAG: [u8; 2] = [0x81, 0x00];

/// What an IPv4 packet carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// TCP.
    Tcp(Box<TcpHeader>, Vec<u8>),
    /// UDP, with or without a checksum.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Whether there is a checksum.
        checksum: bool,
        /// The datagram's content.
        payload: Vec<u8>,
    },
    /// ICMP: a query's identifier and sequence number stand in `rest`, an error's quote in `payload`.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes 4 to 7.
        rest: [u8; 4],
        /// What follows.
        payload: Vec<u8>,
    },
    /// Anything else, as it stands.
    Raw(u8, Vec<u8>),
}

/// An IPv4 packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Destination and source MAC address.
    pub macs: [[u8; 6]; 2],
    /// The VLAN tag's 16 bits of control, where there is a tag.
    pub tag: Option<u16>,
    /// The IP header; length and checksum are computed.
    pub ip: Ipv4Header,
    /// What it carries.
    pub body: Body,
    /// Bytes of Ethernet padding behind the packet.
    pub padding: usize,
}

/// A TCP segment with these header flags and 5 bytes of data, as it arrives at the gateway.
#[must_use]
pub fn tcp(source: Ipv4Addr, port: u16, remote: Ipv4Addr, remote_port: u16, flags: u8) -> Packet {
    let mut header = TcpHeader::new(port, remote_port, 0x1234_5678, 8_192);
    header.fin = flags & FIN != 0;
    header.syn = flags & SYN != 0;
    header.rst = flags & RST != 0;
    header.ack = flags & ACK != 0;
    Packet::arriving(source, remote, Body::Tcp(Box::new(header), b"hello".to_vec()))
}

/// A UDP datagram of 7 bytes, as it arrives at the gateway.
#[must_use]
pub fn udp(source: Ipv4Addr, port: u16, remote: Ipv4Addr, remote_port: u16) -> Packet {
    let payload = b"request".to_vec();
    let body = Body::Udp { source: port, destination: remote_port, checksum: true, payload };
    Packet::arriving(source, remote, body)
}

/// An ICMP echo request, as it arrives at the gateway.
#[must_use]
pub fn echo_request(source: Ipv4Addr, identifier: u16, remote: Ipv4Addr) -> Packet {
    query(8, source, identifier, remote)
}

/// An ICMP echo reply, as it arrives at the gateway.
#[must_use]
pub fn echo_reply(source: Ipv4Addr, identifier: u16, remote: Ipv4Addr) -> Packet {
    query(0, source, identifier, remote)
}

/// An ICMP timestamp request, as it arrives at the gateway.
#[must_use]
pub fn timestamp_request(source: Ipv4Addr, identifier: u16, remote: Ipv4Addr) -> Packet {
    query(13, source, identifier, remote).payload(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn query(kind: u8, source: Ipv4Addr, identifier: u16, remote: Ipv4Addr) -> Packet {
    let [high, low] = identifier.to_be_bytes();
    let body = Body::Icmp { kind, code: 0, rest: [high, low, 0, 1], payload: b"are you there".to_vec() };
    Packet::arriving(source, remote, body)
}

/// An ICMP error of type `kind` from `source` about the packet whose first bytes are `quote`.
#[must_use]
pub fn icmp_error(source: Ipv4Addr, destination: Ipv4Addr, kind: u8, code: u8, quote: Vec<u8>) -> Packet {
    Packet::arriving(source, destination, Body::Icmp { kind, code, rest: [0; 4], payload: quote })
}

impl Packet {
    /// A packet on the gateway's link to `source`, or to the router where `source` is outside.
    #[must_use]
    pub fn arriving(source: Ipv4Addr, destination: Ipv4Addr, body: Body) -> Self {
        let (side, tag) = Side::of(source);
        let sender = if side == Side::External { ROUTER } else { source };
        let mut ip = Ipv4Header::new(0, 64, IpNumber(0), source.octets(), destination.octets())
            .expect("an empty packet is short enough");
        ip.identification = 0xbeef;
        ip.dont_fragment = true;
        Self { macs: [side.mac(), mac_of(sender)], tag, ip, body, padding: 0 }
    }

    /// The same packet after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same packet with this TTL.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        self.with(|packet| packet.ip.time_to_live = ttl)
    }

    /// The same packet with this content instead of its own.
    #[must_use]
    pub fn payload(self, content: &[u8]) -> Self {
        self.with(|packet| {
            let (Body::Tcp(_, payload)
            | Body::Udp { payload, .. }
            | Body::Icmp { payload, .. }
            | Body::Raw(_, payload)) = &mut packet.body;
            *payload = content.to_vec();
        })
    }

    /// How an outbound packet leaves: from this endpoint, one hop on, to the router.
    #[must_use]
    pub fn translated(&self, address: Ipv4Addr, port: u16) -> Self {
        self.clone().source(address, port).leaving(Side::External.mac(), ROUTER, None)
    }

    /// How an inbound packet leaves: to this endpoint, one hop on.
    #[must_use]
    pub fn delivered(&self, address: Ipv4Addr, port: u16) -> Self {
        let (side, tag) = Side::of(address);
        self.clone().destination(address, port).leaving(side.mac(), address, tag)
    }

    /// How a packet to an Elastic IP leaves to another internal host: from one endpoint, to the other, one hop on.
    #[must_use]
    pub fn turned_round(&self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Self {
        self.clone().source(from.0, from.1).delivered(to.0, to.1)
    }

    /// How a packet between two subnets leaves: as it is, one hop on.
    #[must_use]
    pub fn forwarded(&self) -> Self {
        let destination = Ipv4Addr::from(self.ip.destination);
        let (side, tag) = Side::of(destination);
        self.clone().leaving(side.mac(), destination, tag)
    }

    /// The remote's answer: addresses and ports change places, and a query becomes its reply.
    #[must_use]
    pub fn answer(&self) -> Self {
        let mut body = self.body.clone();
        match &mut body {
            Body::Tcp(header, _) => {
                std::mem::swap(&mut header.source_port, &mut header.destination_port);
                header.ack = true;
            }
            Body::Udp { source, destination, .. } => std::mem::swap(source, destination),
            Body::Icmp { kind, .. } => *kind = if *kind == 13 { 14 } else { 0 },
            Body::Raw(..) => {}
        }
        Self::arriving(self.ip.destination.into(), self.ip.source.into(), body)
    }

    /// The ICMP error that the gateway sends from `own` about this packet, on the link that it came from.
    #[must_use]
    pub fn answered(&self, own: Ipv4Addr, kind: u8, code: u8, mtu: u16) -> Self {
        let mut quote = self.bytes();
        quote.truncate(576 - 28);
        let [high, low] = mtu.to_be_bytes();
        let body = Body::Icmp { kind, code, rest: [0, 0, high, low], payload: quote };
        let mut answer = Self::arriving(own, self.ip.source.into(), body);
        answer.macs = [self.macs[1], self.macs[0]];
        answer.tag = self.tag;
        answer.ip.identification = 0;
        answer
    }

    /// The same packet from another endpoint.
    #[must_use]
    pub fn source(mut self, address: Ipv4Addr, port: u16) -> Self {
        self.ip.source = address.octets();
        match &mut self.body {
            Body::Tcp(header, _) => header.source_port = port,
            Body::Udp { source, .. } => *source = port,
            Body::Icmp { kind: 0 | 8 | 13 | 14, rest, .. } => rest[..2].copy_from_slice(&port.to_be_bytes()),
            Body::Icmp { .. } | Body::Raw(..) => {}
        }
        self
    }

    /// The same packet to another endpoint.
    #[must_use]
    pub fn destination(mut self, address: Ipv4Addr, port: u16) -> Self {
        self.ip.destination = address.octets();
        match &mut self.body {
            Body::Tcp(header, _) => header.destination_port = port,
            Body::Udp { destination, .. } => *destination = port,
            Body::Icmp { kind: 0 | 8 | 13 | 14, rest, .. } => rest[..2].copy_from_slice(&port.to_be_bytes()),
            Body::Icmp { .. } | Body::Raw(..) => {}
        }
        self
    }

    fn leaving(mut self, mac: [u8; 6], next_hop: Ipv4Addr, tag: Option<u16>) -> Self {
        self.macs = [mac_of(next_hop), mac];
        self.tag = tag;
        self.ip.time_to_live -= 1;
        self
    }

    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.macs.concat();
        if let Some(tag) = self.tag {
            frame.extend(TAG);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(IPV4);
        frame.extend(self.bytes());
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    /// Offset of the IP header in the frame.
    #[must_use]
    pub const fn l3(&self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }

    /// Offset of the transport header in the frame.
    #[must_use]
    pub fn l4(&self) -> usize {
        self.l3() + self.ip.header_len()
    }

    /// The IP packet.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut ip = self.ip.clone();
        let (protocol, body) = self.body_bytes();
        ip.protocol = IpNumber(protocol);
        ip.set_payload_len(body.len()).expect("a test packet is short enough");
        ip.header_checksum = ip.calc_header_checksum();
        [&ip.to_bytes()[..], &body].concat()
    }

    /// The beginning of the IP packet, as an ICMP error quotes it: the header and `transport` bytes behind it.
    #[must_use]
    pub fn quote(&self, transport: usize) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.truncate(self.ip.header_len() + transport);
        bytes
    }

    fn body_bytes(&self) -> (u8, Vec<u8>) {
        match &self.body {
            Body::Tcp(header, payload) => {
                let mut header = header.clone();
                header.checksum = header
                    .calc_checksum_ipv4_raw(self.ip.source, self.ip.destination, payload)
                    .expect("a test packet is short enough");
                (6, [&header.to_bytes()[..], payload].concat())
            }
            Body::Udp { source, destination, checksum, payload } => {
                let length = (payload.len() + 8) as u16;
                let mut header =
                    UdpHeader { source_port: *source, destination_port: *destination, length, checksum: 0 };
                if *checksum {
                    header.checksum = header
                        .calc_checksum_ipv4_raw(self.ip.source, self.ip.destination, payload)
                        .expect("a test packet is short enough");
                }
                (17, [&header.to_bytes()[..], payload].concat())
            }
            Body::Icmp { kind, code, rest, payload } => {
                let mut bytes = [&[*kind, *code, 0, 0][..], rest, payload].concat();
                let sum = checksum(&bytes);
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                (1, bytes)
            }
            Body::Raw(protocol, payload) => (*protocol, payload.clone()),
        }
    }
}

impl From<&Packet> for Vec<u8> {
    fn from(packet: &Packet) -> Self {
        packet.frame()
    }
}

/// The Internet checksum of `bytes` (RFC 1071): 0 if they hold a valid one.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
}

/// Makes the checksum of the IP header at `offset` right.
pub fn fix_ip_checksum(frame: &mut [u8], offset: usize) {
    let end = offset + usize::from(frame[offset] & 0x0f) * 4;
    frame[offset + 10..offset + 12].fill(0);
    let sum = checksum(&frame[offset..end]);
    frame[offset + 10..offset + 12].copy_from_slice(&sum.to_be_bytes());
}
