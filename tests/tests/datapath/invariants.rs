//! What must always hold (ARCHITECTURE.md), against traffic that is out to break it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal, InternalB},
    flags::SYN,
    *,
};

use crate::{
    random::Random,
    traffic::{Traffic, addresses, ipv4_offset, is_internal},
};

super::tests![
    invariant_1_no_internal_address_ever_leaves_on_an_external_interface,
    invariant_1_nothing_but_what_is_for_the_host_is_handed_to_its_stack,
    invariant_1_without_a_configuration_nothing_is_forwarded_or_handed_on,
    invariant_2_an_outside_packet_never_creates_state,
    invariant_3_no_two_sessions_share_an_external_endpoint_toward_one_remote,
    invariant_6_both_flows_of_a_session_end_together,
    invariant_7_a_recycled_entry_serves_nobody_but_its_own_flow,
    invariant_8_every_packet_is_counted_exactly_once,
    invariant_9_no_frame_makes_the_program_fail_or_a_refused_frame_change,
];

const FRAMES: usize = 20_000;

/// A rig with ports enough for the traffic's hosts, and answers without limit.
fn rig() -> Rig {
    let limits = "[gateway]\nicmp_errors_per_second = 1000000\n".to_owned();
    Rig::with(&Layout { limits, ..Layout::with_ports("40000-40015") })
}

/// Lets the traffic arrive and shows each frame and what came of it.
fn each_frame(seed: u64, mut look: impl FnMut(&mut Rig, Side, &[u8], &Outcome)) -> Rig {
    let mut rig = rig();
    let mut traffic = Traffic::new(seed);
    for number in 0..FRAMES {
        let (side, frame) = traffic.next();
        let outcome = rig.send(side, &frame[..]);
        look(&mut rig, side, &frame, &outcome);
        if number % 5_000 == 4_999 {
            rig.age(400);
        }
    }
    rig
}

/// The side that a forwarded frame leaves on: it carries that interface's MAC address.
fn leaves_on(frame: &[u8]) -> Option<Side> {
    [Internal, InternalB, External].into_iter().find(|side| frame[6..12] == side.mac())
}

fn invariant_1_no_internal_address_ever_leaves_on_an_external_interface() {
    let (mut outside, mut errors) = (0, 0);
    each_frame(1, |_, side, sent, outcome| {
        let leaves = match outcome.verdict {
            Verdict::Redirect => leaves_on(&outcome.frame),
            Verdict::Tx => Some(side),
            Verdict::Aborted | Verdict::Drop | Verdict::Pass => return,
        };
        // An answer to a frame from outside tells its sender what it has sent itself.
        if leaves != Some(External) || (side == External && outcome.verdict == Verdict::Tx) {
            assert!(leaves.is_some(), "it leaves by no known interface: {:02x?}", outcome.frame);
            return;
        }
        outside += 1;
        let frame = &outcome.frame[..];
        let found = addresses(frame, 14).expect("it is an IPv4 packet");
        assert!(!found.iter().any(|address| is_internal(*address)), "{found:?} from {sent:02x?}");
        let l4 = 14 + usize::from(frame[14] & 0x0f) * 4;
        if frame[23] == 1 && [3, 11, 12].contains(&frame[l4]) {
            errors += 1;
            let quoted = addresses(frame, l4 + 8).expect("an error quotes an IPv4 packet");
            assert!(!quoted.iter().any(|address| is_internal(*address)), "{quoted:?} from {sent:02x?}");
        }
    });
    assert!(outside > 1_000 && errors > 20, "only {outside} frames left outside, {errors} errors among them");
}

