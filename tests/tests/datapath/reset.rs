//! The RST that a host gets when it goes on with a TCP session that the gateway has forgotten (RFC 9293 §3.10.7.1).

use DropReason as Reason;
use etherparse::{IpDscp, IpEcn, TcpHeader};
use natgw_tests::datapath::{
    Network,
    Side::{External, Internal, Nic},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    a_segment_of_a_forgotten_session_is_answered_where_it_acknowledges,
    a_segment_that_acknowledges_nothing_is_acknowledged,
    nobody_answers_a_reset,
    a_reset_in_a_vlan_is_tagged,
    a_reset_leaves_by_the_arm_that_the_segment_came_in_on,
    ip_options_stay_and_tcp_options_go,
    a_reset_is_as_long_as_its_headers_whatever_it_answers,
    a_reset_carries_the_dscp_of_the_segment_but_not_its_ecn,
    resets_share_the_limit_of_icmp_errors,
    a_limit_of_zero_means_no_resets,
    with_idle_reset_off_what_goes_on_with_a_forgotten_session_is_dropped,
    what_may_not_pass_gets_no_reset,
    a_session_that_has_ended_for_being_idle_is_reset_on_send,
    outside_nobody_gets_a_reset,
];

/// A segment toward `REMOTE`, with these sequence and acknowledgement numbers.
fn segment(bits: u8, sequence: u32, acknowledged: u32) -> Packet {
    tcp(HOST, 5000, REMOTE, 443, bits).with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            header.sequence_number = sequence;
            header.acknowledgment_number = acknowledged;
        }
    })
}

/// The RST that answers `packet`.
fn reset(packet: &Packet, sequence: u32, acknowledged: Option<u32>) -> Packet {
    let Body::Tcp(segment, _) = &packet.body else { panic!("{packet:?} is no segment") };
    let mut header = TcpHeader::new(segment.destination_port, segment.source_port, sequence, 0);
    header.rst = true;
    if let Some(acknowledged) = acknowledged {
        header.ack = true;
        header.acknowledgment_number = acknowledged;
    }
    let body = Body::Tcp(Box::new(header), Vec::new());
    let mut answer = Packet::arriving(packet.ip.destination.into(), packet.ip.source.into(), body);
    answer.macs = [packet.macs[1], packet.macs[0]];
    answer.tag = packet.tag;
    answer.ip.identification = 0;
    answer
}

fn answered(answer: &Packet) -> Expected {
    replied(answer).moves("resets_sent", 1)
}

fn a_segment_of_a_forgotten_session_is_answered_where_it_acknowledges() {
    let mut rig = Rig::standard();
    for bits in [ACK, FIN | ACK, SYN | ACK, SYN | FIN | ACK] {
        for acknowledged in [0, 1, 0x8765_4321, u32::MAX] {
            rig.case(format!("TCP flags {bits:#x}, {acknowledged:#x}"));
            let segment = segment(bits, 0x1234_5678, acknowledged);
            rig.expect(Internal, &segment, answered(&reset(&segment, acknowledged, None)));
        }
    }
    assert!(rig.state().flows.is_empty());
}

fn a_segment_that_acknowledges_nothing_is_acknowledged() {
    let mut rig = Rig::standard();
    for (bits, length) in [(0, 5), (FIN, 6), (SYN | FIN, 7)] {
        for sequence in [0x1234_5678, u32::MAX - 2] {
            rig.case(format!("TCP flags {bits:#x}, {sequence:#x}"));
            let segment = segment(bits, sequence, 99);
            let answer = reset(&segment, 0, Some(sequence.wrapping_add(length)));
            rig.expect(Internal, &segment, answered(&answer));
        }
    }
}

fn nobody_answers_a_reset() {
    let mut rig = Rig::standard();
    for bits in [RST, RST | ACK, SYN | RST, FIN | RST] {
        rig.expect(Internal, &segment(bits, 1, 2), dropped(Reason::NotOpening));
    }
}

fn a_reset_in_a_vlan_is_tagged() {
    let mut rig = Rig::standard();
    let segment = tcp(HOST_VLAN, 5000, REMOTE, 443, ACK);
    assert!(segment.tag.is_some());
    rig.expect(Internal, &segment, answered(&reset(&segment, 0, None)));
}

fn a_reset_leaves_by_the_arm_that_the_segment_came_in_on() {
    let mut rig = Rig::on(Network::OneArmed, &Layout::one_armed());
    let segment = segment(ACK, 7, 8).with(|packet| packet.macs[0] = NIC_MAC);
    rig.expect(Nic, &segment, answered(&reset(&segment, 8, None)));
}

