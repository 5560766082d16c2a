//! A gateway's port allocator on memory of the test's choice: the sources of the data plane, without a kernel.

#![allow(dead_code, reason = "each test uses a part")]

mod word;

use std::cell::RefCell;

use nat_common::{
    claim::{self, Place, Refusal, Table},
    flow::{FlowEntry4, FlowKey4, OUTSIDE, UNJUDGED},
    memory::Words,
    pool::{Lent, PortRange},
    ports::{self, BUCKET, Directory, PortMap},
    search::{self, Preferred, Search, Step, World},
    table::{GROUP_ENTRIES, Probe, Secret},
};

pub use word::{Slice, Word};

/// Words of an entry that the allocator's algorithms touch: key, ports, generation.
const ENTRY: usize = 3;

pub struct Map<W> {
    head: Vec<W>,
    full: Vec<W>,
    taken: Vec<W>,
}

/// How much memory a gateway has.
pub struct Size {
    pub groups: u32,
    pub buckets: u32,
    pub full: usize,
    pub taken: usize,
}

/// The memory of a gateway, and what it lends.
pub struct Gateway<W> {
    groups: u32,
    flows: Vec<W>,
    spilled: Vec<W>,
    buckets: u32,
    tags: Vec<W>,
    maps: Vec<Map<W>>,
    pub lent: Vec<Lent>,
    pub pool: Vec<PortRange>,
}

const SECRET: Secret = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0x2545_f491_4f6c_dd1d,
    0xd6e8_feb8_6659_fd93,
];

impl<W: Word> Gateway<W> {
    /// A gateway that lends these `ranges` of each of so many `addresses`.
    pub fn new(size: &Size, addresses: u32, ranges: &[(u16, u16)]) -> Self {
        let words = |count| (0..count).map(|_| W::zero()).collect::<Vec<_>>();
        let map = |_| Map { head: words(8), full: words(size.full), taken: words(size.taken) };
        let pool = ranges.iter().map(|&(first, last)| PortRange { first, last });
        let ports = ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum();
        let count = ranges.len() as u32;
        let lent = |number| Lent { address: 0x0100_0000 + number, first: number * count, count, ports };
        Self {
            groups: size.groups,
            flows: words((size.groups * GROUP_ENTRIES) as usize * ENTRY),
            spilled: words(size.groups as usize),
            buckets: size.buckets,
            tags: words((size.buckets * BUCKET) as usize),
            maps: (0..size.buckets * BUCKET).map(map).collect(),
            lent: (0..addresses).map(lent).collect(),
            pool: (0..addresses).flat_map(|_| pool.clone()).collect(),
        }
    }

    /// Opens session `number` toward `remote`, beginning with the Elastic IP of this index.
    pub fn open(&self, start: u32, remote: u32, number: u32, random: impl FnMut() -> u32) -> Opened {
        let count = self.lent.len() as u32;
        let attempt = Attempt {
            gateway: self,
            search: Search::new(0, count, start, 1, 1),
            flow: FlowEntry4 {
                address: number,
                generation: UNJUDGED,
                ..FlowEntry4::of(&inbound(remote, 0, 0))
            },
            random: RefCell::new(random),
        };
        attempt.run()
    }

    /// Tries once to insert the inbound flow of `port` toward `remote`.
    pub fn insert(&self, remote: u32, port: u16) -> Result<Place, Refusal> {
        let key = inbound(remote, self.lent[0].address, port);
        claim::insert(self, &FlowEntry4 { generation: UNJUDGED, ..FlowEntry4::of(&key) })
    }

    /// Ends a session.
    pub fn close(&self, session: &Session) {
        claim::release(self, session.place);
        let words = ports::key(&session.key).words();
        let map = ports::find(self, words).and_then(|number| Directory::map(self, number));
        if let Some(map) = map {
            ports::give_back(map, session.port().into());
        }
    }

    /// Begins a port map for the ports of this Elastic IP toward `remote`.
    pub fn begin_map(&self, address: u32, remote: u32) -> Option<u32> {
        ports::begin(self, ports::key(&inbound(remote, self.lent[address as usize].address, 0)).words())
    }

    /// The number of that port map.
    pub fn find_map(&self, address: u32, remote: u32) -> Option<u32> {
        ports::find(self, ports::key(&inbound(remote, self.lent[address as usize].address, 0)).words())
    }

    /// Bits that port map `number` has set, and how many it says it has.
    pub fn taken(&self, number: u32) -> (u32, u64) {
        let map = &self.maps[number as usize];
        let bits = map.taken.iter().map(|word| word.load().count_ones()).sum();
        (bits, map.head[2].load())
    }

    /// Marks `port` as taken in port map `number`.
    pub fn mark(&self, number: u32, port: u32) {
        assert!(ports::take(&self.maps[number as usize], port));
    }

    /// Marks it as free again.
    pub fn unmark(&self, number: u32, port: u32) {
        ports::give_back(&self.maps[number as usize], port);
    }

    /// The first word of the summary of port map `number`.
    pub fn summary(&self, number: u32) -> u64 {
        self.maps[number as usize].full[0].load()
    }

