//! The path of a packet: look, then write. After the first byte has changed nothing can go wrong any more.
//!
//! ```text
//! frame → IPv4 → transport → direction → flow ─hit──────────────────────→ ┃ translate → stamp
//!                                             └miss─ NACL → route → open → ┃
//! ```

use nat_common::{
    checksum::Delta,
    config::{Role, slot},
    drop::DropReason,
    flow::{Direction, Hop, OUTSIDE},
    protocol::{self, icmp},
    route::Target,
    tcp,
};

use crate::{
    admit, allocate, amend, choose,
    count::Own,
    fib::{self, Query},
    flow::{self, Rewrite},
    forward,
    header::Tcp,
    hook::Hook,
    interface,
    mapping::{self, Answer},
    maps::GENERATION,
    martian::{self, is_martian},
    packet::Packet,
    parse::{self, Content, Parsed},
    route,
    stop::{Reply, Stop},
    translate,
};

/// How a packet goes through the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Translated, internal to external.
    Outbound,
    /// Translated, external to internal.
    Inbound,
    /// Untranslated, between subnets of one VPC.
    Local,
    /// Translated twice, from one internal host to another.
    Hairpin,
}

/// A packet that leaves.
pub struct Forward {
    /// How it went.
    pub way: Way,
    /// Where it leaves.
    pub hop: Hop,
}

/// Takes a packet from the wire to the wire.
#[inline(always)]
pub fn run<P: Hook>(packet: &mut P, parsed: &mut Parsed, own: Own) -> Result<Forward, Stop> {
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    parse::frame(packet, parsed)?;
    let ip = parse::ipv4(packet, parsed)?;
    let role = role(parsed, generation)?;
    let content = match parse::transport(packet, parsed, &ip) {
        Ok(content) => content,
        Err(reason) => return Err(interface::host_or(reason, parsed, generation)),
    };
    if parsed.group {
        return Err(interface::host_or(DropReason::LinkBroadcast, parsed, generation));
    }
    parsed.key.zone = zone(role, parsed, generation);
    let mut rewrite = Rewrite::default();
    if content != Content::Session {
        if content == Content::Other {
            return Err(admit::other_protocol(parsed, generation));
        }
        if content == Content::Error {
            packet.error(parsed, generation, &mut rewrite)?;
        } else {
            packet.fragment(parsed, generation, &mut rewrite)?;
        }
        if !parsed.division.is_first() {
            forward::stamp(packet, parsed, &rewrite.hop);
            let way = if rewrite.is_turned() { Way::Hairpin } else { way(parsed, &rewrite) };
            return Ok(Forward { way, hop: rewrite.hop });
        }
    }
    session(packet, parsed, role, own, generation, &mut rewrite)?;
    if rewrite.hop.device == 0 {
        return hairpin(packet, parsed, role, own, generation, &mut rewrite);
    }
    if parsed.division.is_first() || rewrite.mtu != 0 {
        packet.aside(parsed, generation, &mut rewrite)?;
    }
    forward::frame(packet, parsed, &rewrite.hop)?;
    // ---- everything above looks, everything below writes ----
    if rewrite.address == 0 {
        translate::lower_ttl(packet, parsed, Delta::NONE);
    } else {
        if amend::concerns(parsed) {
            packet.amend(parsed, &rewrite, generation);
        }
        translate::session(packet, parsed, rewrite.address, rewrite.port);
    }
    forward::stamp(packet, parsed, &rewrite.hop);
    Ok(Forward { way: way(parsed, &rewrite), hop: rewrite.hop })
}

