//! What a few packets of sessions need besides their translation: an identification of the gateway's own where they may be
//! fragmented, and a smaller MSS where they are a SYN. It looks and then writes, and cannot fail.

use nat_common::{checksum::Delta, flow::Direction, tcp::header::SYN};

use crate::{
    flow::Rewrite,
    header::{self, field},
    identification, mss,
    packet::Packet,
    parse::Parsed,
};

/// Whether the packet is one of those.
#[inline(always)]
pub fn concerns(parsed: &Parsed) -> bool {
    is_numbered(parsed) || parsed.tcp_flags & SYN != 0
}

/// Whether the gateway gives the packet its identification: not what comes in, and not what is never fragmented
/// (RFC 6864 §4.1).
#[inline(always)]
pub fn is_numbered(parsed: &Parsed) -> bool {
    parsed.division.is_identified() && matches!(parsed.key.direction(), Direction::Outbound)
}

/// Amends a packet that is about to be translated.
#[inline(always)]
pub fn amend<P: Packet>(context: *mut P::Context, parsed: &Parsed, rewrite: &Rewrite, generation: u32) {
    if parsed.tcp_flags & SYN != 0
        && let Some(change) = mss::change::<P>(context, parsed, rewrite, generation)
    {
        lower_mss::<P>(context, parsed, change);
    }
    if parsed.division.is_first() {
        // Those that follow have it from the first one's record.
        write_number(&P::attach(context), parsed, rewrite.identification);
    } else if is_numbered(parsed) {
        number::<P>(context, parsed, rewrite.address);
    }
}

#[inline(always)]
fn lower_mss<P: Packet>(context: *mut P::Context, parsed: &Parsed, change: mss::Change) {
    let mut packet = P::attach(context);
    let l4 = parsed.l4 as usize;
    packet.write(l4 + usize::from(change.at), change.new);
    // Where it begins at an odd place, its bytes belong to two words of the sum.
    let delta = if change.at & 1 == 0 {
        Delta::NONE.word(change.old, change.new)
    } else {
        Delta::NONE.word(change.old.swap_bytes(), change.new.swap_bytes())
    };
    packet.change_transport_checksum(l4 + field::TCP_CHECKSUM, Delta::NONE, delta, false);
}

/// Gives the packet, which leaves from `elastic_ip` (network order), an identification of the gateway's own; one that will
/// be segmented, the first of as many.
#[inline(always)]
pub fn number<P: Packet>(context: *mut P::Context, parsed: &Parsed, elastic_ip: u32) {
    let packet = P::attach(context);
    let (remote, protocol) = (parsed.key.destination, parsed.key.protocol);
    let new = identification::next(elastic_ip, remote, protocol, packet.segments() as u32);
    // ---- everything above looks, everything below writes ----
    write_number(&packet, parsed, new);
}

#[inline(always)]
fn write_number<P: Packet>(packet: &P, parsed: &Parsed, new: u16) {
    let Some(ip) = packet.place::<{ header::IPV4 }>(parsed.l3 as usize) else { return };
    let change = Delta::NONE.word(ip.get(field::IDENTIFICATION), new);
    ip.set(field::IDENTIFICATION, new);
    ip.set(field::IP_CHECKSUM, change.apply(ip.get(field::IP_CHECKSUM)));
}
