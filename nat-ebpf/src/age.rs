//! Ends idle sessions, in the kernel: four times the speed of a walk from user space, and able to exclude the race
//! with a packet that arrives meanwhile.

use aya_ebpf::helpers::generated::bpf_for_each_map_elem;
use core::ffi::c_void;
use nat_common::{
    config::{Ageing, Config, Timeouts, slot},
    counter::Counters,
    flow::{Direction, ENDING, FlowEntry4, FlowKey4, UNJUDGED},
    protocol,
    tcp::{self, Phase},
};

use crate::{
    assembly, clock, count, interface,
    maps::{AGEING, CONFIG, FLOWS4, GENERATION},
};

/// One pass over all sessions.
#[inline(always)]
pub fn run() {
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    let Some(&Config { timeouts, .. }) = CONFIG.get(slot(generation)) else { return };
    let Some(&Ageing { withdrawn, ahead }) = AGEING.get(0) else { return };
    let mut pass = Pass {
        timeouts,
        now: clock::now().wrapping_add(ahead),
        generation,
        withdrawn: withdrawn != 0,
        released: 0,
        idle: 0,
    };
    // SAFETY: the callback has the signature that the helper calls, and `pass` outlives the call.
    unsafe {
        let map = (&raw const FLOWS4).cast_mut().cast();
        bpf_for_each_map_elem(map, visit as *mut c_void, (&raw mut pass).cast(), 0);
    }
    count::count(|counters: &mut Counters| {
        counters.sessions_released += pass.released;
        counters.idle_timeouts += pass.idle;
    });
}

struct Pass {
    timeouts: Timeouts,
    now: u32,
    generation: u32,
    withdrawn: bool,
    released: u64,
    idle: u64,
}

/// One element. Sessions are judged at their outbound flow.
unsafe extern "C" fn visit(
    _map: *mut c_void,
    key: *const FlowKey4,
    entry: *mut FlowEntry4,
    pass: *mut Pass,
) -> u64 {
    // SAFETY: the helper hands out a key and a value of the map, and the pointer that `run` gave it.
    let (key, outbound, pass) = unsafe { (&*key, &mut *entry, &mut *pass) };
    if key.direction() == Direction::Inbound {
        return 0;
    }
    // Most sessions are busy: their own flow says so, and the other one need not be looked up.
    if !pass.withdrawn && pass.since(outbound) <= pass.timeouts.least(key.protocol) {
        return 0;
    }
    let other = outbound.other_key(key);
    let Some(inbound) = FLOWS4.get_ptr_mut(other) else {
        // Not to be found between the two inserts of an opening: leave what is young alone.
        if pass.now.wrapping_sub(outbound.last_seen) > pass.timeouts.tcp_transitory {
            let _ = FLOWS4.remove(key);
        }
        return 0;
    };
    // SAFETY: map values stay readable while the program runs.
    let inbound = unsafe { &mut *inbound };
    let phase = tcp::phase(outbound.tcp_seen, inbound.tcp_seen);
    let withdrawn = pass.withdrawn && interface::gateway_of(outbound.address, pass.generation).is_none();
    // Beyond the timeout, not at it: a CPU's clock may be late.
    if !withdrawn && pass.idle_for(outbound, inbound) <= pass.timeouts.of(key.protocol, phase) {
        return 0;
    }
    if release(key, &other, outbound, inbound, withdrawn) {
        pass.released += 1;
        if key.protocol == protocol::TCP && phase != Phase::Closing {
            pass.idle += 1;
        }
    }
    0
}

impl Pass {
    /// Ticks since the flow was seen. A packet may carry a tick later than ours.
    #[inline(always)]
    fn since(&self, flow: &FlowEntry4) -> u32 {
        let idle = self.now.wrapping_sub(flow.last_seen);
        if idle > u32::MAX / 2 { 0 } else { idle }
    }

    /// Ticks since either direction was seen.
    #[inline(always)]
    fn idle_for(&self, outbound: &FlowEntry4, inbound: &FlowEntry4) -> u32 {
        let (outbound, inbound) = (self.since(outbound), self.since(inbound));
        if outbound < inbound { outbound } else { inbound }
    }
}

/// Both flows go together, inbound first, and only if neither was seen since they were judged (invariant 6).
#[inline(always)]
fn release(
    key: &FlowKey4,
    other: &FlowKey4,
    outbound: &mut FlowEntry4,
    inbound: &mut FlowEntry4,
    forced: bool,
) -> bool {
    let judged = (outbound.last_seen, inbound.last_seen);
    // SAFETY: plain words of map values; the order of stores and loads is what counts (see `flow::pass`).
    unsafe {
        (&raw mut outbound.generation).write_volatile(ENDING);
        (&raw mut inbound.generation).write_volatile(ENDING);
        assembly::barrier();
        let seen =
            ((&raw const outbound.last_seen).read_volatile(), (&raw const inbound.last_seen).read_volatile());
        if seen != judged && !forced {
            (&raw mut outbound.generation).write_volatile(UNJUDGED);
            (&raw mut inbound.generation).write_volatile(UNJUDGED);
            return false;
        }
    }
    let _ = FLOWS4.remove(other);
    let _ = FLOWS4.remove(key);
    true
}
