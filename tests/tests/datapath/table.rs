//! The flow table where processors meet in it.

use std::{collections::BTreeSet, path::PathBuf, sync::Barrier, thread};

use nat_userspace::datapath::{Datapath, LoadOptions, Pins, Programs};
use natgw_tests::datapath::{Side::Internal, *};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

super::tests![
    two_processors_that_open_sessions_at_once_never_share_an_endpoint,
    a_session_is_opened_once_by_two_processors_that_carry_its_first_packets_at_once,
    two_processors_that_open_the_same_sessions_count_each_once,
];

/// Ports of the Elastic IP, and sessions opened toward one remote: all that it has room for.
const PORTS: u16 = 64;
const ROUNDS: u16 = 150;
/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;

/// A pin directory that ends with its test.
struct OwnPins(Pins);

impl OwnPins {
    fn new(name: &str) -> Self {
        Self(Pins::new(&PathBuf::from(format!("/sys/fs/bpf/natgw-{name}-{}", std::process::id()))))
    }
}

impl Drop for OwnPins {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("the pins of a test are left behind: {error}");
        }
    }
}

/// A program for each of two processors, all of them on the pinned state.
fn processors(pins: &Pins) -> [Datapath; 2] {
    let options = LoadOptions {
        max_sessions: 0,
        max_fragmented_datagrams: 16_384,
        log_level: 0,
        programs: Programs::Xdp,
        bursts: false,
        resets_at_expiry: false,
    };
    [0, 1].map(|_| Datapath::pinned(&options, pins).expect("the data plane loads"))
}

/// Lets the processors carry packets out of `interface` at the same time, each its own; how often packets had to be
/// sent again.
fn at_once(processors: &mut [Datapath; 2], interface: u32, packets: [Vec<Vec<u8>>; 2]) -> usize {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let running = (0..).zip(processors).zip(packets).map(|((number, datapath), packets)| {
            let start = &start;
            scope.spawn(move || {
                let mut cpus = CpuSet::new();
                cpus.set(number).expect("the CPU's number fits");
                // With a single processor the two still take turns.
                let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
                start.wait();
                packets.iter().map(|packet| carry(datapath, packet, interface)).sum::<usize>()
            })
        });
        let running: Vec<_> = running.collect();
        running.into_iter().map(|processor| processor.join().expect("it carries all packets")).sum()
    })
}

/// Two that try for the last ports at once may both be refused, and each finds one when it comes again.
fn carry(datapath: &mut Datapath, packet: &[u8], interface: u32) -> usize {
    (0..100)
        .position(|_| datapath.translate(packet, interface, 0).expect("the program can be run").0 == REDIRECT)
        .expect("a packet finds a port while there is one")
}

fn two_processors_that_open_sessions_at_once_never_share_an_endpoint() {
    let pins = OwnPins::new("twins");
    let ports = format!("40000-{}", 40_000 + PORTS - 1);
    let mut rig = Rig::pinned(&Layout::with_ports(&ports), &pins.0);
    let interface = rig.index(Internal.device());
    let mut processors = processors(&pins.0);
    let mut again = 0;
    for round in 0..ROUNDS {
        let packet = |number: u16| udp(HOST, 1_024 + number, REMOTE, 53 + round).frame();
        let halves = [(0..PORTS / 2).map(packet).collect(), (PORTS / 2..PORTS).map(packet).collect()];
        again += at_once(&mut processors, interface, halves);
        let sessions = rig.sessions();
        let endpoints: BTreeSet<_> = sessions.iter().map(|session| session.external).collect();
        assert_eq!((sessions.len(), endpoints.len()), (usize::from(PORTS), usize::from(PORTS)));
        assert_eq!(rig.state().half_open(), []);
        assert_eq!(rig.age(400), (u64::from(PORTS), 0));
    }
    assert!(again < usize::from(ROUNDS), "{again} packets had to be sent again in {ROUNDS} rounds");
}

fn a_session_is_opened_once_by_two_processors_that_carry_its_first_packets_at_once() {
    let pins = OwnPins::new("twice");
    let mut rig = Rig::pinned(&Layout::with_ports("1024-65535"), &pins.0);
    let interface = rig.index(Internal.device());
    let mut processors = processors(&pins.0);
    for round in 0..ROUNDS {
        let packets: Vec<_> =
            (0..PORTS).map(|port| udp(HOST, 1_024 + port, REMOTE, 53 + round).frame()).collect();
        at_once(&mut processors, interface, [packets.clone(), packets]);
        assert_eq!(rig.sessions().len(), usize::from(PORTS));
        assert_eq!(rig.state().half_open(), []);
        assert_eq!(rig.age(400), (u64::from(PORTS), 0));
    }
}

/// The counts of hosts are pinned like the sessions: each processor has loaded programs of its own.
fn two_processors_that_open_the_same_sessions_count_each_once() {
    let pins = OwnPins::new("counted");
    let layout = Layout::with_ports("1024-65535");
    let limits = "max_sessions_per_host = 100000\nmax_ports_per_destination = 100000\n";
    let nat_gateways = layout.nat_gateways.clone() + limits + "block_size = 32768\n";
    let mut rig = Rig::pinned(&Layout { nat_gateways, ..layout }, &pins.0);
    let interface = rig.index(Internal.device());
    let mut processors = processors(&pins.0);
    for round in 0..ROUNDS {
        let packets: Vec<_> =
            (0..PORTS).map(|port| udp(HOST, 1_024 + port, REMOTE, 53 + round).frame()).collect();
        at_once(&mut processors, interface, [packets.clone(), packets]);
        let counts: Vec<_> = rig.maps().hosts().unwrap().iter().map(|record| record.sessions).collect();
        assert_eq!(counts, [u64::from(PORTS); 2]);
        assert_eq!(rig.maps().blocks().unwrap().len(), 1);
        assert_eq!(rig.age(400), (u64::from(PORTS), 0));
        assert_eq!(rig.maps().hosts().unwrap(), []);
    }
}
