//! ICMP errors on their way through: the packet they quote is translated too (RFC 5508 §4).
//!
//! An error about a packet of one direction travels in the other: the flow it belongs to is that of the quoted
//! tuple, turned round. It neither opens nor refreshes nor ends a session (RFC 4787 REQ-12, RFC 5508 REQ-6).

use nat_common::{
    checksum::Delta,
    drop::DropReason,
    flow::{Direction, FlowKey4, OUTSIDE},
    mapping,
    protocol::{
        self,
        icmp::{ECHO_REPLY, ECHO_REQUEST, TIMESTAMP, TIMESTAMP_REPLY},
    },
    route::Target,
};

use crate::{
    admit, amend,
    fib::{self, Query},
    flow::{self, Rewrite},
    forward,
    header::{self, Icmp, Ipv4, field, fold_wide},
    interface, martian,
    packet::Packet,
    parse::Parsed,
    stop::{Reply, Stop},
    sum, translate,
};

/// Bytes of an error that are read or written: its own header, then IP and TCP of the packet quoted, at their longest.
const QUOTED: usize = header::ICMP + 60 + field::TCP_CHECKSUM + 2;

/// The packet that an error quotes.
#[derive(Clone, Copy, Default)]
struct Quote {
    /// Its tuple, turned round: as a packet of the error's own direction would carry it.
    key: FlowKey4,
    /// Offsets from the IP header of the error: of the quoted IP header and of the quoted transport header.
    ip: u16,
    transport: u16,
    /// The VPC of the session that it belongs to.
    vpc: u8,
    /// Whether so much is quoted that a TCP checksum would be among it.
    has_checksum: bool,
}

/// Translates an ICMP error, or says why not. `rewrite` takes the hop.
#[inline(always)]
pub fn error<P: Packet>(
    context: *mut P::Context,
    parsed: &mut Parsed,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let mut quote = Quote::default();
    if !read_quote::<P>(context, parsed, &mut quote) {
        return Err(interface::host_or(DropReason::IcmpQuote, parsed, generation));
    }
    match flow::seek(&quote.key, rewrite) {
        Some(_) if quote.key.zone != OUTSIDE => quote.vpc = quote.key.zone,
        // SAFETY: map values stay readable while the program runs; one byte cannot tear.
        Some(entry) => quote.vpc = unsafe { (*entry).vpc },
        None => seek_mapping(&mut quote, rewrite),
    }
    let mut query = Query::default();
    Stop::decode(admit(parsed, &quote, rewrite, generation, &mut query))?;
    if parsed.ttl <= 1 {
        // Never an error about an error (RFC 1812 §4.3.2.7).
        return Err(Stop::Drop(Reply::TimeExceeded.otherwise()));
    }
    if quote.vpc != 0 {
        Stop::decode(verify::<P>(context, parsed, &quote))?;
    }
    if query.external && interface::gateway_of(query.destination, generation).is_some() {
        turn(parsed, &mut quote, rewrite);
        Stop::decode(admit(parsed, &quote, rewrite, generation, &mut query))?;
    }
    fib::hop::<P>(context, &query, generation, rewrite).map_err(unanswered)?;
    if rewrite.mtu != 0 {
        return Err(Stop::Drop(DropReason::TooBig));
    }
    forward::frame(&mut P::attach(context), parsed, &rewrite.hop)?;
    // ---- everything above looks, everything below writes ----
    if rewrite.address != 0 && amend::is_numbered(parsed) {
        // What it quotes keeps the number that it left with: nobody knows which one it came with.
        amend::number::<P>(context, parsed, rewrite.address);
    }
    write::<P>(context, parsed, &quote, rewrite);
    Ok(())
}

/// The mapping by which a packet of no session came in that an internal host complains about.
#[inline(always)]
fn seek_mapping(quote: &mut Quote, rewrite: &mut Rewrite) {
    *rewrite = Rewrite::default();
    if quote.key.zone != OUTSIDE && flow::seek(&mapping::outbound_key(&quote.key), rewrite).is_some() {
        quote.vpc = quote.key.zone;
    }
}

