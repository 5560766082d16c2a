//! New sessions: a free port, and both flows.
//!
//! The insert of the inbound flow decides who owns a port toward a remote (invariant 3); there is no lock and no other
//! record of ports.

use aya_ebpf::helpers::{bpf_get_prandom_u32, generated::bpf_loop};
use core::{ffi::c_void, ptr::null_mut};
use nat_common::{
    config::slot,
    counter::Counters,
    drop::DropReason,
    flow::{FlowEntry4, FlowKey4, OUTSIDE, UNJUDGED},
    pool::{Gateway, MAX_RANGES, PortRange},
    protocol, tcp,
};

use crate::{
    admit, clock, count,
    flow::{self, Rewrite},
    maps::{POOL, SEARCH},
    parse::Parsed,
    rss::{MAX_LOOKS, Preference},
    stop::Stop,
    table::{self, Refusal},
};

/// Ports tried in one range for one packet: a bound on what a first packet may cost when a destination is nearly
/// exhausted. The sender's retransmission goes on elsewhere in the range.
const MAX_TRIES: u32 = 4_096;

/// Opens the session of an outbound packet that came in on `queue`; `rewrite` brings the NAT gateway and the hop, and
/// takes the endpoint.
#[inline(always)]
pub fn open(parsed: &Parsed, generation: u32, queue: u32, rewrite: &mut Rewrite) -> Result<(), Stop> {
    Stop::decode(open_session(parsed, generation, queue, rewrite))
}

/// Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn open_session(parsed: *const Parsed, generation: u32, queue: u32, rewrite: *mut Rewrite) -> u64 {
    // SAFETY: callers pass references; the verifier asks for the checks against null.
    let (Some(parsed), Some(rewrite)) = (unsafe { (parsed.as_ref(), rewrite.as_mut()) }) else {
        return Stop::encode(Err(Stop::Drop(DropReason::NotConfigured)));
    };
    match admit::gateway(u32::from(rewrite.gateway).wrapping_sub(1), generation) {
        Some(gateway) => Stop::encode(open_pair(parsed, gateway, generation, queue, rewrite)),
        None => Stop::encode(Err(Stop::Drop(DropReason::NoRoute))),
    }
}

#[inline(always)]
fn open_pair(
    parsed: &Parsed,
    gateway: &Gateway,
    generation: u32,
    queue: u32,
    rewrite: &mut Rewrite,
) -> Result<(), Stop> {
    let Some(search) = Search::of_this_cpu() else { return Err(Stop::Drop(DropReason::NotConfigured)) };
    *search = Search::new(&parsed.key, gateway, generation);
    search.preference = Preference::new(&parsed.key, gateway, generation, queue);
    // SAFETY: the callback has the signature that the helper calls; it finds the search by itself.
    unsafe { bpf_loop(gateway.count * (MAX_TRIES + MAX_LOOKS + 1), try_port as *mut c_void, null_mut(), 0) };
    count::count(|counters| counters.port_tries += u64::from(search.tries));
    match search.outcome {
        Outcome::Claimed => {}
        Outcome::Searching => return Err(Stop::Drop(DropReason::ErrorPortAllocation)),
        Outcome::TableFull => return Err(Stop::Drop(DropReason::TableFull)),
    }
    rewrite.address = search.entry.destination;
    rewrite.port = search.entry.destination_port;
    search.entry = outbound_entry(parsed, generation, rewrite);
    let mut inserted = table::insert(&search.entry);
    if inserted == Err(Refusal::Exists) && table::seek(&parsed.key).is_none() {
        // Lost to another CPU that inserted elsewhere: it is done by now.
        inserted = table::insert(&search.entry);
    }
    match inserted {
        Ok(_) => {
            count::count(|counters| opened(counters, parsed));
            Ok(())
        }
        Err(refusal) => {
            table::release(search.place);
            // Another CPU has opened this very session meanwhile: the packet belongs to that one.
            if refusal == Refusal::Exists && flow::seek(&parsed.key, rewrite).is_some() {
                return Ok(());
            }
            Err(Stop::Drop(DropReason::TableFull))
        }
    }
}

/// The first Elastic IP of `gateway`, network order: the source under which new sessions look for their hop.
#[inline(always)]
pub fn first_address(gateway: &Gateway, generation: u32) -> u32 {
    POOL.get(slot(generation) * MAX_RANGES + gateway.first).map_or(0, |range| range.address)
}

#[inline(always)]
fn opened(counters: &mut Counters, parsed: &Parsed) {
    counters.sessions_opened += 1;
    if parsed.key.protocol == protocol::TCP {
        counters.connection_attempts += 1;
    }
}

