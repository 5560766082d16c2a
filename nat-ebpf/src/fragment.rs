//! Fragments, without reassembly (RFC 4787 §11, RFC 1812 §5.2.6): the first one goes the way of a whole packet and leaves
//! a record, by which the others are translated. What could change ports behind the back of NACLs and sessions is refused
//! (RFC 1858, RFC 3128).

use nat_common::{
    checksum::Delta,
    config::{Config, Role, slot},
    drop::DropReason,
    flow::Direction,
    fragment::{Key, MAX_PACKET, Record, Refusal},
    protocol::{self, icmp},
};

use crate::{
    admit, datagram,
    fib::{self, Query},
    flow::Rewrite,
    forward,
    header::{self, Icmp, Ipv4, Tcp, field},
    identification, interface,
    maps::CONFIG,
    packet::Packet,
    parse::{self, Parsed},
    slow,
    stop::{Reply, Stop},
    translate,
};

/// A fragment as its IP header tells.
#[derive(Clone, Copy)]
struct Fragment {
    key: Key,
    /// Where its content begins in the datagram's.
    offset: u32,
    /// Bytes of content.
    bytes: u32,
    /// Whether others follow.
    more: bool,
}

impl Fragment {
    #[inline(always)]
    fn read<P: Packet>(packet: &P, parsed: &Parsed) -> Option<Self> {
        let ip = packet.read::<Ipv4>(parsed.l3 as usize)?;
        let place = u16::from_be(ip.fragment);
        let identification = ip.identification;
        let key = Key {
            source: parsed.key.source,
            destination: parsed.key.destination,
            identification,
            protocol: parsed.key.protocol,
            zone: parsed.key.zone,
        };
        let bytes = parsed.length.wrapping_sub(u32::from(parsed.l4 - parsed.l3));
        Some(Self { key, offset: u32::from(place & 0x1fff) * 8, bytes, more: place & 0x2000 != 0 })
    }

    /// Where the datagram ends, if this is its last fragment.
    #[inline(always)]
    const fn end(&self) -> Option<u32> {
        if self.more { None } else { Some(self.offset + self.bytes) }
    }
}

/// Lets a fragment pass that is not the first, translated; of the first one, reads the ports and nothing else: it goes on
/// as a whole packet does.
#[inline(always)]
pub fn pass<P: Packet>(
    context: *mut P::Context,
    parsed: &mut Parsed,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let mut packet = P::attach(context);
    let Some(fragment) = Fragment::read(&packet, parsed) else {
        return Err(Stop::Drop(DropReason::FrameTooShort));
    };
    if let Err(reason) = check(&packet, parsed, &fragment, generation) {
        return Err(interface::host_or(reason, parsed, generation));
    }
    if parsed.division.is_first() {
        return Ok(());
    }
    let Fragment { key, bytes, .. } = fragment;
    let Some(record) = datagram::follow(&key, bytes, fragment.end(), generation) else {
        return Err(unknown::<P>(context, parsed, generation, rewrite));
    };
    if record.generation != generation {
        return Err(Stop::Drop(DropReason::FragmentUnknown));
    }
    if parsed.ttl <= 1 {
        // Never an error about a fragment that is not the first (RFC 1812 §4.3.2.7).
        return Err(Stop::Drop(Reply::TimeExceeded.otherwise()));
    }
    rewrite.hop = record.hop;
    rewrite.address = record.address;
    rewrite.mtu = record.mtu;
    rewrite.identification = record.identification;
    let role = interface::role(parsed.ifindex, slot(generation));
    let fits = u32::from(parsed.longest) <= role.map_or(0, |role: &Role| role.mtu);
    if !fits && rewrite.mtu == 0 {
        let query = query(parsed, record.address);
        fib::hop::<P>(context, &query, generation, rewrite).map_err(unanswered)?;
    }
    if rewrite.mtu != 0 {
        return Err(slow::divide::<P>(context, parsed, generation, rewrite));
    }
    forward::frame(&mut packet, parsed, &rewrite.hop)?;
    // ---- everything above looks, everything below writes ----
    write(&packet, parsed, rewrite.address, key.identification, record.identification);
    Ok(())
}

