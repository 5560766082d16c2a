//! The search for a free port: over the Elastic IPs of a NAT gateway, the port ranges of each, and the ports of those.
//!
//! No new session fails while a port toward its destination is free (invariant 4), and the last one costs no more to
//! find than the first:
//!
//! 1. Some ports are *guessed* at random (RFC 6056 §3.3.1). Where most are free, that is all.
//! 2. If all of them were taken, the remote is busy and gets a port map ([`crate::ports`]). From then on guesses are
//!    looked up there first, and after them the walk goes from one free port to the next.
//! 3. Where there is no room for a port map, or so few ports that none is needed, every port is tried in turn.

use crate::{
    claim::{Place, Refusal},
    pool::{Lent, PortRange},
    ports::{self, PortMap, Walk, scale},
    wish::Wish,
};

/// Ports guessed before a remote counts as busy: where half of the ports are taken, one session in sixteen finds it so.
const GUESSES: u32 = 4;
/// Ports guessed and looked up in the port map: they keep ports unpredictable where most are taken.
const LOOKS: u32 = 8;
/// An address with no more ports than this needs no port map.
const FEW: u32 = 64;
/// Tries of one port that other CPUs get in the way of.
const PATIENCE: u32 = 16;
/// Ports whose places in the flow table are all taken, before the table counts as full: another may have its place
/// elsewhere.
const FULL: u32 = 4;

/// What a search needs of the world around it.
pub trait World {
    /// Port maps.
    type Map: PortMap;

    /// The state of the search.
    fn search(&mut self) -> &mut Search;
    /// A uniform number that nobody can predict.
    fn random(&mut self) -> u32;
    /// The same for a port that is guessed; it may have been drawn before ([`crate::foresight`]).
    fn draw(&mut self) -> u32 {
        self.random()
    }
    /// The Elastic IP with this index.
    fn lent(&mut self, index: u32) -> Option<Lent>;
    /// The port range with this index.
    fn range(&mut self, index: u32) -> Option<PortRange>;
    /// From now on ports of this address (network order) are meant.
    fn turn_to(&mut self, address: u32);
    /// The number of the port map of that address and the remote.
    fn find_map(&mut self) -> Option<u32>;
    /// Begins a port map for that address and the remote.
    fn begin_map(&mut self) -> Option<u32>;
    /// The port map with this number.
    fn map(&mut self, number: u32) -> Option<Self::Map>;
    /// Called when [`Search::walk`] has turned to another range.
    fn turned(&mut self);
    /// A port of the range that is to be tried before all others.
    fn prefer(&mut self) -> Preferred;
    /// Tries to own `port`.
    ///
    /// # Errors
    /// [`Refusal`].
    fn insert(&mut self, port: u32) -> Result<Place, Refusal>;
}

/// What is to be tried before all other ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preferred {
    /// Nothing, or nothing more.
    Nothing,
    /// Not known yet: ask again.
    Looking,
    /// This port.
    Port(u32),
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Searching,
    /// A port is this CPU's own; its flow stands at this place.
    Claimed(Place),
    /// There are free ports, and no places for their flows.
    TableFull,
    /// No port is free.
    Exhausted,
}

/// How ports are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
enum Way {
    /// At random.
    #[default]
    Guess,
    /// At random, then in order, as the port map has them free.
    Mapped,
    /// In order.
    Count,
}

/// The state of a search.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// The ports of the range that are left.
    pub walk: Walk,
    /// Ports tried.
    pub tries: u32,
    /// Index of the first Elastic IP, how many there are, the next one's distance from the first, and how many are left.
    first: u32,
    count: u32,
    next: u32,
    left: u32,
    /// The Elastic IP being searched; its next range, and how many of its ranges are left.
    lent: Lent,
    range: u32,
    ranges_left: u32,
    /// Ports to pass by before the first range begins.
    ahead: u32,
    way: Way,
    guesses: u32,
    /// The port to try once more, or 0; and how often that may still be done.
    again: u32,
    patience: u32,
    /// Places in the table that were not to be had.
    full: u32,
    /// One more than the number of the port map, or 0; and how many ports it had got back when the search began.
    map: u32,
    /// The generation of its configuration.
    pub generation: u32,
    given_back: u64,
    /// The tick of its beginning.
    pub tick: u32,
    /// The ports it would rather have.
    wish: Wish,
}