#[inline(always)]
fn outbound_entry(parsed: &Parsed, generation: u32, rewrite: &Rewrite) -> FlowEntry4 {
    let tick = clock::now();
    FlowEntry4 {
        address: rewrite.address,
        port: rewrite.port,
        tcp_seen: if parsed.key.protocol == protocol::TCP { tcp::observe(0, parsed.tcp_flags) } else { 0 },
        vpc: parsed.key.zone,
        generation,
        last_seen: tick,
        opened: tick,
        packets: 1,
        bytes: parsed.length.into(),
        hop: rewrite.hop,
        ..FlowEntry4::of(&parsed.key)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Searching,
    Claimed,
    TableFull,
}

/// A search for a free port. `entry` is the inbound flow to be, `place` where it stands once it was claimed.
///
/// It stands in a map and not on the stack, where the verifier would follow every step of every counter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Search {
    entry: FlowEntry4,
    place: u32,
    /// Index in `POOL` of the gateway's first range, and how many it has.
    first: u32,
    ranges: u32,
    /// The range being searched, as a distance from the host's own, and how many have been begun.
    range: u32,
    begun: u32,
    /// Tries left in the range, the next port to try, and the range's bounds.
    left: u32,
    next: u32,
    low: u32,
    high: u32,
    tries: u32,
    outcome: Outcome,
    preference: Preference,
}

impl Search {
    /// The one search that a CPU makes at a time.
    #[inline(always)]
    fn of_this_cpu() -> Option<&'static mut Self> {
        // SAFETY: the entry is this CPU's own, and only one packet at a time looks for a port on it.
        SEARCH.get_ptr_mut(0).map(|search| unsafe { &mut *search })
    }

    #[inline(always)]
    fn new(outbound: &FlowKey4, gateway: &Gateway, generation: u32) -> Self {
        let key = FlowKey4 {
            source: outbound.destination,
            destination: 0,
            source_port: outbound.destination_port,
            destination_port: 0,
            protocol: outbound.protocol,
            zone: OUTSIDE,
            spare: [0; 2],
        };
        let tick = clock::now();
        let entry = FlowEntry4 {
            address: outbound.source,
            port: outbound.source_port,
            vpc: outbound.zone,
            generation: UNJUDGED,
            last_seen: tick,
            opened: tick,
            ..FlowEntry4::of(&key)
        };
        let first = slot(generation) * MAX_RANGES + gateway.first;
        // Paired (RFC 4787 REQ-2): a host begins with the same Elastic IP whatever it talks to.
        let range = scale(spread(outbound.source), gateway.count);
        Self {
            entry,
            place: 0,
            first,
            ranges: gateway.count,
            range,
            begun: 0,
            left: 0,
            next: 0,
            low: 0,
            high: 0,
            tries: 0,
            outcome: Outcome::Searching,
            preference: Preference::default(),
        }
    }

    /// Turns to the next range, at a random port of it (RFC 6056 §3.3.1). False after the last.
    #[inline(always)]
    fn next_range(&mut self) -> bool {
        if self.begun == self.ranges {
            return false;
        }
        self.begun += 1;
        let Some(&PortRange { address, first, last }) = POOL.get(self.first + self.range) else {
            return false;
        };
        self.range += 1;
        if self.range >= self.ranges {
            self.range = 0;
        }
        self.low = first.into();
        self.high = last.into();
        let span = self.high - self.low + 1;
        // SAFETY: the helper takes no arguments.
        self.next = self.low + scale(unsafe { bpf_get_prandom_u32() }, span);
        self.left = if span < MAX_TRIES { span } else { MAX_TRIES };
        self.entry.destination = address;
        self.preference.begin(address, self.next, span);
        true
    }

    /// The next port of the range: one after the other, after those preferred. `None` passes one by that is not.
    #[inline(always)]
    fn next_port(&mut self) -> Option<u16> {
        let port = if self.preference.is_open() {
            self.preference.look(self.low, self.high)?
        } else {
            let port = self.next;
            self.next = if port >= self.high { self.low } else { port + 1 };
            self.left -= 1;
            port
        };
        self.tries += 1;
        Some((port as u16).to_be())
    }
}

/// One try; 1 ends the search.
unsafe extern "C" fn try_port(_step: u32, _context: *mut c_void) -> u64 {
    let Some(search) = Search::of_this_cpu() else { return 1 };
    if search.left == 0 && !search.next_range() {
        return 1;
    }
    let Some(port) = search.next_port() else { return 0 };
    search.entry.destination_port = port;
    match table::insert(&search.entry) {
        Ok(place) => {
            search.place = place;
            search.outcome = Outcome::Claimed;
        }
        Err(Refusal::Exists) => return 0,
        Err(Refusal::Full) => search.outcome = Outcome::TableFull,
    }
    1
}

/// Maps a uniform `number` onto `0..span`, without a division.
#[inline(always)]
fn scale(number: u32, span: u32) -> u32 {
    ((u64::from(number) * u64::from(span)) >> 32) as u32
}

/// Spreads neighbouring addresses over the whole range of a word (Knuth's multiplicative hash).
#[inline(always)]
fn spread(address: u32) -> u32 {
    u32::from_be(address).wrapping_mul(0x9e37_79b1)
}
