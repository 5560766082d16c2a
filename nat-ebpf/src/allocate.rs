//! New sessions: a free port, and both flows.
//!
//! The insert of the inbound flow decides who owns a port toward a remote (invariant 3); there is no lock. Which ports
//! are tried, and in which order, stands in [`nat_common::search`].

use aya_ebpf::helpers::{bpf_get_prandom_u32, generated::bpf_loop};
use core::{ffi::c_void, ptr::null_mut};
use nat_common::{
    claim::{Place, Refusal},
    config::slot,
    counter::Counters,
    drop::DropReason,
    flow::{FlowEntry4, FlowKey4, OUTSIDE, UNJUDGED},
    pool::{Gateway, Lent, MAX_ELASTIC_IPS, MAX_RANGES, PortRange, strategy},
    ports::{self as port_maps, Directory},
    protocol,
    search::{self, Preferred, Search, Step, World},
    tcp,
};

use crate::{
    admit, age,
    block::{self, Held},
    choose, clock, count,
    flow::{self, Rewrite},
    host,
    maps::{LENT, POOL, SEARCH},
    parse::Parsed,
    ports::{self, MapPorts, PortMaps},
    rss::Preference,
    stop::{Reply, Stop},
    table,
};

/// Steps of a search: more than any can take, and no more than `bpf_loop` does.
const MAX_STEPS: u32 = 1 << 23;

/// Taken ports that a search without success looks at.
const LAST_RESORT: u32 = 64;

/// How often the outbound flow is inserted where other CPUs get in the way.
const PATIENCE: u32 = 16;

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
    let Some(opening) = Opening::of_this_cpu() else { return Err(Stop::Drop(DropReason::NotConfigured)) };
    opening.mark = 0;
    if gateway.flags & Gateway::LIMITED != 0 {
        opening.mark = host::admit(&parsed.key, rewrite.gateway, generation)?;
    }
    opening_begin(&parsed.key, rewrite.gateway.into(), generation, queue);
    opening.sequence = rewrite.sequence;
    opening.claim(parsed, gateway, generation, rewrite.gateway);
    if !opening.claimed {
        host::release(&parsed.key, opening.mark);
        return Err(Stop::Reply(Reply::Prohibited(opening.refusal())));
    }
    rewrite.address = opening.entry.destination;
    rewrite.port = opening.entry.destination_port;
    opening.entry = outbound_entry(parsed, generation, opening.entry.opened, rewrite);
    opening.entry.vpc = opening.mark;
    match opening.insert_outbound() {
        Ok(()) => {
            count::count(|counters| opened(counters, parsed));
            if gateway.strategy == strategy::LEAST_USED {
                choose::count_session(rewrite.address, true);
            }
            Ok(())
        }
        Err(refusal) => {
            opening.withdraw(rewrite.port);
            host::release(&parsed.key, opening.mark);
            // Another CPU has opened this very session meanwhile: the packet belongs to that one.
            if refusal == Refusal::Exists && flow::seek(&parsed.key, rewrite).is_some() {
                return Ok(());
            }
            Err(Stop::Drop(DropReason::TableFull))
        }
    }
}

/// Has this CPU's opening begin for a session with this outbound key through a NAT gateway, counted from 1. Global, as
/// [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn opening_begin(outbound: *const FlowKey4, gateway: u32, generation: u32, queue: u32) -> u64 {
    let number = gateway.wrapping_sub(1);
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let outbound = unsafe { outbound.as_ref() };
    if let (Some(outbound), Some(gateway)) = (outbound, admit::gateway(number, generation))
        && let Some(opening) = Opening::of_this_cpu()
    {
        opening.begin(outbound, gateway, number, generation, queue);
    }
    0
}

#[inline(always)]
fn opened(counters: &mut Counters, parsed: &Parsed) {
    counters.sessions_opened += 1;
    if parsed.key.protocol == protocol::TCP {
        counters.connection_attempts += 1;
    }
}