/// Makes of an error to an Elastic IP (RFC 5508 REQ-7) what a remote would see, which comes in as from outside. Nothing is
/// written: `rewrite` notes where the session's own packets come from.
#[inline(always)]
fn turn(parsed: &mut Parsed, quote: &mut Quote, rewrite: &mut Rewrite) {
    rewrite.note_origin(&quote.key);
    (parsed.key.source, parsed.key.zone) = (rewrite.address, OUTSIDE);
    (quote.key.source, quote.key.source_port) = (rewrite.address, rewrite.port);
    (quote.key.zone, quote.vpc) = (OUTSIDE, 0);
    if let Some(entry) = flow::seek(&quote.key, rewrite) {
        // SAFETY: map values stay readable while the program runs; one byte cannot tear.
        quote.vpc = unsafe { (*entry).vpc };
    }
}

/// Not inlined: with the rest it would need more stack than a program has.
#[inline(never)]
fn write<P: Packet>(context: *mut P::Context, parsed: &Parsed, quote: &Quote, rewrite: &Rewrite) {
    let packet = P::attach(context);
    if rewrite.address == 0 {
        return translate::lower_ttl(&packet, parsed, Delta::NONE);
    }
    outer(&packet, parsed, rewrite.address, rewrite.is_turned());
    if rewrite.is_turned() {
        // The half of it that made it what a remote would see.
        let (address, port) = rewrite.origin();
        let (old, new) = ((address, port), (quote.key.source, quote.key.source_port));
        embedded(&packet, parsed, quote, Direction::Outbound, old, new);
    }
    let key = &quote.key;
    let (direction, old) = match parsed.key.direction() {
        Direction::Outbound => (Direction::Outbound, (key.source, key.source_port)),
        Direction::Inbound => (Direction::Inbound, (key.destination, key.destination_port)),
    };
    embedded(&packet, parsed, quote, direction, old, (rewrite.address, rewrite.port));
}

/// Whether the checksums of the error and of the IP header that it quotes are right (RFC 5508 REQ-3). That of the quoted
/// transport header is nobody's business here: it may cover more than is quoted. Not inlined, as above.
#[inline(never)]
fn verify<P: Packet>(context: *mut P::Context, parsed: &Parsed, quote: &Quote) -> u64 {
    let packet = P::attach(context);
    let (l3, l4) = (parsed.l3 as usize, parsed.l4 as usize);
    let Some(sum) = sum::of(&packet, l4, parsed.length as usize - (l4 - l3)) else {
        return Stop::encode(Err(Stop::Drop(DropReason::IcmpQuote)));
    };
    if fold_wide(sum) != 0xffff {
        return Stop::encode(Err(Stop::Drop(DropReason::IcmpChecksum)));
    }
    let header = usize::from(quote.transport - quote.ip);
    match sum::of(&packet, l3 + usize::from(quote.ip), header) {
        Some(sum) if fold_wide(sum) == 0xffff => Stop::encode(Ok(())),
        _ => Stop::encode(Err(Stop::Drop(DropReason::IcmpQuoteChecksum))),
    }
}

/// Whether the error may pass, and where it goes: `query` asks for its hop. Not inlined, as above.
#[inline(never)]
fn admit(parsed: &Parsed, quote: &Quote, rewrite: &Rewrite, generation: u32, query: &mut Query) -> u64 {
    Stop::encode(ask(parsed, quote, rewrite, generation).map(|asked| *query = asked).map_err(unanswered))
}