fn invariant_1_nothing_but_what_is_for_the_host_is_handed_to_its_stack() {
    let own =
        [INTERNAL_ADDRESS, INTERNAL_B_ADDRESS, VLAN_ADDRESS, EXTERNAL_ADDRESS, Ipv4Addr::new(172, 31, 0, 1)];
    let is_own = |address: Ipv4Addr| {
        own.contains(&address)
            || address.is_multicast()
            || address.is_broadcast()
            || (address.octets()[3] == 255
                && own.iter().any(|own| own.octets()[..3] == address.octets()[..3]))
    };
    let mut handed = 0;
    each_frame(2, |_, _, sent, outcome| {
        if outcome.verdict == Verdict::Pass {
            handed += 1;
            assert_eq!(outcome.frame, sent);
            if let Some(offset) = ipv4_offset(sent) {
                let [_, destination] = addresses(sent, offset).expect("the header was read");
                assert!(is_own(destination), "{destination}: {sent:02x?}");
            }
        }
    });
    assert!(handed > 100, "only {handed} frames were for the host");
}

fn invariant_1_without_a_configuration_nothing_is_forwarded_or_handed_on() {
    let mut rig = Rig::unconfigured();
    let mut traffic = Traffic::new(3);
    for _ in 0..FRAMES / 4 {
        let (side, frame) = traffic.next();
        let Outcome { verdict, frame: left } = rig.send(side, &frame[..]);
        assert!(matches!(verdict, Verdict::Drop | Verdict::Pass), "{verdict:?}: {frame:02x?}");
        assert_eq!(left, frame);
    }
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::NotConfigured));
    rig.expect(External, &udp(REMOTE, 53, HOST, 5000), dropped(Reason::NotConfigured));
    rig.expect(Internal, &udp(HOST, 5000, INTERNAL_ADDRESS, 53), stack());
}

fn invariant_2_an_outside_packet_never_creates_state() {
    let mut before = 0;
    let rig = each_frame(4, |rig, side, sent, _| {
        let opened = rig.maps().counters().expect("COUNTERS can be read").sessions_opened;
        assert!(side != External || opened == before, "an outside frame opened a session: {sent:02x?}");
        before = opened;
    });
    let state = rig.state();
    assert!(state.counter("sessions_opened") > 100);
    assert!(rig.sessions().iter().all(|session| is_internal(*session.internal.ip()) && session.zone == 1));
}

fn invariant_3_no_two_sessions_share_an_external_endpoint_toward_one_remote() {
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("40000-40015"));
    let mut random = Random::new(5);
    for _ in 0..FRAMES / 2 {
        let host = Ipv4Addr::new(10, 0, 1, 2 + random.below(40) as u8);
        let (port, remote_port) = (random.below(8) as u16, random.below(3) as u16);
        let remote = if random.below(2) == 0 { REMOTE } else { REMOTE_2 };
        let packet = match random.below(3) {
            0 => udp(host, port, remote, remote_port),
            1 => tcp(host, port, remote, remote_port, SYN),
            _ => echo_request(host, port, remote),
        };
        rig.send(Internal, &packet);
    }
    let sessions = rig.sessions();
    let ends: BTreeSet<_> =
        sessions.iter().map(|session| (session.protocol, session.external, session.remote)).collect();
    assert_eq!(ends.len(), sessions.len());
    assert_eq!(rig.state().half_open(), []);
    let mut full = BTreeMap::new();
    sessions.iter().for_each(|session| *full.entry((session.protocol, session.remote)).or_insert(0) += 1);
    // 2 Elastic IPs with 16 ports each, toward 6 remotes over UDP, 6 over TCP and 2 over ICMP.
    assert_eq!(full.values().copied().collect::<Vec<_>>(), [32; 14]);
}

