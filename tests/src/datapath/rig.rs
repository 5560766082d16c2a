//! The rig: a loaded and configured data plane that is given one frame after another.

use std::{collections::HashMap, fmt::Write, net::Ipv4Addr};

use nat_common::{
    clock::ticks_from_seconds,
    event::{Event, Expired},
    flow::address,
};
use nat_userspace::{
    datapath::{Block, Datapath, LoadOptions, Pins, QueueDriver, Session},
    host::{HostFacts, HostRss, enable_fib_lookup},
    plan::{self, Plan},
};

use super::{
    dump,
    events::Events,
    expected::Expected,
    hook::{Hook, Verdict},
    layout::Layout,
    machine::{read_facts, stay_on_this_cpu},
    network::{self, Network, Side},
    slow::Handed,
    state::State,
};

/// What came of a frame.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// A gateway in a network namespace of its own, which is this thread's from now on.
pub struct Rig {
    pub(super) datapath: Datapath,
    queues: Option<QueueDriver>,
    facts: HostFacts,
    indexes: HashMap<&'static str, u32>,
    events: Events,
    pub(super) handed: Handed,
    /// The latest identification of the gateway's own, as on the wire.
    number: [u8; 2],
    case: String,
    linear: usize,
}

impl Rig {
    /// A two-armed gateway with the standard layout.
    #[must_use]
    pub fn standard() -> Self {
        Self::with(&Layout::default())
    }

    /// A two-armed gateway with this layout.
    #[must_use]
    pub fn with(layout: &Layout) -> Self {
        Self::on(Network::default(), layout)
    }

    /// A gateway on this network.
    ///
    /// # Panics
    /// If the kernel refuses anything.
    #[must_use]
    pub fn on(network: Network, layout: &Layout) -> Self {
        let mut rig = Self::load(network, &layout.load_options(), None);
        rig.apply(layout);
        rig
    }

    /// A two-armed gateway with this layout whose state is pinned, for other processors to share.
    ///
    /// # Panics
    /// If the kernel refuses anything.
    #[must_use]
    pub fn pinned(layout: &Layout, pins: &Pins) -> Self {
        let mut rig = Self::load(Network::default(), &layout.load_options(), Some(pins));
        rig.apply(layout);
        rig
    }

    /// A two-armed gateway that was never given a configuration.
    #[must_use]
    pub fn unconfigured() -> Self {
        let layout = Layout::with_limits("[gateway]\nmax_sessions = 1024\nmax_fragmented_datagrams = 64\n");
        Self::load(Network::default(), &layout.load_options(), None)
    }

    fn load(network: Network, options: &LoadOptions, pins: Option<&Pins>) -> Self {
        stay_on_this_cpu();
        network.build();
        enable_fib_lookup().expect("/proc/sys is writable");
        let facts = read_facts();
        let datapath = match pins {
            Some(pins) => Datapath::pinned(options, pins),
            None => Datapath::private(options),
        };
        let mut datapath = datapath.expect("the data plane loads");
        datapath.maps.set_locals(&plan::locals(&facts)).expect("LOCALS can be written");
        let events = Events::new(datapath.take_events().expect("nobody else reads the events"));
        let handed = Handed::by(&mut datapath);
        Self {
            datapath,
            queues: None,
            facts,
            indexes: HashMap::new(),
            events,
            handed,
            number: [0; 2],
            case: String::new(),
            linear: usize::MAX,
        }
    }

    /// Names what is tried next, for the message of a failure.
    pub fn case(&mut self, name: impl Into<String>) {
        self.case = name.into();
    }

    /// Has frames arrive in several buffers, of which the first has so many bytes: what XDP reaches by pointers.
    pub fn split_at(&mut self, linear: usize) {
        self.linear = linear;
    }

    /// Puts another layout into force; its generation.
    ///
    /// # Panics
    /// If the layout does not fit the network.
    pub fn apply(&mut self, layout: &Layout) -> u32 {
        let plan = Plan::new(&layout.config(), &self.facts).expect("the layout fits the network");
        let generation = self.datapath.maps.apply(&plan).expect("the maps can be written");
        self.datapath.set_bursts(&plan.bursts(&self.facts)).expect("LEADS and REACH can be written");
        if plan.counts_hosts() {
            self.datapath.recount().expect("the ageing program can be run");
        }
        generation
    }

