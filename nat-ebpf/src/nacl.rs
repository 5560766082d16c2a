//! NACLs: the first rule that matches decides; none denies. How they are compiled stands in `nat_common::nacl`.

use aya_ebpf::maps::lpm_trie::Key;
use nat_common::{
    config::slot,
    flow::Direction,
    nacl::{Class, MAX_NACLS, MAX_PORT_RANGES, PortRanges, SEARCH_STEPS, Verdict, list, scope_number},
    route::{Prefix, SCOPE_BITS, scope},
};

use crate::maps::{NACL_PORTS, NACL_PREFIXES, NACLS};

/// Whether `nacl` lets a packet cross the subnet's border in `direction`, as the subnet sees it: `address` (network
/// order) is the source of an inbound packet or the destination of an outbound one, `service` the destination port
/// (host order) or the ICMP type and code.
#[inline(always)]
pub fn allows(
    nacl: u16,
    direction: Direction,
    protocol: u8,
    address: u32,
    service: u16,
    generation: u32,
) -> bool {
    let slot = slot(generation);
    let list = list(nacl, direction);
    let class = Class::of(protocol);
    let Some(entry) = NACLS.get(slot * MAX_NACLS * 2 + list) else { return false };
    let uniform = entry.uniform[class as usize];
    if uniform != Verdict::DEPENDS {
        return uniform.allows();
    }
    nacl_ports_allow(scope(slot, scope_number(list, class)), address, service, slot) != 0
}

/// A global function: the verifier looks at it once, not anew on every path that leads to it. Inlined, its search alone
/// takes more steps than the verifier has.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nacl_ports_allow(scope: u32, address: u32, service: u16, slot: u32) -> u32 {
    let Some(ranges) = NACL_PREFIXES.get(Key::new(SCOPE_BITS + 32, Prefix { scope, address })) else {
        return 0;
    };
    u32::from(verdict(*ranges, service, slot * MAX_PORT_RANGES).allows())
}

/// The verdict of the range that `service` falls into, by binary search: the last range ends with the last port.
#[inline(always)]
fn verdict(ranges: PortRanges, service: u16, base: u32) -> Verdict {
    let mut low = 0;
    let mut high = ranges.count.wrapping_sub(1);
    let mut step = 0;
    while step < SEARCH_STEPS && low < high {
        let middle = (low + high) / 2;
        let Some(range) = NACL_PORTS.get(base + ranges.first + middle) else { return Verdict::LAST };
        if service <= range.last {
            high = middle;
        } else {
            low = middle + 1;
        }
        step += 1;
    }
    NACL_PORTS.get(base + ranges.first + low).map_or(Verdict::LAST, |range| range.verdict)
}