    /// Ends every port map.
    pub fn forget_maps(&self) {
        for bucket in 0..self.buckets {
            let Some(tags) = self.tags(bucket) else { continue };
            for slot in 0..BUCKET {
                let tag = tags.load(slot);
                if ports::is_ready(tag) && ports::retire(tags, slot, tag) {
                    let Some(map) = Directory::map(self, bucket * BUCKET + slot) else { continue };
                    ports::free(tags, slot, map);
                }
            }
        }
    }
}

pub fn inbound(remote: u32, address: u32, port: u16) -> FlowKey4 {
    FlowKey4 {
        source: 0x0a00_0000 + remote,
        destination: address,
        source_port: 443,
        destination_port: port.to_be(),
        protocol: 6,
        zone: OUTSIDE,
        spare: [0; 2],
    }
}

/// What came of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Session(Session),
    TableFull,
    Exhausted,
}

impl Opened {
    #[track_caller]
    pub fn session(self) -> Session {
        match self {
            Self::Session(session) => session,
            Self::TableFull | Self::Exhausted => panic!("{self:?}"),
        }
    }
}

/// An open session: its inbound flow, and the tries that it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub place: Place,
    pub key: FlowKey4,
    pub tries: u32,
    pub steps: u32,
}

impl Session {
    pub fn port(&self) -> u16 {
        u16::from_be(self.key.destination_port)
    }
}

struct Attempt<'a, W, R> {
    gateway: &'a Gateway<W>,
    search: Search,
    flow: FlowEntry4,
    random: RefCell<R>,
}

impl<W: Word, R: FnMut() -> u32> Attempt<'_, W, R> {
    fn run(mut self) -> Opened {
        for steps in 1..=1_000_000 {
            match search::step(&mut self) {
                Step::Searching => {}
                Step::Claimed(place) => {
                    let tries = self.search.tries;
                    return Opened::Session(Session { place, key: self.flow.key(), tries, steps });
                }
                Step::TableFull => return Opened::TableFull,
                Step::Exhausted => return Opened::Exhausted,
            }
        }
        panic!("the search does not end: {:?}", self.search)
    }

    fn key(&self) -> [u64; 2] {
        ports::key(&self.flow.key()).words()
    }
}

impl<'a, W: Word, R: FnMut() -> u32> World for Attempt<'a, W, R> {
    type Map = &'a Map<W>;

    fn search(&mut self) -> &mut Search {
        &mut self.search
    }

    fn random(&mut self) -> u32 {
        self.random.borrow_mut()()
    }

    fn lent(&mut self, index: u32) -> Option<Lent> {
        self.gateway.lent.get(index as usize).copied()
    }

    fn range(&mut self, index: u32) -> Option<PortRange> {
        self.gateway.pool.get(index as usize).copied()
    }

    fn turn_to(&mut self, address: u32) {
        self.flow.destination = address;
    }

    fn find_map(&mut self) -> Option<u32> {
        ports::find(self.gateway, self.key())
    }

    fn begin_map(&mut self) -> Option<u32> {
        ports::begin(self.gateway, self.key())
    }

    fn map(&mut self, number: u32) -> Option<Self::Map> {
        Directory::map(self.gateway, number)
    }

    fn turned(&mut self) {}

    fn prefer(&mut self) -> Preferred {
        Preferred::Nothing
    }

    fn insert(&mut self, port: u32) -> Result<Place, Refusal> {
        self.flow.destination_port = (port as u16).to_be();
        let inserted = claim::insert(self.gateway, &self.flow);
        if inserted == Err(Refusal::Contended) {
            W::yield_now();
        }
        inserted
    }
}

impl<'a, W: Word> Table for &'a Gateway<W> {
    type Entry = Slice<'a, W>;

    fn probe(self, words: [u64; 2]) -> Probe {
        Probe::first(&SECRET, words)
    }

    fn group(self, probe: Probe) -> u32 {
        probe.group(self.groups)
    }

    fn entry(self, group: u32, number: u32) -> Option<Self::Entry> {
        let at = (group * GROUP_ENTRIES + number) as usize * ENTRY;
        self.flows.get(at..at + ENTRY).map(Slice)
    }

    fn has_spilled(self, group: u32) -> bool {
        self.spilled[group as usize].load() != 0
    }

    fn spill(self, group: u32) {
        self.spilled[group as usize].store(1);
    }

    fn fill(self, _entry: Self::Entry, _flow: &FlowEntry4) {}
}

impl<'a, W: Word> PortMap for &'a Map<W> {
    type Head = Slice<'a, W>;
    type Full = Slice<'a, W>;
    type Taken = Slice<'a, W>;

    fn head(self) -> Self::Head {
        Slice(&self.head)
    }

    fn full(self) -> Self::Full {
        Slice(&self.full)
    }

    fn taken(self) -> Self::Taken {
        Slice(&self.taken)
    }
}

impl<'a, W: Word> Directory for &'a Gateway<W> {
    type Bucket = Slice<'a, W>;
    type Map = &'a Map<W>;

    fn probe(self, words: [u64; 2]) -> Probe {
        Probe::first(&SECRET, words)
    }

    fn bucket(self, probe: Probe) -> u32 {
        probe.group(self.buckets)
    }

    fn tags(self, bucket: u32) -> Option<Self::Bucket> {
        let at = (bucket * BUCKET) as usize;
        self.tags.get(at..at + BUCKET as usize).map(Slice)
    }

    fn map(self, number: u32) -> Option<Self::Map> {
        self.maps.get(number as usize)
    }
}
