//! What a TCP segment that begins or ends something says about its session. A plain one says no more than that the
//! connection goes on, which `flow` notes by itself.

use nat_common::{
    flow::{Direction, FlowEntry4, FlowKey4},
    tcp::{self, header},
};

use crate::{assembly, header::Tcp, maps::STREAMS, packet::Packet, parse::Parsed, table};

/// Where `tcp_seen` stands in its word of the entry: the second, uppermost.
const SEEN_SHIFT: u32 = 56;

/// Notes a segment in its flow, whose count of bytes it is in already.
#[inline(always)]
pub fn note<P: Packet>(context: *mut P::Context, parsed: &Parsed, entry: *mut FlowEntry4) {
    let Some(segment) = P::attach(context).read::<Tcp>(parsed.l4 as usize) else { return };
    let sequence = u32::from_be(segment.sequence);
    let flags = parsed.tcp_flags;
    // SAFETY: see `flow::find`. Of all CPUs, only the one that carries this direction writes these fields.
    unsafe {
        let (seen, count) = ((*entry).tcp_seen, (*entry).bytes);
        let begins = flags & header::SYN != 0 && tcp::begins_anew(seen);
        follow(parsed, entry, &segment, begins);
        if flags & header::RST != 0 {
            reset(parsed, entry, &segment);
            return;
        }
        let end = sequence.wrapping_add(parsed.length);
        if begins {
            (*entry).bytes = tcp::begin(count, end);
        } else if flags & header::SYN == 0 {
            (*entry).bytes = tcp::advance(count, end);
        }
        let now = tcp::observe(seen, flags);
        if now == seen {
            return;
        }
        (*entry).tcp_seen = now;
        if flags & header::FIN != 0 && parsed.key.direction() == Direction::Outbound {
            note_end(parsed, entry, &segment);
        }
    }
}

/// A RST: forwarded in any case, but believed only with a sequence number that the connection has got to (RFC 5961 §3.2),
/// or, of a connection that was not accepted yet, if it acknowledges what was sent (RFC 9293 §3.10.7.3).
///
/// Both flows note it, and either forgets it with its next segment: so a connection that goes on was not reset, on
/// whichever side. The other flow may be written by another CPU at this moment; its next segment was under way then, and
/// the connection goes on.
#[inline(always)]
unsafe fn reset(parsed: &Parsed, entry: *mut FlowEntry4, segment: &Tcp) {
    // SAFETY: as in `note`; the other flow's byte is changed by one atomic operation on its word.
    unsafe {
        let Some(other) = other(parsed, entry) else { return };
        let seen = (*entry).tcp_seen;
        let believed = if tcp::has_carried(seen) {
            tcp::is_near((*entry).bytes, u32::from_be(segment.sequence))
        } else {
            parsed.tcp_flags & header::ACK != 0
                && tcp::is_near((*other).bytes, u32::from_be(segment.acknowledgement))
        };
        if believed {
            (*entry).tcp_seen = seen | tcp::RST;
            assembly::fetch_or(other.cast::<u64>().wrapping_add(1), (tcp::RESET as u64) << SEEN_SHIFT);
        }
    }
}

/// Notes where the internal host's stream ends, at its FIN: in the inbound flow, whose own time of opening nobody asks
/// for. A later SYN to the same remote is proved to be newer by that (RFC 1122 §4.2.2.13).
#[inline(always)]
unsafe fn note_end(parsed: &Parsed, entry: *mut FlowEntry4, segment: &Tcp) {
    let data = parsed.length.wrapping_sub(u32::from(parsed.l4 - parsed.l3)).wrapping_sub(segment.length());
    let end = u32::from_be(segment.sequence).wrapping_add(data).wrapping_add(1);
    // SAFETY: as in `note`; a word of a map value.
    unsafe {
        if let Some(inbound) = other(parsed, entry) {
            (&raw mut (*inbound).opened).write_volatile(end);
        }
    }
}

/// The session's other flow.
#[inline(always)]
unsafe fn other(parsed: &Parsed, entry: *mut FlowEntry4) -> Option<*mut FlowEntry4> {
    // SAFETY: as in `note`.
    let key = unsafe { (*entry).other_key(&parsed.key) };
    table::seek(&key)
}

/// Remembers what the segment's sender has acknowledged, where `STREAMS` has room for it.
#[inline(always)]
fn follow(parsed: &Parsed, entry: *mut FlowEntry4, segment: &Tcp, begins: bool) {
    let Some(place) = table::place_of(entry) else { return };
    let Some(stream) = STREAMS.get_ptr_mut(place) else { return };
    let (acknowledged, tag) = (u32::from_be(segment.acknowledgement), tag(&parsed.key));
    // SAFETY: a word of a map value, which only the CPU that carries this direction writes.
    unsafe {
        let known = stream.read_volatile();
        let ahead = acknowledged.wrapping_sub(known as u32);
        let is_older = !begins && known >> 32 == tag >> 32 && ahead >= 1 << 31;
        if parsed.tcp_flags & header::ACK != 0 && !is_older {
            stream.write_volatile(tag | u64::from(acknowledged));
        } else if begins {
            stream.write_volatile(0);
        }
    }
}

/// What the sender of the flow in `entry`, which has this key, has acknowledged last, if it is known.
#[inline(always)]
pub fn acknowledged(key: &FlowKey4, entry: *mut FlowEntry4) -> Option<u32> {
    let stream = *STREAMS.get(table::place_of(entry)?)?;
    (stream >> 32 == tag(key) >> 32).then_some(stream as u32)
}

/// Whose word it is in `STREAMS`, in the upper half: places are used again, and their words are not cleared.
#[inline(always)]
fn tag(key: &FlowKey4) -> u64 {
    let [addresses, ports] = key.words();
    let mixed = (addresses ^ ports.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed | 1 << 32) & !0xffff_ffff
}