impl Search {
    /// A search over the `count` Elastic IPs from index `first` on, beginning with the one `start` after the first.
    #[inline(always)]
    #[must_use]
    pub fn new(first: u32, count: u32, start: u32, generation: u32, tick: u32) -> Self {
        Self {
            first,
            count,
            next: start,
            left: count,
            patience: PATIENCE,
            generation,
            tick,
            ..Self::default()
        }
    }

    /// It would rather have a port as `internal` (host order) is.
    #[inline(always)]
    pub fn wish_for(&mut self, internal: u16) {
        self.wish = Wish::like(internal);
    }

    /// Begins anew without a wish; false if it had none.
    #[inline(always)]
    fn wish_no_more(&mut self) -> bool {
        if self.wish.is_none() {
            return false;
        }
        // The Elastic IPs have come round to the one it began with.
        (self.wish, self.left, self.ranges_left) = (Wish::default(), self.count, 0);
        // The port map searched last is not full: it was searched for some ports alone.
        self.map = 0;
        true
    }

    /// The index of the next Elastic IP; `None` after all of them.
    #[inline(always)]
    pub const fn next_elastic_ip(&mut self) -> Option<u32> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let index = self.first + self.next;
        self.next = if self.next + 1 >= self.count { 0 } else { self.next + 1 };
        Some(index)
    }

    /// The number of the port map in use.
    #[inline(always)]
    #[must_use]
    pub const fn map_number(&self) -> Option<u32> {
        self.map.checked_sub(1)
    }
}

/// Goes one step further, which takes a bounded time. Whoever ends with [`Step::Claimed`] and does not keep the port
/// gives it back ([`give_back`]).
#[inline(always)]
pub fn step<W: World>(world: &mut W) -> Step {
    let again = core::mem::take(&mut world.search().again);
    if again != 0 {
        return attempt(world, again);
    }
    if world.search().walk.left == 0 {
        if !next_range(world) {
            if world.search().full == 0 && world.search().wish_no_more() {
                return Step::Searching;
            }
            return if world.search().full == 0 { Step::Exhausted } else { Step::TableFull };
        }
        if world.search().walk.left == 0 {
            return Step::Searching;
        }
    }
    match world.prefer() {
        Preferred::Port(port) => attempt(world, port),
        Preferred::Looking => Step::Searching,
        Preferred::Nothing => match choose(world) {
            Some(port) => attempt(world, port),
            None => Step::Searching,
        },
    }
}

/// After a search in vain: turns to a range of the Elastic IP that was searched last, whose ports are all taken.
#[inline(always)]
pub fn last_resort<W: World>(world: &mut W) {
    let random = world.random();
    let lent = world.search().lent;
    if let Some(PortRange { first, last }) = world.range(lent.first + scale(random, lent.count)) {
        let random = world.random();
        let number = world.find_map();
        let search = world.search();
        search.walk = Walk::new(first.into(), last.into(), random);
        search.map = number.map_or(0, |number| number + 1);
    }
}

/// Gives back the port of a search that has claimed it. Its flow must be freed by then.
#[inline(always)]
pub fn give_back<W: World>(world: &mut W, port: u32) {
    if let Some(map) = current_map(world) {
        ports::give_back(map, port);
    }
}

#[inline(always)]
fn current_map<W: World>(world: &mut W) -> Option<W::Map> {
    let number = world.search().map_number()?;
    world.map(number)
}

/// The port that the way of the search leads to.
#[inline(always)]
fn choose<W: World>(world: &mut W) -> Option<u32> {
    if world.search().way == Way::Count {
        let search = world.search();
        return search.walk.step().filter(|port| !search.wish.excludes(*port));
    }
    if world.search().guesses != 0 {
        return guess(world);
    }
    if world.search().way == Way::Guess {
        let begun = world.begin_map();
        let search = world.search();
        match begun {
            Some(number) => {
                search.map = number + 1;
                (search.way, search.guesses) = (Way::Mapped, LOOKS);
            }
            None => search.way = Way::Count,
        }
        return None;
    }
    let map = current_map(world)?;
    let unwanted = world.search().wish.excluded();
    world.search().walk.step_to_free(map, unwanted)
}

