//! Blocks of ports that hosts hold, where a NAT gateway lends them so. How they change hands stands in
//! [`nat_common::block`].

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_prandom_u32, generated::bpf_loop},
    maps::lpm_trie::Key,
};
use core::{ffi::c_void, ptr::null_mut};
use nat_common::{
    block::{self, Base, Holder, MAX_HELD, NUMBERS, Rules},
    config::slot,
    event::Event,
    flow::FlowKey4,
    host,
    memory::Words,
    pool::{Choice, Gateway, Lent, MAX_GATEWAYS, PortRange},
    ports::scale,
    route::{Prefix, SCOPE_BITS, scope},
};

use crate::{
    admit, choose, interface,
    maps::{BLOCK_BASES, BLOCK_RULES, BLOCKS, EVENTS, HOLDERS, LENT, POSITIONS},
    opening::Opening,
    words::MapWords,
};

/// Ports found taken, one after the other, that make the next block due: so many are where four fifths are, or more.
pub const FILLING: u32 = 16;
/// Steps of a search for a free block: all blocks of 64 Elastic IPs.
const MAX_STEPS: u32 = 64 * NUMBERS;
/// Mask of a place among the blocks of a host.
const PLACE: usize = MAX_HELD as usize - 1;

/// The blocks that a session's port may come from, and what is needed to lend one more. It stands in the opening.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Held {
    /// How many; 0: the session is not confined to blocks.
    pub count: u32,
    ports: u32,
    addresses: [u32; MAX_HELD as usize],
    ranges: [PortRange; MAX_HELD as usize],
    /// Who holds them, and where its slots are found.
    held_by: u64,
    key: FlowKey4,
    gateway: u32,
    generation: u32,
    max: u32,
    /// One more than a slot that is empty, or 0; and what stands there.
    vacant: u32,
    before: u64,
    /// The search for one more: the Elastic IPs, the next one and how many are left, its blocks and the next step.
    choice: Choice,
    next: u32,
    left: u32,
    random: u32,
    step: u32,
    address: u32,
    spare: u32,
    base: Base,
}

impl Held {
    /// The Elastic IP of the block at this place, as a search knows it.
    #[inline(always)]
    pub fn lent(&self, index: u32) -> Lent {
        Lent { address: self.addresses[index as usize & PLACE], first: index, count: 1, ports: self.ports }
    }

    /// The ports of the block at this place.
    #[inline(always)]
    pub fn range(&self, index: u32) -> PortRange {
        self.ranges[index as usize & PLACE]
    }

    #[inline(always)]
    fn add(&mut self, address: u32, base: &Base, number: u32) {
        let (first, last) = base.ports(number);
        let place = self.count as usize & PLACE;
        self.addresses[place] = address;
        self.ranges[place] = PortRange { first, last };
        self.ports = base.size.into();
        self.count += 1;
    }
}

/// Confines this CPU's opening to the blocks of its host; false if it has none and gets none.
#[inline(always)]
pub fn confine(outbound: &FlowKey4, gateway: u16, generation: u32) -> bool {
    block_confine(outbound, gateway.into(), generation) != 0
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn block_confine(outbound: *const FlowKey4, gateway: u32, generation: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(outbound) = (unsafe { outbound.as_ref() }) else { return 0 };
    let number = gateway.wrapping_sub(1);
    let Some(gateway) = admit::gateway(number, generation) else { return 0 };
    let Some(&Rules { max, .. }) = rules(number, generation) else { return 0 };
    let Some(opening) = Opening::of_this_cpu() else { return 0 };
    let held = &mut opening.held;
    held.key = host::host_key(outbound, 0);
    held.held_by = block::held_by(&held.key);
    (held.gateway, held.generation, held.max) = (number, generation, max);
    (held.count, held.vacant) = (0, 0);
    if gateway.flags & Gateway::DETERMINISTIC != 0 {
        held.max = 1;
        return compute(held, gateway, outbound.source).into();
    }
    held.choice = choose::choice(gateway, number, outbound.source, generation);
    // SAFETY: the callback has the signature that the helper calls; it finds the opening by itself.
    unsafe { bpf_loop(MAX_HELD, look_at_slot as *mut c_void, null_mut(), 0) };
    if opening.held.count == 0 {
        block_lend();
    }
    u64::from(opening.held.count != 0)
}

#[inline(always)]
fn rules(number: u32, generation: u32) -> Option<&'static Rules> {
    if number >= MAX_GATEWAYS {
        return None;
    }
    BLOCK_RULES.get(slot(generation) * MAX_GATEWAYS + number)
}

/// The one block that a host's address stands for.
#[inline(always)]
fn compute(held: &mut Held, gateway: &Gateway, source: u32) -> bool {
    let key = Key::new(
        SCOPE_BITS + 32,
        Prefix { scope: scope(slot(held.generation), held.gateway), address: source },
    );
    let Some(position) = POSITIONS.get(key) else { return false };
    let position = position.first.wrapping_add(u32::from_be(source).wrapping_sub(position.network));
    let Some((address, base)) = lent(gateway.first, held.generation) else { return false };
    // The plan has all Elastic IPs have equally many.
    let count = u32::from(base.count);
    if position < count {
        held.add(address, &base, u32::from(base.first) + position);
        return true;
    }
    if count == 0 || position / count >= gateway.count {
        return false;
    }
    let Some((address, base)) = lent(gateway.first + position / count, held.generation) else { return false };
    held.add(address, &base, u32::from(base.first) + position % count);
    true
}