/// What is left to do before a packet that is not like others is written: a first fragment leaves its record, and what is
/// too big for the next link goes to the controller.
#[inline(always)]
pub fn aside<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    rewrite.identification = identify::<P>(context, parsed, rewrite.address);
    if parsed.division.is_first() {
        Stop::decode(leave_record::<P>(context, parsed, generation, rewrite))?;
    }
    if rewrite.mtu != 0 {
        return Err(slow::divide::<P>(context, parsed, generation, rewrite));
    }
    Ok(())
}

/// The identification that fragments of a packet leave with: outbound one of the gateway's own (RFC 6864 §5.3.1).
#[inline(always)]
fn identify<P: Packet>(context: *mut P::Context, parsed: &Parsed, elastic_ip: u32) -> u16 {
    if elastic_ip != 0 && parsed.key.direction() == Direction::Outbound {
        return identification::next(elastic_ip, parsed.key.destination, parsed.key.protocol, 1);
    }
    P::attach(context).read::<Ipv4>(parsed.l3 as usize).map_or(0, |ip| ip.identification)
}

/// Not inlined: with the rest it would need more stack than a program has.
#[inline(never)]
fn leave_record<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &Rewrite,
) -> u64 {
    let Some(fragment) = Fragment::read(&P::attach(context), parsed) else {
        return Stop::encode(Err(Stop::Drop(DropReason::FrameTooShort)));
    };
    let Fragment { key, bytes, .. } = fragment;
    let record = Record {
        ports: parsed.ports(),
        generation,
        address: rewrite.address,
        identification: rewrite.identification,
        mtu: rewrite.mtu,
        hop: rewrite.hop,
    };
    Stop::encode(datagram::leave(&key, &record, bytes).map_err(|refusal| match refusal {
        Refusal::Other => Stop::Drop(DropReason::FragmentOverlap),
        Refusal::Full => Stop::Drop(DropReason::FragmentsFull),
    }))
}

/// Refuses what no honest host sends, and what the configuration does. Reads the ports of a first fragment.
#[inline(always)]
fn check<P: Packet>(
    packet: &P,
    parsed: &mut Parsed,
    fragment: &Fragment,
    generation: u32,
) -> Result<(), DropReason> {
    let flags = CONFIG.get(slot(generation)).map_or(0, |config| config.flags);
    let protocol = parsed.key.protocol;
    if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::ICMP) {
        return Err(DropReason::Protocol);
    }
    if flags & Config::UDP_FRAGMENTS_ALONE != 0 && protocol != protocol::UDP {
        return Err(DropReason::FragmentsOff);
    }
    // A record knows of one translation, and these are translated twice.
    if parsed.key.direction() == Direction::Outbound
        && interface::gateway_of(parsed.key.destination, generation).is_some()
    {
        return Err(DropReason::FragmentHairpin);
    }
    let header = u32::from(parsed.l4 - parsed.l3);
    let &Fragment { offset, bytes, more, .. } = fragment;
    if bytes == 0 || header + offset + bytes > MAX_PACKET || more && bytes % 8 != 0 {
        return Err(DropReason::FragmentMalformed);
    }
    let least = if protocol == protocol::TCP { size_of::<Tcp>() as u32 } else { header::ICMP as u32 };
    if offset != 0 {
        // RFC 1858 §4: it would lie over the ports or flags that were checked.
        return if offset < least { Err(DropReason::FragmentOverlap) } else { Ok(()) };
    }
    // RFC 1858 §3.2: what cannot be checked does not pass.
    if bytes < least {
        return Err(DropReason::FragmentTiny);
    }
    ports(packet, parsed, bytes)?;
    parsed.division.set_first();
    if datagram::admits(&fragment.key, parsed.ports(), generation) {
        Ok(())
    } else {
        Err(DropReason::FragmentOverlap)
    }
}