#[inline(always)]
fn outbound_entry(parsed: &Parsed, generation: u32, tick: u32, rewrite: &Rewrite) -> FlowEntry4 {
    FlowEntry4 {
        address: rewrite.address,
        port: rewrite.port,
        tcp_seen: if parsed.key.protocol == protocol::TCP { tcp::observe(0, parsed.tcp_flags) } else { 0 },
        generation,
        last_seen: tick,
        opened: tick,
        packets: 1,
        bytes: parsed.length.into(),
        hop: rewrite.hop,
        ..FlowEntry4::of(&parsed.key)
    }
}

/// A session that is being opened. `entry` is the inbound flow to be, and then the outbound one; `place` where the
/// inbound one stands once it is claimed.
///
/// It stands in a map and not on the stack, where the verifier would follow every step of every counter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Opening {
    entry: FlowEntry4,
    search: Search,
    preference: Preference,
    place: Place,
    slot: u32,
    /// Where this CPU's last session began that went round.
    turn: u32,
    /// The sequence number that a TCP session begins with.
    sequence: u32,
    /// The inbound flow whose session may be over: here, because its chain of calls has no stack to spare.
    probe: FlowKey4,
    claimed: bool,
    table_full: bool,
    /// Where it is counted ([`nat_common::host::mark`]).
    mark: u8,
    /// The blocks that its port must come from.
    pub held: Held,
}