/// An Elastic IP by its index in `LENT`, and its blocks.
#[inline(always)]
fn lent(index: u32, generation: u32) -> Option<(u32, Base)> {
    let address = LENT.get(slot(generation) * nat_common::pool::MAX_ELASTIC_IPS + index)?.address;
    base_of(address).map(|base| (address, *base))
}

/// The blocks of an Elastic IP, given in network order.
#[inline(always)]
fn base_of(address: u32) -> Option<&'static Base> {
    // SAFETY: map values stay readable while the program runs; the controller writes an entry whole or not at all.
    BLOCK_BASES.get_ptr(address).map(|base| unsafe { &*base })
}

#[inline(always)]
fn slots(key: &FlowKey4) -> Option<MapWords<{ MAX_HELD as i32 - 1 }>> {
    HOLDERS.get_ptr_mut(key).map(|holder| MapWords::new(holder.cast()))
}

/// The word of a block.
#[inline(always)]
fn word(base: &Base, number: u32) -> Option<MapWords> {
    BLOCKS.get_ptr_mut(base.word(number)).map(MapWords::new)
}

/// Adds the block that a slot of the host names, if it still holds that.
unsafe extern "C" fn look_at_slot(step: u32, _context: *mut c_void) -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 1 };
    let held = &mut opening.held;
    let key = held.key;
    let Some(slots) = slots(&key) else {
        held.vacant = 1;
        held.before = 0;
        return 1;
    };
    let named = slots.load(step);
    let (address, number) = block::named(named);
    if named != 0
        && let Some(base) = base_of(address)
        && word(base, number).is_some_and(|word| block::holds(word, 0, held.held_by))
    {
        if interface::gateway_of(address, held.generation) == Some(held.gateway) {
            held.add(address, base, number);
        }
        return 0;
    }
    if held.vacant == 0 {
        held.vacant = step + 1;
        held.before = named;
    }
    0
}

/// Lends the host of this CPU's opening one more block, if it may have one: on the Elastic IP of its first while that
/// has any. Global, as [`crate::nacl`] explains. One if it has one more now.
#[unsafe(no_mangle)]
pub extern "C" fn block_lend() -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 0 };
    let held = &mut opening.held;
    if held.count >= held.max || held.vacant == 0 || held.choice.count == 0 {
        return 0;
    }
    let before = held.count;
    // SAFETY: the helper takes no arguments.
    held.random = unsafe { bpf_get_prandom_u32() };
    held.next = scale(u32::from_be(held.key.source).wrapping_mul(0x9e37_79b1), held.choice.count);
    held.left = held.choice.count;
    (held.step, held.base) = (0, Base::default());
    if before != 0 {
        held.address = held.addresses[0];
        held.base = base_of(held.address).copied().unwrap_or_default();
    }
    // SAFETY: as for `look_at_slot`.
    unsafe { bpf_loop(MAX_STEPS, try_block as *mut c_void, null_mut(), 0) };
    u64::from(opening.held.count != before)
}

/// Tries the next block; 1 ends the search.
unsafe extern "C" fn try_block(_step: u32, _context: *mut c_void) -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 1 };
    let held = &mut opening.held;
    if held.step >= held.base.count.into() {
        return u64::from(!next_address(held));
    }
    let number = block::candidate(&held.base, held.random, held.step);
    held.step += 1;
    let Some(word) = word(&held.base, number) else { return 0 };
    if !block::claim(word, 0, held.held_by) {
        return 0;
    }
    let key = held.key;
    if HOLDERS.get_ptr(key).is_none() {
        let _ = HOLDERS.insert(key, Holder::default(), BPF_NOEXIST.into());
    }
    let new = block::slot(held.address, number);
    if slots(&key).is_some_and(|slots| block::note(slots, held.vacant.wrapping_sub(1), held.before, new)) {
        let (address, base) = (held.address, held.base);
        held.add(address, &base, number);
        tell(held, &base, number);
    } else {
        block::give_back(word, 0, held.held_by);
    }
    held.vacant = 0;
    1
}

#[inline(always)]
fn next_address(held: &mut Held) -> bool {
    if held.left == 0 {
        return false;
    }
    held.left -= 1;
    let index = held.choice.first + held.next;
    held.next = if held.next + 1 >= held.choice.count { 0 } else { held.next + 1 };
    held.step = 0;
    match lent(index, held.generation) {
        Some((address, base)) => (held.address, held.base) = (address, base),
        None => held.base = Base::default(),
    }
    true
}

/// Tells the controller of a block that was lent.
#[inline(always)]
fn tell(held: &Held, base: &Base, number: u32) {
    let (first, last) = base.ports(number);
    if let Some(mut record) = EVENTS.reserve::<Event>(0) {
        record.write(Event {
            kind: Event::BLOCK_LENT | u32::from(held.key.zone) << 8,
            ifindex: u32::from(first) | u32::from(last) << 16,
            address: held.address,
            host: held.key.source,
        });
        record.submit(0);
    }
}