fn ip_options_stay_and_tcp_options_go() {
    let mut rig = Rig::standard();
    for options in [&[1, 1, 1, 0][..], &[0x94, 4, 0, 0, 1, 1, 1, 1]] {
        let segment = segment(ACK, 7, 8).with(|packet| {
            packet.ip.options = options.try_into().expect("they fit");
            if let Body::Tcp(header, _) = &mut packet.body {
                header.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).expect("they fit");
            }
        });
        let answer = reset(&segment, 8, None).with(|answer| answer.ip.options = segment.ip.options.clone());
        rig.expect(Internal, &segment, answered(&answer));
    }
    let segment = segment(FIN, 7, 8).with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            header.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).expect("they fit");
        }
    });
    rig.expect(Internal, &segment, answered(&reset(&segment, 0, Some(7 + 5 + 1))));
}

fn a_reset_is_as_long_as_its_headers_whatever_it_answers() {
    let mut rig = Rig::standard();
    for length in [0, 1, 6, 7, 500, 1_459, 1_460] {
        rig.case(format!("{length} bytes"));
        let segment = segment(ACK, 7, 8).payload(&vec![0xa5; length]);
        rig.expect(Internal, &segment, answered(&reset(&segment, 8, None)));
        let padded = segment.with(|packet| packet.padding = 6);
        rig.expect(Internal, &padded, answered(&reset(&padded, 8, None)));
    }
}

fn a_reset_carries_the_dscp_of_the_segment_but_not_its_ecn() {
    let mut rig = Rig::standard();
    let dscp = IpDscp::try_new(46).expect("six bits");
    let segment = segment(ACK, 7, 8).with(|packet| {
        packet.ip.dscp = dscp;
        packet.ip.ecn = IpEcn::Ect0;
    });
    rig.expect(Internal, &segment, answered(&reset(&segment, 8, None).with(|answer| answer.ip.dscp = dscp)));
}

fn resets_share_the_limit_of_icmp_errors() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nicmp_errors_per_second = 3\n"));
    let (segment, probe) = (segment(ACK, 7, 8).frame(), udp(HOST, 5000, REMOTE, 33_434).ttl(1).frame());
    for _ in 0..10 {
        rig.send(Internal, &segment[..]);
        rig.send(Internal, &probe[..]);
    }
    let state = rig.state();
    let answers = state.counter("replied_packets");
    // A second that ends in between brings a new allowance.
    assert!((3..=6).contains(&answers), "{answers} answers");
    assert!(state.counter("resets_sent") >= 1);
    assert_eq!(state.drops()["not_opening"] + state.drops()["ttl_expired"], 20 - answers);
}

fn a_limit_of_zero_means_no_resets() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nicmp_errors_per_second = 0\n"));
    rig.expect(Internal, &segment(ACK, 7, 8), dropped(Reason::NotOpening));
}

fn with_idle_reset_off_what_goes_on_with_a_forgotten_session_is_dropped() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nidle_reset = \"off\"\n"));
    rig.expect(Internal, &segment(ACK, 7, 8), dropped(Reason::NotOpening));
    // From the next configuration on it is otherwise.
    rig.apply(&Layout::default());
    rig.expect(Internal, &segment(ACK, 7, 8), answered(&reset(&segment(ACK, 7, 8), 8, None)));
}

fn what_may_not_pass_gets_no_reset() {
    let mut rig = Rig::with(&Layout::with_private_nacl("", ""));
    rig.expect(Internal, &segment(ACK, 7, 8), dropped(Reason::NaclOutbound));
    rig.expect(Internal, &tcp(HOST_B, 5000, REMOTE, 443, ACK), dropped(Reason::SourceNotInSubnet));
    rig.apply(&Layout::with_public_nacl("", ""));
    rig.expect(Internal, &segment(ACK, 7, 8), dropped(Reason::NaclOutbound));
    rig.apply(&Layout::with_routes(r#"{ destination = "0.0.0.0/0", target = "blackhole" }"#));
    rig.expect(Internal, &segment(ACK, 7, 8), dropped(Reason::Blackhole));
    let group = segment(ACK, 7, 8).with(|packet| packet.macs[0] = [0xff; 6]);
    rig.expect(Internal, &group, dropped(Reason::LinkBroadcast));
}

fn a_session_that_has_ended_for_being_idle_is_reset_on_send() {
    let mut rig = Rig::standard();
    rig.connect(HOST, 5000, REMOTE, 443);
    assert_eq!(rig.age(350), (1, 1));
    let segment = segment(ACK, 7, 8);
    rig.expect(Internal, &segment, answered(&reset(&segment, 8, None)));
    rig.connect(HOST, 5000, REMOTE, 443);
}

fn outside_nobody_gets_a_reset() {
    let mut rig = Rig::standard();
    for bits in [ACK, SYN, SYN | ACK, FIN | ACK] {
        rig.expect(External, &tcp(REMOTE, 443, ELASTIC_IP, PORT, bits), dropped(Reason::NoSession));
    }
}
