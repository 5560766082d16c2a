//! From bytes to meaning. All length checks live here; nothing here changes a packet.

use nat_common::{
    drop::DropReason,
    flow::FlowKey4,
    nacl,
    protocol::{self, icmp},
};

use crate::{
    header::{self, Ethernet, Icmp, Ipv4Words, Tcp, Udp, Vlan, ethertype},
    hook::Hook,
    packet::Packet,
    stop::Stop,
};

/// What a packet says about itself.
#[derive(Clone, Copy, Default)]
pub struct Parsed {
    /// Its tuple; the zone is filled in by the pipeline.
    pub key: FlowKey4,
    /// Index of the interface it belongs to: the VLAN device's own for a tagged frame.
    pub ifindex: u32,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// Bytes of the IP packet.
    pub length: u32,
    /// Bytes of the longest IP packet that it becomes on the wire.
    pub longest: u16,
    /// VLAN identifier, 0 for none.
    pub vlan: u16,
    /// ICMP type and code as [`nacl::service_of_icmp`]; 0 for other protocols.
    pub icmp: u16,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub service: u8,
    /// TCP header flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Whether it must not be fragmented, or is the first of fragments.
    pub division: Division,
    /// Whether the frame is addressed to a group of hosts.
    pub group: bool,
    /// Whether a packet that goes back where it came from must be redirected there.
    pub no_transmit: bool,
}

impl Parsed {
    /// Sets both ports, source first as in the packet, by one store: they are read as one word soon after, which two
    /// stores would delay.
    #[inline(always)]
    pub fn set_ports(&mut self, ports: u32) {
        // SAFETY: the ports stand side by side in the key, at a multiple of four bytes.
        unsafe { (&raw mut self.key).cast::<u32>().add(PORTS).write(ports) }
    }

    /// Both ports, source first.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        u32::from(self.key.source_port) | u32::from(self.key.destination_port) << 16
    }
}

/// Whether a packet may be fragmented, and whether it is.
#[derive(Clone, Copy, Default)]
pub struct Division(u8);

impl Division {
    const ATOMIC: u8 = 1;
    const FIRST: u8 = 2;

    /// That of a packet that must not be fragmented, or may be.
    #[inline(always)]
    const fn new(atomic: bool) -> Self {
        Self(if atomic { Self::ATOMIC } else { 0 })
    }

    /// Whether it must not be fragmented.
    #[inline(always)]
    pub const fn is_atomic(self) -> bool {
        self.0 & Self::ATOMIC != 0
    }

    /// Whether its identification counts: it may be fragmented, or is a fragment (RFC 6864 §4.1).
    #[inline(always)]
    pub const fn is_identified(self) -> bool {
        self.0 != Self::ATOMIC
    }

    /// Whether it is the first of fragments, with the ports of all.
    #[inline(always)]
    pub const fn is_first(self) -> bool {
        self.0 & Self::FIRST != 0
    }

    /// From now on it is.
    #[inline(always)]
    pub const fn set_first(&mut self) {
        self.0 |= Self::FIRST;
    }
}

/// Where the ports of a key begin, in words of four bytes.
const PORTS: usize = core::mem::offset_of!(FlowKey4, source_port) / 4;

/// What a packet is, to a NAT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Part of a session: TCP, UDP, an ICMP query or a protocol without ports.
    Session,
    /// An ICMP error about such a packet.
    Error,
    /// A protocol that is never translated.
    Other,
    /// A fragment of either, whose transport header was not read.
    Fragment,
}

/// Reads the link layer up to an IPv4 header. Frames of the link itself go to the stack.
#[inline(always)]
pub fn frame<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), Stop> {
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Err(Stop::Drop(DropReason::FrameTooShort));
    };
    parsed.l3 = header::ETHERNET as u16;
    parsed.ifindex = packet.ingress();
    parsed.group = ethernet.destination[0] & 0x01_u16 != 0;
    if packet.is_for_another() {
        return Err(Stop::Stack);
    }
    let tag = packet.tag_beside();
    if let Some(tag) = tag {
        parsed.vlan = u16::from_be(tag.control) & 0x0fff;
    }
    if ethernet.ethertype == ethertype::IPV4 && tag.is_none_or(|tag| tag.ethertype == ethertype::VLAN) {
        return Ok(());
    }
    other_frame(packet, parsed, &ethernet)
}

