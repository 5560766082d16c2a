//! Ends idle sessions, in the kernel, where the race with a packet that arrives meanwhile can be excluded.

use aya_ebpf::helpers::generated::bpf_loop;
use core::ffi::c_void;
use nat_common::{
    clock::SHORTEST_TIMEOUT,
    config::{Ageing, Config, Timeouts, slot},
    counter::Counters,
    event::{Event, Expired},
    flow::{ENDING, FlowEntry4, FlowKey4, OUTSIDE, UNJUDGED, holds_flow},
    mapping::{is_mapping, is_permission},
    protocol,
    table::GROUP_ENTRIES,
    tcp::{self, Phase},
};

use crate::{
    assembly, choose, clock,
    connection::acknowledged,
    count, host, interface, mapping,
    maps::{AGEING, CONFIG, EVENTS, GENERATION},
    ports, table,
};

/// Visits the groups of the table that the orders name; returns what [`Ageing::NEVER`] explains.
#[inline(always)]
pub fn run() -> u32 {
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    let Some(Config { timeouts, resets, .. }) = CONFIG.get(slot(generation)) else { return 0 };
    let Some(&Ageing { withdrawn, recount, left, ahead, first, groups }) = AGEING.get(0) else { return 0 };
    let mut pass = Pass {
        timeouts,
        now: clock::now().wrapping_add(ahead),
        generation,
        withdrawn: withdrawn != 0,
        recount: recount != 0,
        first,
        released: 0,
        idle: 0,
        left,
        tells: *resets == Config::AT_EXPIRY,
    };
    // SAFETY: the callback has the signature that the helper calls, and `pass` outlives the call.
    unsafe { bpf_loop(groups, visit as *mut c_void, (&raw mut pass).cast(), 0) };
    count::count(|counters: &mut Counters| {
        counters.sessions_released += pass.released;
        counters.idle_timeouts += pass.idle;
    });
    pass.left
}

/// Ends the session whose inbound flow has this key if it is over, or if it is a TCP session that both sides have closed
/// and whose remote will take a SYN with this `sequence` number for a newer one; true if there is no session by now.
#[inline(always)]
pub fn end_if_over(inbound: &FlowKey4, sequence: u32) -> bool {
    flow_end_if_over(inbound, sequence) != 0
}

/// Ticks that a closed TCP session is left alone in any case: its last segments are still on their way.
const LAST_SEGMENTS: u32 = SHORTEST_TIMEOUT + 1;

/// Ticks that a mapping is kept from its beginning on.
const YOUNG: u32 = 2;

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn flow_end_if_over(inbound: *const FlowKey4, sequence: u32) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(key) = (unsafe { inbound.as_ref() }) else { return 0 };
    let generation = GENERATION.get(0).copied().unwrap_or_default();
    let Some(Config { timeouts, .. }) = CONFIG.get(slot(generation)) else { return 0 };
    let Some(inbound) = table::seek(key) else { return 1 };
    let mut pass = Pass {
        timeouts,
        now: clock::now(),
        generation,
        withdrawn: false,
        recount: false,
        first: 0,
        released: 0,
        idle: 0,
        left: 0,
        tells: false,
    };
    // SAFETY: map values stay readable while the program runs.
    let inbound = unsafe { &mut *inbound };
    let Some(outbound) = table::seek(&inbound.other_key(key)) else { return 0 };
    // SAFETY: as above.
    let outbound = unsafe { &mut *outbound };
    if is_mapping(key.protocol) {
        pass.judge_mapping(outbound);
        return u64::from(!outbound.is_flow());
    }
    if pass.has_closed_before(outbound, inbound, sequence) && release(outbound, inbound, false, false) {
        pass.released += 1;
    } else {
        pass.judge_pair(outbound, inbound);
    }
    count::count(|counters: &mut Counters| {
        counters.sessions_released += pass.released;
        counters.idle_timeouts += pass.idle;
    });
    pass.released
}

struct Pass {
    /// Of a slot that is not filled anew while a slice is aged.
    timeouts: &'static Timeouts,
    now: u32,
    generation: u32,
    withdrawn: bool,
    recount: bool,
    first: u32,
    released: u64,
    idle: u64,
    /// The least of what [`Self::judge`] has returned.
    left: u32,
    /// Whether both ends of a TCP session learn that it ends for being idle.
    tells: bool,
}