/// A packet from inside to an Elastic IP (RFC 4787 REQ-9): its own session, whose hop leads nowhere, makes of it what a
/// remote would see, and that comes in as from outside.
#[inline(always)]
fn hairpin<P: Hook>(
    packet: &mut P,
    parsed: &mut Parsed,
    role: &Role,
    own: Own,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<Forward, Stop> {
    rewrite.note_origin(&parsed.key);
    parsed.key.source = rewrite.address;
    parsed.key.source_port = rewrite.port;
    parsed.key.zone = OUTSIDE;
    let result = match session(packet, parsed, role, own, generation, rewrite) {
        // Nobody divides what is translated twice.
        Ok(()) if rewrite.mtu != 0 => Err(Stop::Drop(DropReason::TooBig)),
        Ok(()) => forward::frame(packet, parsed, &rewrite.hop),
        refused => refused,
    };
    if let Err(stop) = result {
        // Whoever is told of it is the host that sent it.
        (parsed.key.source, parsed.key.source_port) = rewrite.origin();
        parsed.key.zone = role.zone;
        return Err(stop);
    }
    // ---- everything above looks, everything below writes ----
    translate::hairpin(packet, parsed, rewrite);
    forward::stamp(packet, parsed, &rewrite.hop);
    Ok(Forward { way: Way::Hairpin, hop: rewrite.hop })
}

/// How a packet goes that is rewritten so.
#[inline(always)]
pub fn way(parsed: &Parsed, rewrite: &Rewrite) -> Way {
    if rewrite.address == 0 {
        return Way::Local;
    }
    match parsed.key.direction() {
        Direction::Outbound => Way::Outbound,
        Direction::Inbound => Way::Inbound,
    }
}

/// What the interface is for that the packet belongs to.
#[inline(always)]
fn role(parsed: &mut Parsed, generation: u32) -> Result<&'static Role, Stop> {
    if parsed.vlan != 0 {
        match interface::of_vlan(parsed.ifindex, parsed.vlan, slot(generation)) {
            Some(ifindex) => parsed.ifindex = ifindex,
            None => return Err(interface::host_or(DropReason::UnknownVlan, parsed, generation)),
        }
    }
    match interface::role(parsed.ifindex, slot(generation)) {
        Some(role) => {
            parsed.no_transmit = role.flags & Role::NO_TRANSMIT != 0;
            Ok(role)
        }
        None => Err(interface::host_or(DropReason::NotConfigured, parsed, generation)),
    }
}

/// The zone a packet came from. An interface that serves both sides tells them apart by the source.
#[inline(always)]
fn zone(role: &Role, parsed: &Parsed, generation: u32) -> u8 {
    if !role.is_external() {
        return role.zone;
    }
    if role.zone != 0 && route::subnet(role.zone, parsed.key.source, generation).is_some() {
        return role.zone;
    }
    OUTSIDE
}

/// Finds or opens the packet's session. The rewrite of a packet that is forwarded without one has no address.
#[inline(always)]
fn session<P: Hook>(
    packet: &P,
    parsed: &Parsed,
    role: &Role,
    own: Own,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let Some(entry) = flow::find(&parsed.key, own, rewrite) else {
        if parsed.key.direction() == Direction::Inbound {
            return packet.unsolicited(parsed, generation, rewrite);
        }
        *rewrite = Rewrite::default();
        packet.miss(parsed, generation, rewrite)?;
        if rewrite.gateway == 0 {
            return Ok(());
        }
        return allocate::open(parsed, generation, packet.queue(), rewrite);
    };
    if parsed.ttl <= 1 {
        return Err(Stop::Reply(Reply::TimeExceeded));
    }
    flow::pass(packet, parsed, entry, own, generation, role, rewrite)
}