/// Everything but an untagged IPv4 frame.
#[inline(always)]
fn other_frame<P: Packet>(packet: &P, parsed: &mut Parsed, ethernet: &Ethernet) -> Result<(), Stop> {
    let mut kind = ethernet.ethertype;
    if let Some(tag) = packet.tag_beside() {
        if tag.ethertype != ethertype::VLAN {
            kind = tag.ethertype;
        }
    } else if kind == ethertype::VLAN {
        let Some(tag) = packet.read::<Vlan>(header::ETHERNET) else {
            return Err(Stop::Drop(DropReason::FrameTooShort));
        };
        parsed.l3 = header::TAGGED as u16;
        parsed.vlan = u16::from_be(tag.control) & 0x0fff;
        kind = tag.ethertype;
    }
    // A switch never forwards 01:80:c2:00:00:0x (IEEE 802.1D §7.12.6): LLDP, LACP and their like are the host's own.
    let reserved =
        ethernet.destination[0] == 0x8001_u16.to_le() && ethernet.destination[1] == 0x00c2_u16.to_le();
    if kind == ethertype::IPV4 {
        Ok(())
    } else if kind == ethertype::ARP || reserved {
        Err(Stop::Stack)
    } else if kind == ethertype::IPV6 {
        Err(crate::interface::ipv6(packet, parsed.l3 as usize))
    } else if kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN {
        Err(Stop::Drop(DropReason::VlanDepth))
    } else {
        Err(Stop::Drop(DropReason::EtherType))
    }
}

/// Reads the IPv4 header (RFC 1812 §5.2.2: what is unsound is discarded silently).
#[inline(always)]
pub fn ipv4<P: Hook>(packet: &mut P, parsed: &mut Parsed) -> Result<Ipv4Words, Stop> {
    let l3 = parsed.l3 as usize;
    let Some(mut ip) = packet.read::<Ipv4Words>(l3) else {
        return Err(Stop::Drop(DropReason::FrameTooShort));
    };
    let end = l3 + usize::from(ip.total_length());
    if !packet.reaches(end) {
        let is_cut = packet.length() < end;
        // Read anew, and not kept meanwhile: the verifier allows the stack not a word more.
        ip = match packet.read(l3) {
            Some(ip) if !is_cut => ip,
            Some(ip) => return Err(Stop::Drop(cut(&ip))),
            None => return Err(Stop::Drop(DropReason::FrameTooShort)),
        };
    }
    if ip.version_and_length() >> 4 != 4 {
        return Err(Stop::Drop(DropReason::IpVersion));
    }
    let header = ip.length();
    let mut length = u32::from(ip.total_length());
    if length == 0 && packet.segment_payload() != 0 {
        // More than the field can tell, and left to segmentation.
        length = packet.length() as u32 - l3 as u32;
    }
    if header < header::IPV4 {
        return Err(Stop::Drop(DropReason::IpHeaderLength));
    }
    if (length as usize) < header {
        return Err(Stop::Drop(DropReason::IpTotalLength));
    }
    if header == header::IPV4 {
        if !ip.is_intact() {
            return Err(Stop::Drop(DropReason::IpChecksum));
        }
    } else {
        packet.check_options(l3, header)?;
    }
    parsed.key.source = ip.source();
    parsed.key.destination = ip.destination();
    parsed.key.protocol = ip.protocol();
    parsed.l4 = parsed.l3 + header as u16;
    parsed.length = length;
    parsed.longest = length as u16;
    parsed.ttl = ip.ttl();
    parsed.service = ip.service();
    parsed.division = Division::new(ip.is_atomic());
    Ok(ip)
}

/// What is wrong with a packet that ends before its length: what is worse comes first.
#[inline(always)]
fn cut(ip: &Ipv4Words) -> DropReason {
    if ip.version_and_length() >> 4 != 4 {
        DropReason::IpVersion
    } else if ip.length() < header::IPV4 {
        DropReason::IpHeaderLength
    } else {
        DropReason::IpTotalLength
    }
}

