//! Packets that the controller sends on: fragments that come before their first one, and packets that are too big for the
//! next link and may be fragmented. They are copied as they came, and leave the driver's view. So do frames of bursts that are
//! ready, but cannot leave where all others of the burst do.

use nat_common::{
    drop::DropReason,
    flow::Hop,
    slow::{self, HELD_PER_TICK, Head, MAX_BYTES},
};

use crate::{
    assembly::bound,
    clock,
    flow::Rewrite,
    header::field,
    maps::{ALLOWANCE, GENERATION, HELD_ALLOWANCE, SLOW, SLOW_SCRATCH},
    packet::Packet,
    parse::Parsed,
    pipeline,
    stop::Stop,
};
use nat_common::protocol;

/// Hands over a fragment whose first one has not come yet.
#[inline(always)]
pub fn hold<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &Rewrite,
) -> Stop {
    if !is_allowed() || !hand_over::<P>(context, parsed, generation, rewrite, 0) {
        return Stop::Drop(DropReason::FragmentUnknown);
    }
    Stop::Held
}

/// Hands over a packet that is to be fragmented.
#[inline(always)]
pub fn divide<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &Rewrite,
) -> Stop {
    let mut packet = P::attach(context);
    let pending = match parsed.key.protocol {
        protocol::TCP => packet.pending_checksum(parsed.l4 as usize + field::TCP_CHECKSUM).is_some(),
        protocol::UDP => packet.pending_checksum(parsed.l4 as usize + field::UDP_CHECKSUM).is_some(),
        _ => false,
    };
    let flags = if pending { Head::PENDING_CHECKSUM } else { 0 };
    if !hand_over::<P>(context, parsed, generation, rewrite, flags) {
        return Stop::Drop(DropReason::TooBig);
    }
    Stop::Divided(pipeline::way(parsed, rewrite))
}

/// Hands over a frame that is ready to leave by `device`, where the program itself cannot send it there. Not inlined: as
/// [`hand_over`].
#[inline(never)]
pub fn send_on<P: Packet>(packet: &P, device: u32) {
    let length = packet.length();
    let Some(scratch) = SLOW_SCRATCH.get_ptr_mut(0) else { return };
    if length == 0 || length > MAX_BYTES {
        return;
    }
    // SAFETY: the entry is this CPU's own.
    let scratch = unsafe { &mut *scratch };
    let hop = Hop { device, ..Hop::default() };
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    scratch.head = Head { hop, flags: Head::FRAME, length: length as u16, generation, ..Head::default() };
    if packet.copy_all(0, &mut scratch.bytes, length) {
        output(scratch, length);
    }
}

/// Copies the packet to the controller; false if there is no room, or nobody could send it. Not inlined: with the rest it
/// would need more stack than a program has.
#[inline(never)]
fn hand_over<P: Packet>(
    context: *mut P::Context,
    parsed: &Parsed,
    generation: u32,
    rewrite: &Rewrite,
    flags: u16,
) -> bool {
    let packet = P::attach(context);
    let Some(scratch) = SLOW_SCRATCH.get_ptr_mut(0) else { return false };
    let length = parsed.length as usize;
    if length == 0 || length > MAX_BYTES {
        return false;
    }
    // SAFETY: the entry is this CPU's own.
    let scratch = unsafe { &mut *scratch };
    scratch.head = Head {
        key: parsed.key,
        hop: rewrite.hop,
        address: rewrite.address,
        port: rewrite.port,
        mtu: rewrite.mtu,
        flags,
        length: length as u16,
        generation,
        identification: rewrite.identification,
        ..Head::default()
    };
    if !packet.copy_all(parsed.l3 as usize, &mut scratch.bytes, length) {
        return false;
    }
    output(scratch, length)
}

/// Puts the packet, with `length` bytes, into the ring; false if there is no room.
#[inline(always)]
fn output(packet: &slow::Packet, length: usize) -> bool {
    let length = bound::<{ MAX_BYTES as i32 - 1 }>(length - 1) + 1;
    // SAFETY: head and bytes stand side by side in the entry, and the bound keeps within it.
    let record =
        unsafe { core::slice::from_raw_parts((&raw const *packet).cast::<u8>(), size_of::<Head>() + length) };
    SLOW.output::<[u8]>(record, 0).is_ok()
}

/// Whether this CPU may hand over another fragment to be held in this tick.
#[inline(always)]
fn is_allowed() -> bool {
    let Some(allowance) = ALLOWANCE.get_ptr_mut(HELD_ALLOWANCE) else { return false };
    // SAFETY: the entry is this CPU's own.
    let allowance = unsafe { &mut *allowance };
    let tick = clock::now();
    if allowance.tick != tick {
        allowance.tick = tick;
        allowance.left = HELD_PER_TICK;
    }
    if allowance.left == 0 {
        return false;
    }
    allowance.left -= 1;
    true
}
