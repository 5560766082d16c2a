//! The ICMP errors that the gateway originates, as a router must (RFC 1812 §4.3).

use nat_common::{
    config::slot,
    drop::DropReason,
    flow::OUTSIDE,
    protocol::{self, icmp},
};

use crate::{
    clock,
    header::{self, Ethernet, Icmp, Ipv4, Vlan, field},
    interface,
    maps::{ALLOWANCE, CONFIG, GENERATION},
    martian::is_martian,
    packet::Packet,
    parse::Parsed,
    stop::Reply,
    sum,
};

/// The longest ICMP error (RFC 1812 §4.3.2.3), and what of it is left for the quote.
const LONGEST: usize = 576;
const ADDED: usize = header::IPV4 + header::ICMP;
const QUOTE: usize = LONGEST - ADDED;
/// TTL of packets that start here.
pub const TTL: u8 = 64;

/// Turns the packet into an ICMP error to its sender, ready to leave by the device it came from.
#[inline(always)]
pub fn send<P: Packet>(context: *mut P::Context, parsed: &Parsed, reply: Reply) -> Result<(), DropReason> {
    let mut packet = P::attach(context);
    let refused = reply.otherwise();
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    let Some(role) = interface::role(parsed.ifindex, slot(generation)) else { return Err(refused) };
    let source = if parsed.key.zone == OUTSIDE { role.external_address } else { role.internal_address };
    if source == 0 || !is_due(parsed, reply, generation) || !is_allowed(generation) {
        return Err(refused);
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return Err(refused) };
    let tag = packet.read::<Vlan>(header::ETHERNET);
    let quoted = if parsed.length as usize > QUOTE { QUOTE } else { parsed.length as usize };
    let Some(sum) = sum_of_quote(&mut packet, parsed, quoted) else { return Err(refused) };
    if !packet.grow_front(ADDED as u32) || !packet.cut(parsed.l3 as usize + ADDED + quoted) {
        return Err(refused);
    }
    // ---- everything above looks, everything below writes ----
    packet.write(0, Ethernet { destination: ethernet.source, source: ethernet.destination, ..ethernet });
    if parsed.l3 as usize == header::TAGGED
        && let Some(tag) = tag
    {
        packet.write(header::ETHERNET, tag);
    }
    packet.write(parsed.l3 as usize, ip(parsed, source, quoted));
    packet.write(parsed.l3 as usize + header::IPV4, message(reply, sum));
    Ok(())
}

/// Whether the packet is one that may be answered (RFC 1812 §4.3.2.7).
#[inline(always)]
pub fn is_due(parsed: &Parsed, reply: Reply, generation: u32) -> bool {
    if reply.is_for_inside() && parsed.key.zone == OUTSIDE {
        return false;
    }
    // A broadcast address of the gateway's links is among the host's own; neither is a single host's.
    let source = parsed.key.source;
    !parsed.group && !is_martian(source) && !interface::is_host(source, generation)
}

/// Whether this CPU may send another answer in this tick (RFC 1812 §4.3.2.8).
#[inline(always)]
pub fn is_allowed(generation: u32) -> bool {
    let Some(config) = CONFIG.get(slot(generation)) else { return false };
    let Some(allowance) = ALLOWANCE.get_ptr_mut(0) else { return false };
    // SAFETY: the entry is this CPU's own.
    let allowance = unsafe { &mut *allowance };
    let tick = clock::now();
    if allowance.tick != tick {
        allowance.tick = tick;
        allowance.left = config.icmp_errors_per_second;
    }
    if allowance.left == 0 {
        return false;
    }
    allowance.left -= 1;
    true
}

/// The one's complement sum of the first `length` bytes of the packet, as they will leave.
///
/// A device that is yet to compute the quoted transport checksum makes everything from the transport header on sum up
/// to the complement of what stands in the checksum's place, whatever the payload.
#[inline(always)]
fn sum_of_quote<P: Packet>(packet: &mut P, parsed: &Parsed, length: usize) -> Option<u64> {
    let at = match parsed.key.protocol {
        protocol::TCP => field::TCP_CHECKSUM,
        protocol::UDP => field::UDP_CHECKSUM,
        _ => return sum::of(packet, parsed.l3 as usize, length),
    };
    match packet.pending_checksum(parsed.l4 as usize + at) {
        Some(pseudo) => {
            let sum = sum::of(packet, parsed.l3 as usize, (parsed.l4 - parsed.l3) as usize)?;
            Some(sum + u64::from(!pseudo))
        }
        None => sum::of(packet, parsed.l3 as usize, length),
    }
}

#[inline(always)]
fn ip(parsed: &Parsed, source: u32, quoted: usize) -> Ipv4 {
    let mut ip = Ipv4 {
        version_and_length: 0x45,
        // RFC 5508 §7.7: an error carries the DSCP of the packet it is about; ECN is not for errors.
        service: parsed.service & 0xfc,
        total_length: ((ADDED + quoted) as u16).to_be(),
        identification: 0,
        fragment: 0x4000_u16.to_be(),
        ttl: TTL,
        protocol: protocol::ICMP,
        checksum: 0,
        source,
        destination: parsed.key.source,
    };
    ip.checksum = !ip.sum();
    ip
}

#[inline(always)]
fn message(reply: Reply, sum_of_quote: u64) -> Icmp {
    let (kind, code, mtu) = match reply {
        Reply::TimeExceeded => (icmp::TIME_EXCEEDED, 0, 0),
        Reply::FragmentationNeeded(mtu) => (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu.to_be()),
        Reply::Prohibited(_) | Reply::Reset => (icmp::UNREACHABLE, icmp::PROHIBITED, 0),
        Reply::NetworkUnreachable(_) => (icmp::UNREACHABLE, icmp::NETWORK_UNREACHABLE, 0),
        Reply::HostUnreachable(_) => (icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, 0),
        Reply::ProtocolUnreachable(_) => (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0),
    };
    let sum = sum_of_quote + u64::from(u16::from_ne_bytes([kind, code])) + u64::from(mtu);
    Icmp { kind, code, checksum: !header::fold_wide(sum), rest: [0, mtu] }
}