/// Reads the transport header of a packet that is not a fragment.
#[inline(always)]
pub fn transport<P: Packet>(packet: &P, parsed: &mut Parsed, ip: &Ipv4Words) -> Result<Content, DropReason> {
    if ip.is_fragment() {
        return Ok(Content::Fragment);
    }
    let room = parsed.length as usize - (parsed.l4 - parsed.l3) as usize;
    match ip.protocol() {
        protocol::TCP => tcp(packet, parsed, room),
        protocol::UDP => udp(packet, parsed, room),
        protocol::ICMP => icmp(packet, parsed, room),
        protocol::GRE | protocol::ESP => port_less(packet, parsed, room),
        _ => Ok(Content::Other),
    }
}

/// Reads a TCP header in `room` bytes.
#[inline(always)]
pub fn tcp<P: Packet>(packet: &P, parsed: &mut Parsed, room: usize) -> Result<Content, DropReason> {
    let Some(tcp) = packet.read::<Tcp>(parsed.l4 as usize) else {
        return Err(DropReason::TransportTruncated);
    };
    if room < size_of::<Tcp>() {
        return Err(DropReason::TransportTruncated);
    }
    let header = tcp.length() as usize;
    if header < size_of::<Tcp>() || header > room {
        return Err(DropReason::TcpHeaderLength);
    }
    parsed.set_ports(tcp.ports);
    parsed.tcp_flags = tcp.flags;
    segmented(packet, parsed, header);
    Ok(Content::Session)
}

#[inline(always)]
fn udp<P: Packet>(packet: &P, parsed: &mut Parsed, room: usize) -> Result<Content, DropReason> {
    // As words, which are read fastest.
    let Some([ports, length_and_checksum]) = packet.read::<[u32; size_of::<Udp>() / 4]>(parsed.l4 as usize)
    else {
        return Err(DropReason::TransportTruncated);
    };
    if room < size_of::<Udp>() {
        return Err(DropReason::TransportTruncated);
    }
    let length = usize::from(u16::from_be(length_and_checksum as u16));
    if length < size_of::<Udp>() || length > room {
        return Err(DropReason::UdpLength);
    }
    parsed.set_ports(ports);
    segmented(packet, parsed, size_of::<Udp>());
    Ok(Content::Session)
}

/// Nothing of it is read: not even its header's length is known, which each part has where it is left to segmentation.
#[inline(always)]
fn port_less<P: Packet>(packet: &P, parsed: &mut Parsed, room: usize) -> Result<Content, DropReason> {
    // The first words: GRE's flags and protocol, ESP's security parameters and sequence number.
    let least = if parsed.key.protocol == protocol::GRE { 4 } else { 8 };
    if room < least {
        return Err(DropReason::TransportTruncated);
    }
    segmented(packet, parsed, 0);
    Ok(Content::Session)
}

/// What is left to segmentation goes out in parts, each behind the same IP header and transport header of `header`
/// bytes.
#[inline(always)]
fn segmented<P: Packet>(packet: &P, parsed: &mut Parsed, header: usize) {
    let payload = packet.segment_payload();
    if payload != 0 {
        parsed.longest = parsed.l4 - parsed.l3 + header as u16 + payload as u16;
    }
}

/// Reads an ICMP header in `room` bytes.
#[inline(always)]
pub fn icmp<P: Packet>(packet: &P, parsed: &mut Parsed, room: usize) -> Result<Content, DropReason> {
    let Some(icmp) = packet.read::<Icmp>(parsed.l4 as usize) else {
        return Err(DropReason::TransportTruncated);
    };
    if room < size_of::<Icmp>() {
        return Err(DropReason::TransportTruncated);
    }
    parsed.icmp = nacl::service_of_icmp(icmp.kind, icmp.code);
    match icmp.kind {
        icmp::ECHO_REQUEST | icmp::TIMESTAMP => parsed.key.source_port = icmp.rest[0],
        // With identifier 0 a reply would look like a request: no query has two ports.
        icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY if icmp.rest[0] == 0 => parsed.set_ports(u32::MAX),
        icmp::ECHO_REPLY | icmp::TIMESTAMP_REPLY => parsed.key.destination_port = icmp.rest[0],
        icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => return Ok(Content::Error),
        _ => return Err(DropReason::IcmpType),
    }
    Ok(Content::Session)
}