#[inline(always)]
fn ask(parsed: &Parsed, quote: &Quote, rewrite: &Rewrite, generation: u32) -> Result<Query, Stop> {
    let (source, destination) = (parsed.key.source, parsed.key.destination);
    let has_session = quote.vpc != 0;
    let inbound = parsed.key.direction() == Direction::Inbound;
    if has_session && destination != quote.key.destination {
        // It must go where the quoted packet came from; any router on the way may send it.
        return Err(Stop::Drop(DropReason::IcmpQuote));
    }
    if !has_session && (inbound || interface::is_host(destination, generation)) {
        return Err(interface::host_or(DropReason::IcmpNoSession, parsed, generation));
    }
    if inbound {
        if !rewrite.is_turned()
            && let Some(spoofed) = martian::outside(source, generation)
        {
            return Err(Stop::Drop(spoofed));
        }
        admit::inside(parsed, quote.vpc, rewrite.address, 0, generation)?;
        return Ok(Query::new(parsed, source, rewrite.address, false));
    }
    let mut target = Target::default();
    admit::leave(parsed, generation, &mut target)?;
    if has_session {
        // It leaves with the session's Elastic IP (RFC 5508 REQ-5).
        let gateway = admit::gateway_holding(rewrite.address, &target, generation)?;
        admit::outside(parsed, gateway, generation)?;
        return Ok(Query::new(parsed, rewrite.address, destination, true));
    }
    if target.kind != Target::LOCAL {
        return Err(Stop::Drop(DropReason::IcmpNoSession));
    }
    // From one subnet of a VPC to another nothing is translated.
    admit::arrive(parsed, parsed.key.zone, destination, 0, generation)?;
    Ok(Query::new(parsed, source, destination, false))
}

/// Takes the reply out of a stop: errors are not answered (RFC 1812 §4.3.2.7).
#[inline(always)]
fn unanswered(stop: Stop) -> Stop {
    match stop {
        Stop::Reply(reply) => Stop::Drop(reply.otherwise()),
        Stop::Stack | Stop::Drop(_) | Stop::Held | Stop::Divided(_) => stop,
    }
}

/// Reads the quoted packet, if it can be read. Not inlined, as above.
#[inline(never)]
fn read_quote<P: Packet>(context: *mut P::Context, parsed: &Parsed, into: &mut Quote) -> bool {
    let mut packet = P::attach(context);
    packet.reach(parsed.l4 as usize + QUOTED);
    match quote(&packet, parsed) {
        Some(quote) => {
            *into = quote;
            true
        }
        None => false,
    }
}

/// The quoted packet: its IP header with whatever options, and the 8 bytes of transport that every error carries
/// (RFC 792).
#[inline(always)]
fn quote<P: Packet>(packet: &P, parsed: &Parsed) -> Option<Quote> {
    let ip_at = parsed.l4 as usize + header::ICMP;
    let ip = packet.read::<Ipv4>(ip_at)?;
    let length = ip.length();
    let not_first = ip.fragment & 0x1fff_u16.to_be() != 0;
    if ip.version_and_length >> 4 != 4 || length < header::IPV4 || not_first {
        return None;
    }
    let transport_at = ip_at + length;
    let first = packet.read::<Icmp>(transport_at)?;
    if transport_at + size_of::<Icmp>() > parsed.l3 as usize + parsed.length as usize {
        return None;
    }
    // What follows the quoted packet is padding (RFC 4884 §3), and none of its fields.
    let quoted_end = ip_at + usize::from(u16::from_be(ip.total_length));
    if transport_at + size_of::<Icmp>() > quoted_end {
        return None;
    }
    // A checksum that the packet has and the program cannot write would be left wrong.
    let checksum_end = transport_at + field::TCP_CHECKSUM + 2;
    let has_checksum =
        checksum_end <= parsed.l3 as usize + parsed.length as usize && checksum_end <= quoted_end;
    if ip.protocol == protocol::TCP && has_checksum && packet.read::<u16>(checksum_end - 2).is_none() {
        return None;
    }
    let (source_port, destination_port) = match ip.protocol {
        // The first 4 bytes of TCP and UDP are the ports.
        protocol::TCP | protocol::UDP => (u16::from_ne_bytes([first.kind, first.code]), first.checksum),
        protocol::GRE | protocol::ESP => (0, 0),
        protocol::ICMP if matches!(first.kind, ECHO_REQUEST | TIMESTAMP) => (first.rest[0], 0),
        protocol::ICMP if matches!(first.kind, ECHO_REPLY | TIMESTAMP_REPLY) => (0, first.rest[0]),
        _ => return None,
    };
    let key = FlowKey4 {
        source: ip.destination,
        destination: ip.source,
        source_port: destination_port,
        destination_port: source_port,
        protocol: ip.protocol,
        zone: parsed.key.zone,
        spare: [0; 2],
    };
    let l3 = parsed.l3 as usize;
    let (ip, transport) = ((ip_at - l3) as u16, (transport_at - l3) as u16);
    Some(Quote { key, ip, transport, vpc: 0, has_checksum })
}