/// One group.
unsafe extern "C" fn visit(step: u32, pass: *mut Pass) -> u64 {
    // SAFETY: the pointer that `run` gave.
    let pass = unsafe { &mut *pass };
    let first = pass.first.wrapping_add(step).wrapping_mul(GROUP_ENTRIES);
    let mut number = 0;
    while number < GROUP_ENTRIES {
        let Some(entry) = table::at(first + number) else { return 1 };
        // SAFETY: map values stay readable while the program runs.
        let left = pass.judge(unsafe { &mut *entry });
        pass.left = pass.left.min(left);
        if pass.recount {
            host::recount(first + number, pass.generation);
        }
        number += 1;
    }
    0
}

impl Pass {
    /// Sessions are judged at their outbound flow. Returns the ticks until the entry may have to end, as it stands; 0 if it
    /// is to be looked at again soon, as after the end of a session, which may have been the last in its mapping.
    #[inline(always)]
    fn judge(&mut self, outbound: &mut FlowEntry4) -> u32 {
        let protocol = outbound.protocol;
        if is_mapping(protocol) && outbound.is_flow() {
            return self.judge_mapping(outbound);
        }
        if !outbound.is_flow() || outbound.zone == OUTSIDE {
            return Ageing::NEVER;
        }
        // Most sessions are busy: their own flow says so, and the other one need not be looked up.
        if !self.withdrawn {
            let (since, least) = (self.since(outbound), self.timeouts.least(protocol));
            if since <= least {
                return least - since + 1;
            }
        }
        let Some(inbound) = table::seek(&outbound.other_key(&outbound.key())) else {
            // Not to be found between the two inserts of an opening: leave what is young alone.
            let since = self.since(outbound);
            if since <= self.timeouts.tcp_transitory {
                return self.timeouts.tcp_transitory - since + 1;
            }
            let (key, mark) = (outbound.key(), host::take_mark(outbound));
            table::vacate(outbound);
            host::release(&key, mark);
            return Ageing::NEVER;
        };
        // SAFETY: map values stay readable while the program runs.
        self.judge_pair(outbound, unsafe { &mut *inbound })
    }

    /// Mappings are judged at their outbound entry, permissions at the one they have. What is young may be about to get
    /// its first session, or be left without one, and is looked at again soon; what has sessions waits for them.
    #[inline(always)]
    fn judge_mapping(&mut self, entry: &mut FlowEntry4) -> u32 {
        if self.since(entry) < YOUNG {
            return 0;
        }
        if entry.zone != OUTSIDE {
            let inbound = table::seek(&entry.other_key(&entry.key()));
            release_mapping(entry, inbound);
        } else if is_permission(entry.protocol) {
            release_mapping(entry, None);
        }
        Ageing::NEVER
    }

    /// Ends a session that was idle for too long.
    #[inline(always)]
    fn judge_pair(&mut self, outbound: &mut FlowEntry4, inbound: &mut FlowEntry4) -> u32 {
        let protocol = outbound.protocol;
        let phase = tcp::phase(outbound.tcp_seen, inbound.tcp_seen);
        let withdrawn = self.withdrawn && interface::gateway_of(outbound.address, self.generation).is_none();
        // Beyond the timeout, not at it: a CPU's clock may be late.
        let (idle, timeout) = (self.idle_for(outbound, inbound), self.timeouts.of(protocol, phase));
        if !withdrawn && idle <= timeout {
            return timeout - idle + 1;
        }
        let tells = self.tells && !withdrawn && protocol == protocol::TCP && phase.is_open();
        if release(outbound, inbound, withdrawn, tells) {
            self.released += 1;
            if protocol == protocol::TCP && phase != Phase::Closing {
                self.idle += 1;
            }
        }
        0
    }

    /// Whether both sides have closed the session, and a SYN with this `sequence` number is newer than its end (RFC 1122
    /// §4.2.2.13, RFC 6191). A reset proves nothing: anybody may have sent it.
    #[inline(always)]
    fn has_closed_before(&self, outbound: &FlowEntry4, inbound: &FlowEntry4, sequence: u32) -> bool {
        let closed = outbound.tcp_seen & inbound.tcp_seen & tcp::FIN != 0
            && (outbound.tcp_seen | inbound.tcp_seen) & tcp::RST == 0;
        let ahead = sequence.wrapping_sub(inbound.opened);
        closed && ahead != 0 && ahead < 1 << 31 && self.idle_for(outbound, inbound) >= LAST_SEGMENTS
    }

    /// Ticks since the flow was seen. A packet may carry a tick later than ours.
    #[inline(always)]
    fn since(&self, flow: &FlowEntry4) -> u32 {
        let idle = self.now.wrapping_sub(flow.last_seen);
        if idle > u32::MAX / 2 { 0 } else { idle }
    }