#[inline(always)]
fn guess<W: World>(world: &mut W) -> Option<u32> {
    let random = world.draw();
    let search = world.search();
    search.guesses -= 1;
    let port = search.walk.pick(random);
    let port = if search.wish.excludes(port) { port ^ 1 } else { port };
    if port < search.walk.low || port > search.walk.high {
        return None;
    }
    match current_map(world) {
        Some(map) if ports::is_taken(map, port) => None,
        _ => Some(port),
    }
}

/// Tries `port`.
#[inline(always)]
pub fn attempt<W: World>(world: &mut W, port: u32) -> Step {
    let map = current_map(world);
    // Before the try: see `ports`.
    if let Some(map) = map
        && !ports::take(map, port)
    {
        return Step::Searching;
    }
    world.search().tries += 1;
    let refusal = match world.insert(port) {
        Ok(place) => return Step::Claimed(place),
        Err(Refusal::Exists) => return Step::Searching,
        Err(refusal) => refusal,
    };
    if let Some(map) = map {
        ports::give_back(map, port);
    }
    let search = world.search();
    if refusal == Refusal::Contended {
        if search.patience != 0 {
            search.patience -= 1;
            search.again = port;
        }
        return Step::Searching;
    }
    search.full += 1;
    if search.full == FULL { Step::TableFull } else { Step::Searching }
}

/// Turns to the next range; false if there is none. A range of which nothing is left has merely been passed by.
#[inline(always)]
fn next_range<W: World>(world: &mut W) -> bool {
    if world.search().ranges_left == 0 {
        note_full(world);
        if !next_address(world) {
            return false;
        }
    }
    let search = world.search();
    if search.ranges_left == 0 {
        return true;
    }
    let index = search.lent.first + search.range;
    let Some(range) = world.range(index) else { return false };
    let random = world.random();
    let search = world.search();
    search.range = if search.range + 1 >= search.lent.count { 0 } else { search.range + 1 };
    let span = u32::from(range.last - range.first) + 1;
    if search.ahead >= span {
        search.ahead -= span;
        return true;
    }
    search.ahead = 0;
    search.ranges_left -= 1;
    let Some(PortRange { first, last }) = search.wish.part_of(range) else { return true };
    search.walk = Walk::new(first.into(), last.into(), random);
    (search.way, search.guesses) = match (search.map, search.lent.ports > FEW) {
        (0, false) => (Way::Count, 0),
        (0, true) => (Way::Guess, GUESSES),
        _ => (Way::Mapped, LOOKS),
    };
    world.turned();
    true
}

/// Turns to the next Elastic IP, if there is one, and to a range of it at random: the more ports, the likelier. An
/// address known to have no free port is passed by.
#[inline(always)]
fn next_address<W: World>(world: &mut W) -> bool {
    let Some(index) = world.search().next_elastic_ip() else { return false };
    let Some(lent) = world.lent(index) else { return false };
    world.turn_to(lent.address);
    let number = world.find_map();
    let random = if lent.count == 1 { 0 } else { world.random() };
    let search = world.search();
    search.lent = lent;
    search.range = 0;
    search.map = 0;
    search.ahead = scale(random, lent.ports);
    search.ranges_left = lent.count;
    let (generation, tick) = (search.generation, search.tick);
    let Some(map) = number.and_then(|number| world.map(number)) else { return true };
    let search = world.search();
    if ports::is_worth_searching(map, generation, tick) {
        search.map = number.map_or(0, |number| number + 1);
        search.given_back = ports::given_back(map);
    } else {
        search.ranges_left = 0;
    }
    true
}

/// An Elastic IP all of whose ports were found taken is passed by until one is given back.
#[inline(always)]
fn note_full<W: World>(world: &mut W) {
    if let Some(map) = current_map(world) {
        let Search { generation, given_back, full: 0, wish, .. } = *world.search() else { return };
        if !wish.is_none() {
            return;
        }
        ports::note_full(map, generation, given_back);
    }
}