/// Reads the transport header of a first fragment, whose `bytes` hold it.
#[inline(always)]
fn ports<P: Packet>(packet: &P, parsed: &mut Parsed, bytes: u32) -> Result<(), DropReason> {
    if parsed.key.protocol == protocol::UDP {
        let Some([ports, length_and_checksum]) = packet.read::<[u32; 2]>(parsed.l4 as usize) else {
            return Err(DropReason::TransportTruncated);
        };
        // The length is the datagram's, of which more is to come.
        if u32::from(u16::from_be(length_and_checksum as u16)) < header::ICMP as u32 {
            return Err(DropReason::UdpLength);
        }
        parsed.set_ports(ports);
        return Ok(());
    }
    if parsed.key.protocol == protocol::TCP {
        return parse::tcp(packet, parsed, bytes as usize).map(|_| ());
    }
    match packet.read::<Icmp>(parsed.l4 as usize) {
        Some(Icmp { kind: icmp::ECHO_REQUEST | icmp::ECHO_REPLY, .. }) => {
            parse::icmp(packet, parsed, bytes as usize).map(|_| ())
        }
        Some(Icmp { kind: icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM, .. }) => {
            Err(DropReason::FragmentIcmpError)
        }
        Some(_) => Err(DropReason::IcmpType),
        None => Err(DropReason::TransportTruncated),
    }
}

/// A fragment whose first one has not been seen: held if it may yet come, and if it could pass then.
#[inline(always)]
fn unknown<P: Packet>(context: *mut P::Context, parsed: &Parsed, generation: u32, rewrite: &Rewrite) -> Stop {
    let destination = parsed.key.destination;
    if interface::is_host(destination, generation) {
        return Stop::Stack;
    }
    match parsed.key.direction() {
        Direction::Inbound if interface::gateway_of(destination, generation).is_none() => {
            return Stop::Drop(DropReason::NotForGateway);
        }
        Direction::Outbound => {
            if let Err(stop) = admit::source(parsed, generation) {
                return stop;
            }
        }
        Direction::Inbound => {}
    }
    slow::hold::<P>(context, parsed, generation, rewrite)
}

/// The question for the hop of a fragment that leaves with `address` in it.
#[inline(always)]
fn query(parsed: &Parsed, address: u32) -> Query {
    let (source, destination) = (parsed.key.source, parsed.key.destination);
    if address == 0 {
        return Query::new(parsed, source, destination, false);
    }
    match parsed.key.direction() {
        Direction::Outbound => Query::new(parsed, address, destination, true),
        Direction::Inbound => Query::new(parsed, source, address, false),
    }
}

/// Takes the reply out of a stop.
#[inline(always)]
fn unanswered(stop: Stop) -> Stop {
    match stop {
        Stop::Reply(reply) => Stop::Drop(reply.otherwise()),
        Stop::Stack | Stop::Drop(_) | Stop::Held | Stop::Divided(_) => stop,
    }
}

/// Translates the IP header of a fragment that has no other.
#[inline(always)]
fn write<P: Packet>(packet: &P, parsed: &Parsed, address: u32, old: u16, identification: u16) {
    let l3 = parsed.l3 as usize;
    let mut change = Delta::NONE.word(old, identification);
    if identification != old {
        packet.write(l3 + field::IDENTIFICATION, identification);
    }
    if address != 0 {
        let (replaced, at) = match parsed.key.direction() {
            Direction::Outbound => (parsed.key.source, field::SOURCE),
            Direction::Inbound => (parsed.key.destination, field::DESTINATION),
        };
        packet.write(l3 + at, address);
        change = change.dword(replaced, address);
    }
    translate::lower_ttl(packet, parsed, change);
}
