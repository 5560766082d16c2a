//! Writes one header pair. Consults nothing and cannot fail.

use nat_common::{checksum::Delta, flow::Direction, protocol};

use crate::{
    flow::Rewrite,
    header::{self, field},
    packet::{Packet, Place},
    parse::Parsed,
};

/// Replaces the source (outbound) or destination (inbound) endpoint of a session's packet.
#[inline(always)]
pub fn session<P: Packet>(packet: &mut P, parsed: &Parsed, address: u32, port: u16) {
    let (l3, l4) = (parsed.l3 as usize, parsed.l4 as usize);
    let key = &parsed.key;
    let (old_address, old_port, address_field, port_field) = match key.direction() {
        Direction::Outbound => (key.source, key.source_port, field::SOURCE, field::SOURCE_PORT),
        Direction::Inbound => {
            (key.destination, key.destination_port, field::DESTINATION, field::DESTINATION_PORT)
        }
    };
    let pseudo = Delta::NONE.dword(old_address, address);
    let plain = Delta::NONE.word(old_port, port);
    // Both headers have been read: what is missing here is only so for the verifier.
    let Some(ip) = packet.place::<{ header::IPV4 }>(l3) else { return };
    ip.set(address_field, address);
    lower_ttl_at(ip, parsed, pseudo);
    if key.protocol == protocol::ICMP {
        // An ICMP checksum covers no pseudo-header.
        packet.write(l4 + field::IDENTIFIER, port);
        packet.change_checksum(l4 + field::ICMP_CHECKSUM, plain);
        return;
    }
    if protocol::is_port_less(key.protocol) {
        return;
    }
    packet.write(l4 + port_field, port);
    let udp = key.protocol == protocol::UDP;
    let checksum = if udp { field::UDP_CHECKSUM } else { field::TCP_CHECKSUM };
    packet.change_transport_checksum(l4 + checksum, pseudo, plain, udp);
}

/// Replaces both endpoints of a packet that stands for two: the key is what a remote would see of it, `rewrite` has where
/// it came from and where it goes.
#[inline(always)]
pub fn hairpin<P: Packet>(packet: &mut P, parsed: &Parsed, rewrite: &Rewrite) {
    let (l3, l4) = (parsed.l3 as usize, parsed.l4 as usize);
    let (key, (source, source_port)) = (&parsed.key, rewrite.origin());
    let pseudo = Delta::NONE.dword(source, key.source).dword(key.destination, rewrite.address);
    let plain = Delta::NONE.word(source_port, key.source_port).word(key.destination_port, rewrite.port);
    packet.write(l3 + field::SOURCE, key.source);
    packet.write(l3 + field::DESTINATION, rewrite.address);
    lower_ttl(packet, parsed, pseudo);
    if protocol::is_port_less(key.protocol) {
        return;
    }
    packet.write(l4 + field::SOURCE_PORT, key.source_port);
    packet.write(l4 + field::DESTINATION_PORT, rewrite.port);
    let udp = key.protocol == protocol::UDP;
    let checksum = if udp { field::UDP_CHECKSUM } else { field::TCP_CHECKSUM };
    packet.change_transport_checksum(l4 + checksum, pseudo, plain, udp);
}

/// What a TTL less by one changes, whatever it was and whatever stands beside it.
const ONE_LESS: Delta = Delta::NONE.word(u16::from_ne_bytes([1, 0]), 0);

/// Decrements the TTL and brings the IP checksum up to date with it and with `change`.
#[inline(always)]
pub fn lower_ttl<P: Packet>(packet: &P, parsed: &Parsed, change: Delta) {
    if let Some(ip) = packet.place::<{ header::IPV4 }>(parsed.l3 as usize) {
        lower_ttl_at(ip, parsed, change);
    }
}

#[inline(always)]
fn lower_ttl_at(ip: Place, parsed: &Parsed, change: Delta) {
    ip.set(field::TTL, parsed.ttl - 1);
    ip.set(field::IP_CHECKSUM, change.and(ONE_LESS).apply(ip.get(field::IP_CHECKSUM)));
}