/// The error's own IP header.
#[inline(always)]
fn outer<P: Packet>(packet: &P, parsed: &Parsed, address: u32, is_turned: bool) {
    let l3 = parsed.l3 as usize;
    let (old, at) = match parsed.key.direction() {
        Direction::Outbound => (parsed.key.source, field::SOURCE),
        Direction::Inbound => (parsed.key.destination, field::DESTINATION),
    };
    let mut change = Delta::NONE.dword(old, address);
    packet.write(l3 + at, address);
    if is_turned && let Some(source) = packet.read::<u32>(l3 + field::SOURCE) {
        change = change.dword(source, parsed.key.source);
        packet.write(l3 + field::SOURCE, parsed.key.source);
    }
    translate::lower_ttl(packet, parsed, change);
}

/// One endpoint of the quoted packet, and the ICMP checksum over all that changes with it. An error that goes out is about
/// a packet that came in: its destination is what changes.
#[inline(always)]
fn embedded<P: Packet>(
    packet: &P,
    parsed: &Parsed,
    quote: &Quote,
    direction: Direction,
    old: (u32, u16),
    new: (u32, u16),
) {
    let (ip, transport): (usize, usize) =
        ((parsed.l3 + quote.ip).into(), (parsed.l3 + quote.transport).into());
    let (address_at, port_at) = match direction {
        Direction::Outbound => (field::DESTINATION, field::DESTINATION_PORT),
        Direction::Inbound => (field::SOURCE, field::SOURCE_PORT),
    };
    let address = Delta::NONE.dword(old.0, new.0);
    let port = Delta::NONE.word(old.1, new.1);
    let mut change = address.and(port);
    packet.write(ip + address_at, new.0);
    change = change.and(update(packet, ip + field::IP_CHECKSUM, |checksum| address.apply(checksum)));
    match quote.key.protocol {
        protocol::TCP => {
            packet.write(transport + port_at, new.1);
            // Most quotes end before the TCP checksum.
            if quote.has_checksum {
                let at = transport + field::TCP_CHECKSUM;
                change = change.and(update(packet, at, |checksum| address.and(port).apply(checksum)));
            }
        }
        protocol::UDP => {
            packet.write(transport + port_at, new.1);
            let at = transport + field::UDP_CHECKSUM;
            change = change.and(update(packet, at, |checksum| address.and(port).apply_udp(checksum)));
        }
        protocol::GRE | protocol::ESP => {}
        _ => {
            packet.write(transport + field::IDENTIFIER, new.1);
            let at = transport + field::ICMP_CHECKSUM;
            change = change.and(update(packet, at, |checksum| port.apply(checksum)));
        }
    }
    packet.change_checksum(parsed.l4 as usize + field::ICMP_CHECKSUM, change);
}

/// Rewrites a quoted checksum and returns what that changes in the checksum around it.
#[inline(always)]
fn update<P: Packet>(packet: &P, at: usize, new: impl FnOnce(u16) -> u16) -> Delta {
    let Some(old) = packet.read::<u16>(at) else { return Delta::NONE };
    let new = new(old);
    packet.write(at, new);
    Delta::NONE.word(old, new)
}