    /// Ticks since a direction was seen that keeps the session alive: either, or of UDP and ICMP perhaps the outbound one
    /// alone (RFC 4787 §4.3).
    #[inline(always)]
    fn idle_for(&self, outbound: &FlowEntry4, inbound: &FlowEntry4) -> u32 {
        let outbound_alone = self.timeouts.outbound_alone != 0 && outbound.protocol != protocol::TCP;
        let (outbound, inbound) = (self.since(outbound), self.since(inbound));
        if outbound_alone {
            return outbound;
        }
        if outbound < inbound { outbound } else { inbound }
    }
}

/// Tells the controller of a session that ends for being idle, if it is known how to reset it. Global, as [`crate::nacl`]
/// explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn flow_expired(outbound: *mut FlowEntry4, inbound: *mut FlowEntry4) -> u64 {
    // SAFETY: callers pass references; the verifier asks for the checks against null.
    let (Some(out), Some(back)) = (unsafe { (outbound.as_ref(), inbound.as_ref()) }) else { return 0 };
    let key = out.key();
    let (Some(to_internal), Some(to_remote)) =
        (acknowledged(&key, outbound), acknowledged(&back.key(), inbound))
    else {
        return 0;
    };
    if let Some(mut record) = EVENTS.reserve::<Expired>(0) {
        record.write(Expired {
            kind: Event::EXPIRED,
            address: out.address,
            port: out.port,
            spare: [0; 3],
            key,
            hops: [out.hop, back.hop],
            sequences: [to_remote, to_internal],
        });
        record.submit(0);
    }
    0
}

/// How often a session is marked as ending that packets use meanwhile, although they are refused.
const PATIENCE: u32 = 4;

/// Both flows go together, inbound first, and only if neither was seen since they were judged (invariant 6).
#[inline(always)]
fn release(outbound: &mut FlowEntry4, inbound: &mut FlowEntry4, forced: bool, tells: bool) -> bool {
    let judged = inbound.last_seen;
    if !mark_ending(outbound, forced) {
        return false;
    }
    // SAFETY: plain words of map values; the order of stores and loads is what counts (see `flow::pass`).
    unsafe {
        let seen = (&raw const outbound.last_seen).read_volatile();
        (&raw mut inbound.generation).write_volatile(ENDING);
        assembly::barrier();
        let is_seen = (&raw const outbound.last_seen).read_volatile() != seen
            || (&raw const inbound.last_seen).read_volatile() != judged;
        if is_seen && !forced {
            (&raw mut inbound.generation).write_volatile(UNJUDGED);
            (&raw mut outbound.generation).write_volatile(UNJUDGED);
            return false;
        }
    }
    if tells {
        flow_expired(outbound, inbound);
    }
    let key = inbound.key();
    let (host, mark, held_in) =
        (outbound.key(), host::take_mark(outbound), mapping::held_in(outbound, inbound));
    table::vacate(inbound);
    table::vacate(outbound);
    ports::give_back(&key);
    host::release(&host, mark);
    mapping::let_go(&host, key.destination, key.destination_port, held_in);
    choose::count_session(key.destination, false);
    true
}

/// Marks an outbound flow as ending. Of several CPUs that would end its session one does; and a packet that was seen
/// meanwhile keeps it, unless it is `forced`.
#[inline(always)]
fn mark_ending(outbound: &mut FlowEntry4, forced: bool) -> bool {
    let mut left = if forced { PATIENCE } else { 1 };
    let mut seen = outbound.last_seen;
    while left > 0 {
        left -= 1;
        // SAFETY: words of a map value.
        let generation = unsafe { (&raw const outbound.generation).read_volatile() };
        if generation == ENDING || !holds_flow(generation) {
            return false;
        }
        if table::replace_generation(outbound, seen, generation, ENDING) {
            return true;
        }
        // SAFETY: as above.
        seen = unsafe { (&raw const outbound.last_seen).read_volatile() };
    }
    false
}

/// Frees a mapping, both entries, or a permission, the one that it has, once no session is held in it.
#[inline(always)]
fn release_mapping(entry: &mut FlowEntry4, inbound: Option<*mut FlowEntry4>) {
    if !mapping::end(entry) {
        return;
    }
    if let Some(inbound) = inbound {
        // SAFETY: map values stay readable while the program runs.
        let key = unsafe { (*inbound).key() };
        table::vacate(inbound);
        ports::give_back(&key);
    }
    table::vacate(entry);
}
