//! Next hops that this CPU has found lately: most new sessions go where others have just gone, and the kernel's tables
//! take as long to ask as all that is ours.

use nat_common::flow::Hop;

use crate::{
    clock,
    fib::Query,
    maps::{HOPS, MAX_HOPS},
};

/// How long a hop is remembered, in ticks. Who changes routes or neighbours raises the generation, which ends it at once;
/// without a controller nobody does.
const LIFETIME: u16 = 1;

/// A hop, and what it was found for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Found {
    source: u32,
    destination: u32,
    generation: u32,
    tick: u16,
    /// Packets up to this many bytes of IP are known to fit.
    length: u16,
    hop: Hop,
}

/// The place of what was found for `query`, if it is of a kind that is remembered: outbound.
#[inline(always)]
fn place(query: &Query) -> Option<&'static mut Found> {
    if !query.external {
        return None;
    }
    let hash = (query.destination ^ query.source.rotate_left(16)).wrapping_mul(0x9e37_79b1);
    // SAFETY: the entry is this CPU's own.
    HOPS.get_ptr_mut(hash >> (u32::BITS - MAX_HOPS.ilog2())).map(|found| unsafe { &mut *found })
}

/// The hop that was found for `query`.
#[inline(always)]
pub fn recall(query: &Query, generation: u32) -> Option<Hop> {
    let found = place(query)?;
    let same = found.source == query.source && found.destination == query.destination;
    let fresh = (clock::now() as u16).wrapping_sub(found.tick) <= LIFETIME;
    (same && found.generation == generation && fresh && query.length <= found.length).then_some(found.hop)
}

/// Remembers the hop that was found for `query`.
#[inline(always)]
pub fn remember(query: &Query, generation: u32, hop: &Hop) {
    let Some(found) = place(query) else { return };
    let &Query { source, destination, length, .. } = query;
    *found = Found { source, destination, generation, tick: clock::now() as u16, length, hop: *hop };
}
