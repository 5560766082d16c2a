//! The RST by which a host learns that the gateway has forgotten its TCP session (RFC 9293 §3.10.7.1).

use nat_common::{
    config::{Config, slot},
    drop::DropReason,
    protocol, tcp,
};

use crate::{
    count,
    header::{self, Ethernet, Ipv4, Tcp, field},
    maps::{CONFIG, GENERATION},
    packet::Packet,
    parse::Parsed,
    reply::{self, TTL},
    stop::Reply,
};

/// The segment is refused as one that opens nothing where no RST may be sent.
const REFUSED: DropReason = DropReason::NotOpening;

/// Turns the segment into a RST to its sender, as the remote would send it, ready to leave by the device it came from.
#[inline(always)]
pub fn send<P: Packet>(context: *mut P::Context, parsed: &Parsed) -> Result<(), DropReason> {
    let mut packet = P::attach(context);
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    let Some(config) = CONFIG.get(slot(generation)) else { return Err(REFUSED) };
    if config.resets == Config::NO_RESETS
        || !reply::is_due(parsed, Reply::Reset, generation)
        || !reply::is_allowed(generation)
    {
        return Err(REFUSED);
    }
    let (l3, l4) = (parsed.l3 as usize, parsed.l4 as usize);
    let is_pending = packet.pending_checksum(l4 + field::TCP_CHECKSUM).is_some();
    if !packet.cut(l4 + size_of::<Tcp>()) {
        return Err(REFUSED);
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else { return Err(REFUSED) };
    let Some(ip) = packet.read::<Ipv4>(l3) else { return Err(REFUSED) };
    let Some(segment) = packet.read::<Tcp>(l4) else { return Err(REFUSED) };
    // ---- everything above looks, everything below writes ----
    packet.write(0, Ethernet { destination: ethernet.source, source: ethernet.destination, ..ethernet });
    packet.write(l3, answer_ip(parsed, &ip));
    packet.write(l4, answer_tcp(parsed, &ip, &segment, is_pending));
    count::count(|counters| counters.resets_sent += 1);
    Ok(())
}

/// The header of the answer to a packet with the header `ip`, whose options stay where they are.
#[inline(always)]
fn answer_ip(parsed: &Parsed, ip: &Ipv4) -> Ipv4 {
    // The header was sound: the options sum up to what the rest of it lacks.
    let options = !ip.sum();
    let mut answer = Ipv4 {
        // As for ICMP errors, RFC 5508 §7.7.
        service: parsed.service & 0xfc,
        total_length: (parsed.l4 - parsed.l3 + size_of::<Tcp>() as u16).to_be(),
        identification: 0,
        fragment: 0x4000_u16.to_be(),
        ttl: TTL,
        checksum: 0,
        source: ip.destination,
        destination: ip.source,
        ..*ip
    };
    answer.checksum = !header::fold_wide(answer.sum() as u64 + options as u64);
    answer
}

/// A RST takes its sequence number from what the segment acknowledges; if it acknowledges nothing, the RST acknowledges
/// the segment.
#[inline(always)]
fn answer_tcp(parsed: &Parsed, ip: &Ipv4, segment: &Tcp, is_pending: bool) -> Tcp {
    use tcp::header::{ACK, FIN, RST, SYN};
    let flags = parsed.tcp_flags;
    let mut answer = Tcp {
        ports: segment.ports.rotate_left(16),
        sequence: segment.acknowledgement,
        acknowledgement: 0,
        offset: (size_of::<Tcp>() as u8 / 4) << 4,
        flags: RST,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    if flags & ACK == 0 {
        let headers = u32::from(parsed.l4 - parsed.l3) + segment.length();
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let length = parsed.length.wrapping_sub(headers).wrapping_add(controls);
        answer.sequence = 0;
        answer.acknowledgement = u32::from_be(segment.sequence).wrapping_add(length).to_be();
        answer.flags = RST | ACK;
    }
    let length = (size_of::<Tcp>() as u16).to_be();
    let protocol = u16::from_ne_bytes([0, protocol::TCP]);
    let pseudo = ip.source as u64 + ip.destination as u64 + protocol as u64 + length as u64;
    answer.checksum = if is_pending {
        // The device that sends it adds the rest.
        header::fold_wide(pseudo)
    } else {
        !header::fold_wide(pseudo + answer.sum())
    };
    answer
}
