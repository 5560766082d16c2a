//! The port of a new session: what the search of [`nat_common::search`] needs of the data plane.

use aya_ebpf::helpers::{bpf_get_prandom_u32, generated::bpf_loop};
use core::{ffi::c_void, ptr::null_mut};
use nat_common::{
    claim::{Place, Refusal},
    config::slot,
    drop::DropReason,
    flow::{FlowEntry4, FlowKey4, OUTSIDE, UNJUDGED},
    mapping,
    pool::{Gateway, Lent, MAX_ELASTIC_IPS, MAX_RANGES, PortRange},
    ports::{self as port_maps, Directory},
    protocol,
    search::{self, Preferred, Search, Step, World},
};

use crate::{
    admit, age,
    block::{self, Held},
    choose, clock, count, foresee,
    maps::{LENT, POOL, SEARCH},
    ports::{self, MapPorts, PortMaps},
    rss::Preference,
    table,
};

/// Steps of a search: more than any can take, and no more than `bpf_loop` does.
const MAX_STEPS: u32 = 1 << 23;

/// Taken ports that a search without success looks at.
const LAST_RESORT: u32 = 64;

/// How often a flow is inserted where other CPUs get in the way.
const PATIENCE: u32 = 16;

/// What session is to be opened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Order {
    /// The generation in force.
    pub generation: u32,
    /// The queue that its packet came in on, counted from 1; 0: nobody knows.
    pub queue: u32,
    /// The sequence number that a TCP session begins with.
    pub sequence: u32,
    /// Its NAT gateway, counted from 1.
    pub gateway: u16,
    /// What [`Gateway`] says of that.
    pub flags: u8,
    pub strategy: u8,
}

