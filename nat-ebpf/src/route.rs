//! Longest-prefix look-ups: a source's subnet, a destination's target.

use aya_ebpf::maps::lpm_trie::Key;
use nat_common::{
    config::slot,
    route::{Prefix, SCOPE_BITS, Subnet, Target, scope},
};

use crate::maps::{ROUTES4, SUBNETS};

const HOST: u32 = SCOPE_BITS + 32;

/// The private subnet of `zone` that `address` (network order) lies in.
#[inline(always)]
pub fn subnet(zone: u8, address: u32, generation: u32) -> Option<&'static Subnet> {
    SUBNETS.get(Key::new(HOST, Prefix { scope: scope(slot(generation), u32::from(zone)), address }))
}

/// Where `table` sends packets for `address` (network order).
#[inline(always)]
pub fn target(table: u16, address: u32, generation: u32) -> Option<&'static Target> {
    ROUTES4.get(Key::new(HOST, Prefix { scope: scope(slot(generation), u32::from(table)), address }))
}
