//! The link layer of a packet that leaves.

use nat_common::{drop::DropReason, flow::Hop};

use crate::{
    header::{self, Vlan, ethertype},
    packet::Packet,
    parse::Parsed,
    stop::Stop,
};

/// Bytes of a VLAN tag.
const TAG: i32 = size_of::<Vlan>() as i32;

/// Gives the frame the room its VLAN tag needs on the way out, before anything is written: the only step of
/// forwarding that can fail.
#[inline(always)]
pub fn frame<P: Packet>(packet: &mut P, parsed: &mut Parsed, hop: &Hop) -> Result<(), Stop> {
    let tagged = parsed.l3 as usize == header::TAGGED;
    if tagged == (hop.vlan() != 0) {
        return Ok(());
    }
    let change = if tagged { -TAG } else { TAG };
    if !packet.grow_front(change) {
        return Err(Stop::Drop(DropReason::FrameTooShort));
    }
    parsed.l3 = parsed.l3.wrapping_add_signed(change);
    parsed.l4 = parsed.l4.wrapping_add_signed(change);
    Ok(())
}

/// Writes the MACs, and the tag where there is one.
#[inline(always)]
pub fn stamp<P: Packet>(packet: &P, parsed: &Parsed, hop: &Hop) {
    // SAFETY: `Hop` begins with two MACs, 12 bytes, and is aligned to 4.
    let macs = unsafe { *(&raw const *hop).cast::<[u32; 3]>() };
    packet.write(0, macs);
    if parsed.l3 as usize == header::TAGGED {
        packet.write(header::ETHERNET - 2, ethertype::VLAN);
        packet.write(header::ETHERNET, Vlan { control: hop.vlan().to_be(), ethertype: ethertype::IPV4 });
    } else {
        packet.write(header::ETHERNET - 2, ethertype::IPV4);
    }
}
