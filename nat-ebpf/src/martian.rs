//! Sources and destinations that cannot be what they say.

use nat_common::{drop::DropReason, flow::OUTSIDE};

use crate::{interface, route};

/// Whether an address may not appear on the wire (RFC 1812 §5.3.7): "this network", loopback, multicast, class E and the
/// limited broadcast.
#[inline(always)]
pub fn is_martian(address: u32) -> bool {
    let first = u32::from_be(address) >> 24;
    first == 0 || first == 127 || first >= 224
}

/// What is wrong with the source of a packet from outside (RFC 2827): a martian, or an address that only this gateway's
/// own side has.
#[inline(always)]
pub fn outside(source: u32, generation: u32) -> Option<DropReason> {
    DropReason::from_number(outside_source(source, generation))
}

/// A drop reason's number, or one beyond them. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn outside_source(source: u32, generation: u32) -> u32 {
    if is_martian(source) {
        return DropReason::Martian as u32;
    }
    if route::subnet(OUTSIDE, source, generation).is_some()
        || interface::gateway_of(source, generation).is_some()
    {
        return DropReason::SourceNotInSubnet as u32;
    }
    DropReason::COUNT
}
