//! Resets at expiry: what the controller is told of TCP sessions that end for being idle.

use nat_common::{
    event::{Event, Expired},
    flow::{FlowKey4, Hop, raw},
};
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    an_established_session_that_ends_for_being_idle_is_told_with_what_both_ends_expect,
    a_half_closed_session_is_told_too,
    the_latest_acknowledgement_counts_and_not_an_older_one_that_comes_late,
    what_was_closed_or_never_accepted_or_is_not_tcp_is_not_told,
    a_session_whose_elastic_ip_is_withdrawn_is_not_told,
    a_session_begun_anew_on_the_same_tuple_forgets_what_the_old_one_acknowledged,
    a_place_used_again_does_not_tell_of_the_session_before,
    without_at_expiry_nothing_is_told,
    a_host_that_sends_after_the_expiry_gets_its_reset_all_the_same,
];

const AT_EXPIRY: &str = "[gateway]\nidle_reset = \"at-expiry\"\nmax_sessions = 1024\n\
    [timeouts]\ntcp_established = 1000\ntcp_transitory = 200\ntcp_closing = 100\n";

fn rig() -> Rig {
    Rig::with(&Layout::with_limits(AT_EXPIRY))
}

/// Sends a segment of the connection from 5000 to port 443 that acknowledges so much.
#[track_caller]
fn send(rig: &mut Rig, side: Side, bits: u8, acknowledged: u32) {
    let packet = if side == Internal {
        tcp(HOST, 5000, REMOTE, 443, bits)
    } else {
        tcp(REMOTE, 443, ELASTIC_IP, PORT, bits)
    };
    let packet = packet.with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            header.acknowledgment_number = acknowledged;
        }
    });
    assert_eq!(rig.send(side, &packet).verdict, Verdict::Redirect);
}

fn connect(rig: &mut Rig) {
    rig.open(&tcp(HOST, 5000, REMOTE, 443, SYN));
    send(rig, External, SYN | ACK, 1_001);
    send(rig, Internal, ACK, 5_001);
}

/// What is told of that connection, of which remote and host expect these sequence numbers.
fn told(rig: &Rig, sequences: [u32; 2]) -> Expired {
    Expired {
        kind: Event::EXPIRED,
        address: raw(ELASTIC_IP),
        port: PORT.to_be(),
        spare: [0; 3],
        key: FlowKey4 {
            source: raw(HOST),
            destination: raw(REMOTE),
            source_port: 5000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: 6,
            zone: 1,
            spare: [0; 2],
        },
        hops: [
            Hop { destination: mac_of(ROUTER), source: External.mac(), device: rig.index("ext0") },
            Hop { destination: mac_of(HOST), source: Internal.mac(), device: rig.index("int0") },
        ],
        sequences,
    }
}

#[track_caller]
fn expires(rig: &mut Rig, sequences: [u32; 2]) {
    assert_eq!(rig.age(995), (0, 0));
    assert_eq!(rig.expired(), []);
    assert_eq!(rig.age(1_000), (1, 1));
    let expected = told(rig, sequences);
    assert_eq!(rig.expired(), [expected]);
}

fn an_established_session_that_ends_for_being_idle_is_told_with_what_both_ends_expect() {
    let mut rig = rig();
    connect(&mut rig);
    expires(&mut rig, [1_001, 5_001]);
    connect(&mut rig);
    // Round the sequence space and on.
    let (mut theirs, mut ours) = (1_001_u32, 5_001_u32);
    for _ in 0..20 {
        (theirs, ours) = (theirs.wrapping_add(0x1000_0000), ours.wrapping_add(0x3000_0000));
        send(&mut rig, External, ACK, theirs);
        send(&mut rig, Internal, ACK, ours);
    }
    expires(&mut rig, [theirs, ours]);
}

fn a_half_closed_session_is_told_too() {
    let mut rig = rig();
    connect(&mut rig);
    send(&mut rig, Internal, FIN | ACK, 5_001);
    send(&mut rig, External, ACK, 1_007);
    expires(&mut rig, [1_007, 5_001]);
}

fn the_latest_acknowledgement_counts_and_not_an_older_one_that_comes_late() {
    let mut rig = rig();
    connect(&mut rig);
    send(&mut rig, External, ACK, 3_000);
    send(&mut rig, External, ACK, 2_000);
    send(&mut rig, Internal, ACK, 9_000);
    // Without the flag the field says nothing.
    send(&mut rig, Internal, 0, 99_000);
    expires(&mut rig, [3_000, 9_000]);
}

fn what_was_closed_or_never_accepted_or_is_not_tcp_is_not_told() {
    let mut rig = rig();
    connect(&mut rig);
    send(&mut rig, Internal, FIN | ACK, 5_001);
    send(&mut rig, External, FIN | ACK, 1_007);
    assert_eq!(rig.age(1_000), (1, 0));
    connect(&mut rig);
    send(&mut rig, External, RST, 0);
    assert_eq!(rig.age(1_000), (1, 0));
    rig.establish(&tcp(HOST, 5000, REMOTE, 443, SYN));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    assert_eq!(rig.age(1_000), (2, 1));
    assert_eq!(rig.expired(), []);
}

fn a_session_whose_elastic_ip_is_withdrawn_is_not_told() {
    let mut rig = rig();
    connect(&mut rig);
    let layout = Layout::with_limits(AT_EXPIRY);
    rig.apply(&Layout {
        elastic_ips: layout.elastic_ips.replace("203.0.113.10", "203.0.113.11"),
        nat_gateways: layout.nat_gateways.replace("203.0.113.10", "203.0.113.11"),
        ..layout
    });
    assert_eq!(rig.age_withdrawn().0, 1);
    assert_eq!(rig.expired(), []);
}

fn a_session_begun_anew_on_the_same_tuple_forgets_what_the_old_one_acknowledged() {
    let mut rig = rig();
    connect(&mut rig);
    send(&mut rig, Internal, FIN | ACK, 0x7000_0000);
    send(&mut rig, External, FIN | ACK, 0x7000_0000);
    send(&mut rig, Internal, SYN, 0);
    send(&mut rig, External, SYN | ACK, 31);
    send(&mut rig, Internal, ACK, 32);
    expires(&mut rig, [31, 32]);
}

fn a_place_used_again_does_not_tell_of_the_session_before() {
    let mut rig = rig();
    // Many sessions one after the other, so that most places of the table have been used.
    for port in 1..=4_000 {
        let first = tcp(HOST, 5000, REMOTE, port, SYN);
        rig.send(Internal, &first);
        if port % 500 == 0 {
            rig.age(1_000);
        }
    }
    rig.age(1_000);
    assert!(rig.state().flows.is_empty());
    connect(&mut rig);
    expires(&mut rig, [1_001, 5_001]);
}

fn without_at_expiry_nothing_is_told() {
    for limits in ["", "[gateway]\nidle_reset = \"off\"\n"] {
        let mut rig = Rig::with(&Layout::with_limits(limits));
        connect(&mut rig);
        assert_eq!(rig.age(350), (1, 1));
        assert_eq!(rig.expired(), []);
    }
}

fn a_host_that_sends_after_the_expiry_gets_its_reset_all_the_same() {
    let mut rig = rig();
    connect(&mut rig);
    assert_eq!(rig.age(1_000), (1, 1));
    let verdict = rig.send(Internal, &tcp(HOST, 5000, REMOTE, 443, ACK)).verdict;
    assert_eq!(verdict, Verdict::Tx.at_this_hook());
    assert_eq!(rig.state().counter("resets_sent"), 1);
}
