//! The link layer of a packet that leaves.

use nat_common::{drop::DropReason, flow::Hop};

use crate::{
    header::{self, Vlan, ethertype},
    packet::Packet,
    parse::Parsed,
    stop::Stop,
};

/// Gives the frame the room its VLAN tag needs on the way out, before anything is written: the only step of
/// forwarding that can fail.
#[inline(always)]
pub fn frame<P: Packet>(packet: &mut P, parsed: &mut Parsed, hop: &Hop) -> Result<(), Stop> {
    let Some(change) = packet.retag(parsed.l3 as usize, hop.vlan()) else {
        return Err(Stop::Drop(DropReason::FrameTooShort));
    };
    if change != 0 {
        parsed.l3 = parsed.l3.wrapping_add_signed(change as i16);
        parsed.l4 = parsed.l4.wrapping_add_signed(change as i16);
    }
    Ok(())
}

/// Writes the MACs, and the tag where there is one in the frame's bytes.
#[inline(always)]
pub fn stamp<P: Packet>(packet: &P, parsed: &Parsed, hop: &Hop) {
    // SAFETY: `Hop` begins with two MACs, 12 bytes, and is aligned to 4.
    let macs = unsafe { *(&raw const *hop).cast::<[u32; 3]>() };
    let tagged = parsed.l3 as usize == header::TAGGED;
    let Some(frame) = packet.place::<{ header::ETHERNET }>(0) else { return };
    frame.set(0, macs);
    frame.set(header::ETHERNET - 2, if tagged { ethertype::VLAN } else { ethertype::IPV4 });
    if tagged {
        packet.write(header::ETHERNET, Vlan { control: hop.vlan().to_be(), ethertype: ethertype::IPV4 });
    }
}