impl Opening {
    /// The one opening that a CPU is at.
    #[inline(always)]
    pub fn of_this_cpu() -> Option<&'static mut Self> {
        // SAFETY: the entry is this CPU's own, and only one packet at a time looks for a port on it.
        SEARCH.get_ptr_mut(0).map(|opening| unsafe { &mut *opening })
    }

    #[inline(always)]
    fn begin(&mut self, outbound: &FlowKey4, gateway: &Gateway, number: u32, generation: u32, queue: u32) {
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
        self.entry = FlowEntry4 {
            address: outbound.source,
            port: outbound.source_port,
            vpc: outbound.zone,
            generation: UNJUDGED,
            last_seen: tick,
            opened: tick,
            ..FlowEntry4::of(&key)
        };
        let choice = choose::choice(gateway, number, outbound.source, generation);
        let start = choose::start(gateway, choice, outbound, generation, &mut self.turn);
        self.search = Search::new(choice.first, choice.count, start, generation, tick);
        self.preference = Preference::new(outbound, gateway, generation, queue);
        self.slot = slot(generation);
        self.claimed = false;
        self.table_full = false;
    }

    /// Looks for a port wherever the session may have one, and claims it.
    #[inline(always)]
    fn claim(&mut self, parsed: &Parsed, gateway: &Gateway, generation: u32, number: u16) {
        self.held.count = 0;
        let in_blocks = gateway.flags & Gateway::BLOCKS != 0;
        if !in_blocks || block::confine(&parsed.key, number, generation) {
            self.search();
            if in_blocks {
                self.search_next_block();
            }
        }
        count::count(|counters| counters.port_tries += u64::from(self.search.tries));
        if !self.claimed && !self.table_full && (!in_blocks || self.held.count != 0) {
            port_reclaim();
        }
    }

    /// Looks for a port.
    #[inline(always)]
    fn search(&mut self) {
        if self.held.count != 0 {
            let Search { generation, tick, .. } = self.search;
            // The newest block first: it has most free ports, and says whether the next one is due.
            self.search = Search::new(0, self.held.count, self.held.count - 1, generation, tick);
        }
        // SAFETY: the callback has the signature that the helper calls; it finds the search by itself.
        unsafe { bpf_loop(MAX_STEPS, step as *mut c_void, null_mut(), 0) };
    }

    /// Lends the host its next block where its blocks are filling, and looks there if they are full.
    #[inline(always)]
    fn search_next_block(&mut self) {
        if self.search.tries <= block::FILLING || self.table_full {
            return;
        }
        if block::block_lend() != 0 && !self.claimed {
            self.search();
        }
    }

    /// Why there is no session.
    #[inline(always)]
    fn refusal(&self) -> DropReason {
        if self.table_full { DropReason::TableFull } else { DropReason::ErrorPortAllocation }
    }

    /// Inserts the outbound flow that `entry` is by now.
    #[inline(always)]
    fn insert_outbound(&self) -> Result<(), Refusal> {
        let mut left = PATIENCE;
        while left > 0 {
            match table::insert(&self.entry) {
                Err(Refusal::Contended) => left -= 1,
                inserted => return inserted.map(|_| ()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Takes back the inbound flow, and `port` (network order) with it.
    #[inline(always)]
    fn withdraw(&mut self, port: u16) {
        table::release(self.place);
        search::give_back(self, u16::from_be(port).into());
    }

    /// Whose ports are searched, as port maps know it.
    #[inline(always)]
    fn key(&self) -> FlowKey4 {
        port_maps::key(&self.entry.key())
    }
}

impl World for Opening {
    type Map = MapPorts;

    #[inline(always)]
    fn search(&mut self) -> &mut Search {
        &mut self.search
    }

    #[inline(always)]
    fn random(&mut self) -> u32 {
        // SAFETY: the helper takes no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn lent(&mut self, index: u32) -> Option<Lent> {
        if self.held.count != 0 {
            return Some(self.held.lent(index));
        }
        LENT.get(self.slot * MAX_ELASTIC_IPS + index).copied()
    }

    #[inline(always)]
    fn range(&mut self, index: u32) -> Option<PortRange> {
        if self.held.count != 0 {
            return Some(self.held.range(index));
        }
        POOL.get(self.slot * MAX_RANGES + index).copied()
    }

    #[inline(always)]
    fn turn_to(&mut self, address: u32) {
        self.entry.destination = address;
    }

    #[inline(always)]
    fn find_map(&mut self) -> Option<u32> {
        if self.held.count == 0 { ports::find(&self.key()) } else { None }
    }

    #[inline(always)]
    fn begin_map(&mut self) -> Option<u32> {
        if self.held.count == 0 { ports::begin(&self.key()) } else { None }
    }

    #[inline(always)]
    fn map(&mut self, number: u32) -> Option<MapPorts> {
        PortMaps.map(number)
    }

    #[inline(always)]
    fn turned(&mut self) {
        let walk = self.search.walk;
        self.preference.begin(self.entry.destination, walk.next, walk.span());
    }

    #[inline(always)]
    fn prefer(&mut self) -> Preferred {
        if !self.preference.is_open() {
            return Preferred::Nothing;
        }
        let walk = self.search.walk;
        self.preference.look(walk.low, walk.high).map_or(Preferred::Looking, Preferred::Port)
    }

    #[inline(always)]
    fn insert(&mut self, port: u32) -> Result<Place, Refusal> {
        self.entry.destination_port = (port as u16).to_be();
        table::insert(&self.entry)
    }
}

/// One step of the search; 1 ends it.
unsafe extern "C" fn step(_step: u32, _context: *mut c_void) -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 1 };
    match search::step(opening) {
        Step::Searching => return 0,
        Step::Claimed(place) => {
            opening.place = place;
            opening.claimed = true;
        }
        Step::TableFull => opening.table_full = true,
        Step::Exhausted => {}
    }
    1
}

/// After a search in vain: looks at some of the ports that are taken for one whose session is over, only not aged yet.
/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn port_reclaim() -> u64 {
    if let Some(opening) = Opening::of_this_cpu() {
        search::last_resort(opening);
        // SAFETY: as for the search.
        unsafe { bpf_loop(LAST_RESORT, reclaim_port as *mut c_void, null_mut(), 0) };
    }
    0
}

/// Takes the next port if its session is over; 1 ends the search.
unsafe extern "C" fn reclaim_port(_step: u32, _context: *mut c_void) -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 1 };
    let Some(port) = opening.search.walk.step() else { return 1 };
    opening.entry.destination_port = (port as u16).to_be();
    opening.probe = opening.entry.key();
    if !age::end_if_over(&opening.probe, opening.sequence) {
        return 0;
    }
    if let Step::Claimed(place) = search::attempt(opening, port) {
        opening.place = place;
        opening.claimed = true;
        return 1;
    }
    0
}