/// A session that is being opened. `entry` is the inbound flow to be, and then the outbound one; `place` where the
/// inbound one stands once it is claimed.
///
/// It stands in a map and not on the stack, where the verifier would follow every step of every counter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Opening {
    pub entry: FlowEntry4,
    search: Search,
    preference: Preference,
    pub place: Place,
    slot: u32,
    /// Where this CPU's last session began that went round.
    turn: u32,
    /// For whom.
    pub order: Order,
    /// A key that is looked for: here, because chains of calls have no stack to spare.
    pub probe: FlowKey4,
    pub claimed: bool,
    pub table_full: bool,
    /// Whether it is to have the mapping of its internal endpoint.
    pub mapped: bool,
    /// Another CPU opens this very session.
    pub twin: bool,
    /// The mapping and the permission that it is held in ([`crate::mapping::held_in`]).
    pub held_in: u8,
    /// Where it is counted ([`nat_common::host::mark`]).
    pub mark: u8,
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
    fn begin(&mut self) {
        let Order { generation, queue, gateway, .. } = self.order;
        let number = u32::from(gateway).wrapping_sub(1);
        let Some(gateway) = admit::gateway(number, generation) else { return };
        let outbound = &self.probe;
        let tick = clock::now();
        self.entry = inbound_entry(outbound, tick);
        let choice = choose::choice(gateway, number, outbound.source, generation);
        let start = choose::start(gateway, choice, outbound, generation, &mut self.turn);
        self.search = Search::new(choice.first, choice.count, start, generation, tick);
        if self.mapped && self.order.flags & Gateway::PARITY != 0 {
            self.search.wish_for(u16::from_be(outbound.source_port));
        }
        self.preference = Preference::new(outbound, gateway, generation, queue);
        self.slot = slot(generation);
        self.claimed = false;
        self.table_full = false;
    }

    /// Is held nowhere, and has nothing.
    #[inline(always)]
    pub fn stand_alone(&mut self) {
        (self.held_in, self.twin, self.claimed, self.table_full) = (0, false, false, false);
    }

    /// Looks for a port wherever the session may have one, and claims it.
    #[inline(always)]
    pub fn claim(&mut self, outbound: &FlowKey4) {
        self.held.count = 0;
        if protocol::is_port_less(outbound.protocol) {
            return self.claim_address();
        }
        let in_blocks = self.order.flags & Gateway::BLOCKS != 0;
        if !in_blocks || block::confine(outbound, self.order.gateway, self.order.generation) {
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

    /// Claims an Elastic IP toward the remote for a session without ports: one host has it at a time.
    #[inline(always)]
    fn claim_address(&mut self) {
        // SAFETY: as for the search.
        unsafe { bpf_loop(MAX_ELASTIC_IPS, try_address as *mut c_void, null_mut(), 0) };
        count::count(|counters| counters.port_tries += u64::from(self.search.tries));
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

    /// Has the next session of this host begin where this one got its port, if that was guessed.
    #[inline(always)]
    pub fn remember(&self, outbound: &FlowKey4) {
        if !self.mapped && self.preference.is_none() {
            foresee::remember(outbound.source, self.entry.destination, &self.search.walk);
        }
    }

    /// Why there is no session.
    #[inline(always)]
    pub fn refusal(&self) -> DropReason {
        if self.table_full { DropReason::TableFull } else { DropReason::ErrorPortAllocation }
    }

    /// Inserts what `entry` is by now.
    #[inline(always)]
    pub fn insert_entry(&self) -> Result<Place, Refusal> {
        let mut left = PATIENCE;
        while left > 0 {
            match table::insert(&self.entry) {
                Err(Refusal::Contended) => left -= 1,
                inserted => return inserted,
            }
        }
        Err(Refusal::Contended)
    }

    /// Takes back the inbound flow, and `port` (network order) with it.
    #[inline(always)]
    pub fn withdraw(&mut self, port: u16) {
        table::release(self.place);
        // The port of a session in a mapping is the mapping's.
        if self.held_in == 0 {
            search::give_back(self, u16::from_be(port).into());
        }
    }

    /// Whose ports are searched, as port maps know it.
    #[inline(always)]
    fn key(&self) -> FlowKey4 {
        port_maps::key(&self.entry.key())
    }
}

/// The inbound flow of a session with this outbound key that is opened at `tick`, but for the external endpoint.
#[inline(always)]
pub fn inbound_entry(outbound: &FlowKey4, tick: u32) -> FlowEntry4 {
    let key = FlowKey4 {
        source: outbound.destination,
        destination: 0,
        source_port: outbound.destination_port,
        destination_port: 0,
        protocol: outbound.protocol,
        zone: OUTSIDE,
        spare: [0; 2],
    };
    FlowEntry4 {
        address: outbound.source,
        port: outbound.source_port,
        vpc: outbound.zone,
        generation: UNJUDGED,
        last_seen: tick,
        opened: tick,
        ..FlowEntry4::of(&key)
    }
}

/// Has this CPU's opening begin for a session with this outbound key, or for the mapping of its internal endpoint if it is
/// to have one.
#[inline(always)]
pub fn begin(outbound: &FlowKey4) {
    opening_begin(outbound);
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn opening_begin(outbound: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    if let (Some(outbound), Some(opening)) = (unsafe { outbound.as_ref() }, Opening::of_this_cpu()) {
        opening.probe = if opening.mapped { mapping::outbound_key(outbound) } else { *outbound };
        opening.begin();
    }
    0
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
    fn draw(&mut self) -> u32 {
        foresee::draw().unwrap_or_else(|| self.random())
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

/// Tries the next Elastic IP; 1 ends it.
unsafe extern "C" fn try_address(_step: u32, _context: *mut c_void) -> u64 {
    let Some(opening) = Opening::of_this_cpu() else { return 1 };
    let Some(index) = opening.search.next_elastic_ip() else { return 1 };
    let Some(lent) = opening.lent(index) else { return 1 };
    opening.turn_to(lent.address);
    opening.search.tries += 1;
    match opening.insert(0) {
        Ok(place) => {
            opening.place = place;
            opening.claimed = true;
            1
        }
        Err(Refusal::Full) => {
            opening.table_full = true;
            1
        }
        Err(Refusal::Exists | Refusal::Contended) => 0,
    }
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
    if !age::end_if_over(&opening.probe, opening.order.sequence) {
        return 0;
    }
    if let Step::Claimed(place) = search::attempt(opening, port) {
        opening.place = place;
        opening.claimed = true;
        return 1;
    }
    0
}
