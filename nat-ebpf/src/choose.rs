//! Which Elastic IP a new session begins with.

use aya_ebpf::{helpers::bpf_get_prandom_u32, maps::lpm_trie::Key};
use nat_common::{
    config::slot,
    flow::FlowKey4,
    pool::{Choice, Gateway, MAX_ELASTIC_IPS, strategy},
    ports::scale,
    route::{Prefix, SCOPE_BITS, scope},
};

use crate::{
    assembly::fetch_add,
    maps::{LENT, SOURCES, USAGE},
};

/// Elastic IPs compared to find the one least used: all of a few, and of many as many at random.
const COMPARED: u32 = 8;

/// The Elastic IPs that sessions of `source` (network order) may have through the NAT gateway with this number.
#[inline(always)]
pub fn choice(gateway: &Gateway, number: u32, source: u32, generation: u32) -> Choice {
    if gateway.flags & Gateway::BY_SOURCE == 0 {
        return gateway.choice();
    }
    let key = Key::new(SCOPE_BITS + 32, Prefix { scope: scope(slot(generation), number), address: source });
    SOURCES.get(key).copied().unwrap_or(gateway.choice())
}

/// The first of them, network order: the source under which new sessions look for their hop.
#[inline(always)]
pub fn first_address(choice: Choice, generation: u32) -> u32 {
    address(choice.first, generation)
}

#[inline(always)]
fn address(index: u32, generation: u32) -> u32 {
    LENT.get(slot(generation) * MAX_ELASTIC_IPS + index).map_or(0, |lent| lent.address)
}

/// With which of them a session begins; `turn` counts those of this CPU that went round.
#[inline(always)]
pub fn start(gateway: &Gateway, choice: Choice, outbound: &FlowKey4, generation: u32, turn: &mut u32) -> u32 {
    let host = u32::from_be(outbound.source);
    match gateway.strategy {
        strategy::PAIRED => scale(spread(host), choice.count),
        strategy::HASH => {
            let remote = u32::from_be(outbound.destination).rotate_left(16);
            let port = u32::from(u16::from_be(outbound.destination_port));
            scale(spread(spread(host) ^ remote ^ port), choice.count)
        }
        strategy::ROUND_ROBIN => {
            *turn = if *turn + 1 >= choice.count { 0 } else { *turn + 1 };
            *turn
        }
        _ => least_used(choice, generation),
    }
}

#[inline(always)]
fn least_used(choice: Choice, generation: u32) -> u32 {
    let mut least = u64::MAX;
    let mut found = 0;
    let mut step = 0;
    while step < COMPARED && step < choice.count {
        let candidate = if choice.count <= COMPARED {
            step
        } else {
            // SAFETY: the helper takes no arguments.
            scale(unsafe { bpf_get_prandom_u32() }, choice.count)
        };
        let sessions = USAGE.get_ptr(address(choice.first + candidate, generation));
        // SAFETY: a word of a map value.
        let sessions = sessions.map_or(0, |sessions| unsafe { sessions.read_volatile() });
        if sessions < least {
            (least, found) = (sessions, candidate);
        }
        step += 1;
    }
    found
}

/// Counts a session of this Elastic IP (network order), where that is of use: one more, or one less.
#[inline(always)]
pub fn count_session(address: u32, more: bool) {
    if let Some(sessions) = USAGE.get_ptr_mut(address) {
        fetch_add(sessions, if more { 1 } else { u64::MAX });
    }
}

/// Spreads neighbouring addresses over the whole range of a word (Knuth's multiplicative hash).
#[inline(always)]
fn spread(address: u32) -> u32 {
    address.wrapping_mul(0x9e37_79b1)
}