fn invariant_6_both_flows_of_a_session_end_together() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40063"));
    let mut random = Random::new(6);
    for _ in 0..60 {
        for _ in 0..100 {
            let (port, remote_port) = (random.below(50) as u16, random.below(3) as u16);
            match random.below(3) {
                0 => rig.send(Internal, &udp(HOST, port, REMOTE, remote_port)),
                1 => rig.send(Internal, &tcp(HOST, port, REMOTE, remote_port, SYN)),
                _ => rig.send(External, &udp(REMOTE, remote_port, ELASTIC_IP, PORT + port)),
            };
        }
        // Each pass compares the whole table before and after.
        rig.age(random.below(500) as u64);
    }
    let state = rig.state();
    let (opened, released) = (state.counter("sessions_opened"), state.counter("sessions_released"));
    assert!(released > 100, "{released} sessions ended");
    assert_eq!(state.flows.len() as u64, 2 * (opened - released));
}

fn invariant_7_a_recycled_entry_serves_nobody_but_its_own_flow() {
    let limits = "[gateway]\nmax_sessions = 1024\n".to_owned();
    let mut rig = Rig::with(&Layout { limits, ..Layout::default() });
    // A full table, so that every new session is given the place of an old one.
    for round in 0..4 {
        let port_of = |number: u16| 1 + round * 1_024 + number;
        for number in 0..1_024 {
            assert_eq!(
                rig.send(Internal, &udp(HOST, 5000, REMOTE, port_of(number))).verdict,
                Verdict::Redirect
            );
        }
        for number in [0, 1, 511, 1_023] {
            let leaving = udp(HOST, 5000, REMOTE, port_of(number)).translated(ELASTIC_IP, PORT);
            let answer = leaving.answer();
            rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
            if round > 0 {
                let old = udp(REMOTE, port_of(number) - 1_024, ELASTIC_IP, PORT);
                rig.expect(External, &old, dropped(Reason::NoSession));
            }
        }
        assert!(rig.state().flows.iter().all(|(key, entry)| entry.key() == *key));
        assert_eq!(rig.age(400), (1_024, 0));
    }
}

fn invariant_8_every_packet_is_counted_exactly_once() {
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut reverse = 0;
    let rig = each_frame(8, |_, side, _, outcome| {
        let name = match outcome.verdict {
            Verdict::Aborted => "aborted",
            Verdict::Drop => "dropped",
            Verdict::Pass => "stack",
            Verdict::Tx | Verdict::Redirect => "left",
        };
        *verdicts.entry(name).or_insert(0) += 1;
        reverse += u64::from(side == External && outcome.verdict == Verdict::Redirect);
    });
    let state = rig.state();
    assert_eq!(state.packets(), FRAMES as u64);
    // Who finds no port or no way is refused, and told so.
    let drops = state.drops();
    let told = drops.values().sum::<u64>() + state.counter("held_packets") - verdicts["dropped"];
    let tellable = ["error_port_allocation", "no_route", "unreachable", "protocol"];
    let tellable: u64 = tellable.iter().filter_map(|reason| drops.get(reason)).sum();
    assert!(told > 0 && told <= tellable, "{told} of {:?}", state.drops());
    assert_eq!(state.counter("stack_packets"), verdicts["stack"]);
    let left = ["outbound_packets", "inbound_packets", "local_packets", "hairpin_packets", "replied_packets"];
    assert_eq!(left.iter().map(|name| state.counter(name)).sum::<u64>() + told, verdicts["left"]);
    assert_eq!(state.counter("inbound_packets"), reverse);
    assert!(state.drops().len() > 20, "{:?}", state.drops());
    for reason in DropReason::ALL.iter().filter(|reason| state.drops().contains_key(reason.name())) {
        assert!(rig.maps().drop_sample(*reason).expect("SAMPLES can be read").is_some(), "{reason:?}");
    }
}

fn invariant_9_no_frame_makes_the_program_fail_or_a_refused_frame_change() {
    let rig = each_frame(9, |_, _, sent, outcome| {
        assert_ne!(outcome.verdict, Verdict::Aborted, "{sent:02x?}");
        if matches!(outcome.verdict, Verdict::Drop | Verdict::Pass) {
            assert_eq!(outcome.frame, sent);
        }
    });
    assert_eq!(rig.state().half_open(), []);
}