    /// From the next [`Rig::apply`] on, the interface called `name` spreads what it receives so.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn set_rss(&mut self, name: &str, rss: HostRss) {
        let interface = self.facts.interfaces.iter_mut().find(|interface| interface.name == name);
        interface.unwrap_or_else(|| panic!("there is no interface {name}")).rss = Some(rss);
    }

    /// Makes every flow ask again under the same configuration.
    ///
    /// # Panics
    /// If the map cannot be written.
    pub fn renew_generation(&mut self) {
        self.datapath.maps.renew_generation().expect("GENERATION can be written");
    }

    /// Changes the network with commands of `ip`, one per line.
    pub fn ip(&mut self, script: &str) {
        network::ip(script);
        self.facts = read_facts();
    }

    /// The index of the interface called `name`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn index(&self, name: &str) -> u32 {
        self.facts.interface(name).unwrap_or_else(|| panic!("there is no interface {name}")).index
    }

    /// Lets a frame arrive and looks no further.
    ///
    /// # Panics
    /// If the kernel refuses to run the program.
    pub fn send(&mut self, side: Side, frame: impl Into<Vec<u8>>) -> Outcome {
        self.send_from(None, side, frame.into())
    }

    /// Lets a frame arrive on this queue of the interface.
    ///
    /// # Panics
    /// If the kernel refuses to run the program.
    pub fn send_on(&mut self, queue: u32, side: Side, frame: impl Into<Vec<u8>>) -> Outcome {
        self.send_from(Some(queue), side, frame.into())
    }

    /// Lets a frame arrive at the program that sends packets ahead.
    ///
    /// # Panics
    /// If it was not loaded, which `bursts = "always"` of the layout does.
    pub fn send_ahead(&mut self, side: Side, frame: impl Into<Vec<u8>>) -> Outcome {
        let (frame, index) = (addressed(side, frame.into()), self.index(side.device()));
        let (number, frame) = self.datapath.send_ahead(&frame, index).expect("the program can be run");
        Outcome { verdict: Verdict::of_xdp(number), frame }
    }

    /// At XDP a frame always comes from a queue, by default the first; at TC it need not be known.
    fn send_from(&mut self, queue: Option<u32>, side: Side, frame: Vec<u8>) -> Outcome {
        let name = side.device();
        let index = match self.indexes.get(name) {
            Some(index) => *index,
            None => self.index(name),
        };
        self.indexes.insert(name, index);
        let frame = addressed(side, frame);
        let done = match (Hook::of_this_thread(), queue) {
            (Hook::Xdp, queue) => {
                let linear = self.linear.min(frame.len());
                self.datapath.translate_split(&frame, linear, index, queue.unwrap_or(0))
            }
            (Hook::Tc, None) => self.datapath.translate_tc(&frame, index),
            (Hook::Tc, Some(queue)) => {
                let load = || QueueDriver::load(&mut self.datapath).expect("the driver loads");
                self.queues.get_or_insert_with(load).translate(&frame, index, queue)
            }
        };
        let (number, frame) = done.expect("the program can be run");
        let verdict = if Hook::of_this_thread() == Hook::Xdp {
            Verdict::of_xdp(number)
        } else {
            Verdict::of_tc(number)
        };
        Outcome { verdict, frame }
    }

    /// Lets a frame arrive, and compares all that comes of it.
    ///
    /// # Panics
    /// If anything is not as expected.
    #[track_caller]
    pub fn expect(&mut self, side: Side, frame: impl Into<Vec<u8>>, expected: Expected) {
        let sent = addressed(side, frame.into());
        let before = self.state();
        let Outcome { verdict, frame } = self.send(side, &sent[..]);
        let after = self.state();
        let mut problems = String::new();
        let wanted_verdict = expected.verdict.at_this_hook();
        if verdict != wanted_verdict {
            let _ = writeln!(problems, "the verdict is {verdict:?} and not {wanted_verdict:?}");
        }
        let wanted = &expected.leaving(&sent, &frame, &mut self.number)[..];
        if frame != wanted {
            let _ =
                writeln!(problems, "the frame that leaves differs; wanted:\n{}", dump::frame(wanted, None));
        }
        let (change, wanted_change) = (after.since(&before), expected.change(&sent));
        if change != wanted_change {
            let _ = writeln!(problems, "the state changed by\n  {change:?}\nand not by\n  {wanted_change:?}");
        }
        let unresolved = self.unresolved();
        let wanted_unresolved: Vec<_> =
            expected.unresolved.iter().map(|(device, address)| (self.index(device), *address)).collect();
        if unresolved != wanted_unresolved {
            let _ = writeln!(problems, "the events tell of {unresolved:?}, not of {wanted_unresolved:?}");
        }
        for key in after.half_open() {
            let _ = writeln!(problems, "this flow lacks its other half: {key:?}");
        }
        if !problems.is_empty() {
            let came = dump::frame(&sent, None);
            let left = dump::frame(&frame, Some(wanted));
            let state = dump::state(&after, &self.datapath.maps);
            let case = &self.case;
            panic!("{case}\n{problems}came on {}:\n{came}left ({verdict:?}):\n{left}{state}", side.device());
        }
    }

    /// Everything the data plane remembers.
    #[must_use]
    pub fn state(&self) -> State {
        State::read(&self.datapath.maps)
    }

    /// The open sessions.
    ///
    /// # Panics
    /// If they cannot be read.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.datapath.maps.sessions().expect("FLOWS4 can be read")
    }

    /// The maps.
    #[must_use]
    pub fn maps(&self) -> &nat_userspace::datapath::Maps {
        &self.datapath.maps
    }

    /// The next hops, by interface index and address, that the controller was asked to resolve since the last call.
    pub fn unresolved(&mut self) -> Vec<(u32, Ipv4Addr)> {
        let missing = self.events.take().into_iter().filter(|event| event.kind == Event::NO_NEIGHBOUR);
        missing.map(|event| (event.ifindex, address(event.address))).collect()
    }

    /// The blocks of ports that the data plane has told of since events were last asked for.
    pub fn lent_blocks(&mut self) -> Vec<Block> {
        self.events.take().iter().map(Block::of_event).collect()
    }

    /// The sessions whose ends the controller was to tell that they have expired, since the last call.
    pub fn expired(&mut self) -> Vec<Expired> {
        self.events.take_expired()
    }

    /// The maps, to be written.
    pub fn maps_mut(&mut self) -> &mut nat_userspace::datapath::Maps {
        &mut self.datapath.maps
    }

    /// Runs an ageing pass as if `seconds` had passed: the sessions released, and those of TCP among them that were
    /// not closed.
    pub fn age(&mut self, seconds: u64) -> (u64, u64) {
        // A session ends beyond its timeout, not at it.
        self.pass(false, ticks_from_seconds(seconds) + 1)
    }

    /// Runs an ageing pass `ticks` ahead.
    pub fn age_ticks(&mut self, ticks: u32) -> (u64, u64) {
        self.pass(false, ticks)
    }

    /// Runs an ageing pass that also releases the sessions of Elastic IPs that are no longer configured.
    pub fn age_withdrawn(&mut self) -> (u64, u64) {
        self.pass(true, 0)
    }

    fn pass(&mut self, withdrawn: bool, ahead: u32) -> (u64, u64) {
        let before = self.state();
        self.datapath.age(withdrawn, ahead).expect("the ageing program can be run");
        let after = self.state();
        let mut change = after.since(&before);
        let released = change.counters.remove("sessions_released").unwrap_or(0);
        let idle = change.counters.remove("idle_timeouts").unwrap_or(0);
        assert_eq!(change.released as u64, 2 * released, "both flows of a session go together");
        assert!(change.counters.is_empty() && change.drops.is_empty(), "ageing moved more: {change:?}");
        assert_eq!((change.opened, change.refreshed), (0, vec![]), "ageing changed flows that live on");
        assert_eq!(after.half_open(), [], "no flow loses its other half");
        (released, idle)
    }
}

/// The frame as the link would bring it: TC leaves alone what is addressed to another interface's MAC address, and tests
/// of where a packet may arrive need not care.
pub fn addressed(side: Side, mut frame: Vec<u8>) -> Vec<u8> {
    if Hook::of_this_thread() == Hook::Tc && frame.first().is_some_and(|first| first & 1 == 0) {
        frame[..6].copy_from_slice(&side.mac());
    }
    frame
}