/// From outside, without a session: never an opening (invariant 2). It may come in all the same where a mapping says so.
#[inline(always)]
pub fn unsolicited<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    // What has an origin was turned round here, and has an Elastic IP for its source.
    if !rewrite.is_turned()
        && let Some(spoofed) = martian::outside(parsed.key.source, generation)
    {
        return Err(interface::host_or(spoofed, parsed, generation));
    }
    let destination = parsed.key.destination;
    let number = interface::gateway_of(destination, generation);
    let Some(gateway) = number.and_then(|number| admit::gateway(number, generation)) else {
        return Err(interface::host_or(DropReason::NotForGateway, parsed, generation));
    };
    let begins = parsed.key.protocol != protocol::TCP || is_opening(parsed);
    let Some(entry) = begins.then(|| mapping::accepting(&parsed.key, gateway, rewrite)).flatten() else {
        return Err(interface::host_or(DropReason::NoSession, parsed, generation));
    };
    if parsed.ttl <= 1 {
        return Err(Stop::Reply(Reply::TimeExceeded));
    }
    // SAFETY: map values stay readable while the program runs; one byte cannot tear.
    let vpc = unsafe { (*entry).vpc };
    admit::inside(parsed, vpc, rewrite.address, rewrite.port, generation)?;
    let query = Query::new(parsed, parsed.key.source, rewrite.address, false);
    fib::hop::<P>(context, &query, generation, rewrite)
}

/// From inside, without a session: for the host, for another subnet, or the beginning of a session through the NAT
/// gateway that `rewrite` takes.
#[inline(always)]
pub fn miss<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let destination = parsed.key.destination;
    if interface::is_host(destination, generation) && !mapping::is_mapped(&parsed.key) {
        return Err(Stop::Stack);
    }
    if is_martian(destination) || is_martian(parsed.key.source) {
        return Err(Stop::Drop(DropReason::Martian));
    }
    let mut target = Target::default();
    admit::leave(parsed, generation, &mut target)?;
    if parsed.ttl <= 1 {
        return Err(Stop::Reply(Reply::TimeExceeded));
    }
    if target.kind == Target::LOCAL {
        admit::arrive(parsed, parsed.key.zone, destination, parsed.key.destination_port, generation)?;
        let query = Query::new(parsed, parsed.key.source, destination, false);
        fib::hop::<P>(context, &query, generation, rewrite)?;
        return Ok(());
    }
    let Some(gateway) = admit::gateway(target.gateway.into(), generation) else {
        return Err(Stop::Drop(DropReason::NoRoute));
    };
    admit::outside(parsed, gateway, generation)?;
    let answer = if is_opening(parsed) { Answer::Opens } else { mapping::answer(parsed, gateway, rewrite) };
    let source = match answer {
        Answer::Opens => {
            rewrite.gateway = target.gateway + 1;
            let choice = choose::choice(gateway, target.gateway.into(), parsed.key.source, generation);
            choose::first_address(choice, generation)
        }
        Answer::Passes => rewrite.address,
        Answer::Stray => return Err(without_session(parsed)),
    };
    // To an Elastic IP there is no hop: the packet is turned round here.
    if interface::gateway_of(destination, generation).is_none() {
        let query = Query::new(parsed, source, destination, true);
        fib::hop::<P>(context, &query, generation, rewrite)?;
    }
    if parsed.key.protocol == protocol::TCP
        && let Some(header) = P::attach(context).read::<Tcp>(parsed.l4 as usize)
    {
        rewrite.sequence = u32::from_be(header.sequence);
    }
    Ok(())
}

/// Whether a packet may begin a session.
#[inline(always)]
fn is_opening(parsed: &Parsed) -> bool {
    use tcp::header::{ACK, FIN, RST, SYN};
    match parsed.key.protocol {
        protocol::TCP => parsed.tcp_flags & (SYN | ACK | FIN | RST) == SYN,
        protocol::ICMP => matches!((parsed.icmp >> 8) as u8, icmp::ECHO_REQUEST | icmp::TIMESTAMP),
        _ => true,
    }
}

/// What goes on with a session that there is none of: the host that does so shall learn of it, but nobody answers a RST
/// (RFC 9293 §3.10.7.1).
#[inline(always)]
fn without_session(parsed: &Parsed) -> Stop {
    if parsed.key.protocol == protocol::TCP && parsed.tcp_flags & tcp::header::RST == 0 {
        Stop::Reply(Reply::Reset)
    } else {
        Stop::Drop(DropReason::NotOpening)
    }
}
