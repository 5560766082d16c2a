//! The ICMP errors that the gateway originates (RFC 1812 §4.3).

use DropReason as Reason;
use etherparse::{IpDscp, IpEcn};
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, SYN},
    *,
};
use std::net::Ipv4Addr;

super::tests![
    a_ttl_that_runs_out_is_answered_on_either_side,
    a_ttl_that_runs_out_opens_no_session,
    time_exceeded_in_a_vlan_is_tagged,
    the_quote_is_what_was_received_up_to_576_bytes,
    the_answer_carries_the_dscp_of_the_packet_but_not_its_ecn,
    too_big_and_not_to_be_fragmented_is_answered_with_the_mtu,
    too_big_from_outside_is_answered_with_the_internal_mtu,
    too_big_between_subnets_is_answered_with_the_mtu,
    a_route_with_an_mtu_of_its_own_is_heeded,
    answers_are_limited_in_a_second,
    an_answer_limit_of_zero_means_none,
    what_may_not_pass_is_refused_and_not_answered,
];

fn time_exceeded(packet: &Packet, own: Ipv4Addr) -> Expected {
    replied(&packet.answered(own, 11, 0, 0))
}

fn too_big(packet: &Packet, own: Ipv4Addr, mtu: u16) -> Expected {
    replied(&packet.answered(own, 3, 4, mtu)).moves("hop_lookups", 1)
}

fn a_ttl_that_runs_out_is_answered_on_either_side() {
    let mut rig = Rig::standard();
    for request in
        [udp(HOST, 5000, REMOTE, 53), tcp(HOST, 5000, REMOTE, 443, SYN), echo_request(HOST, 5000, REMOTE)]
    {
        let (_, answer) = rig.establish(&request);
        for ttl in [1, 0] {
            let request = request.clone().ttl(ttl);
            rig.expect(Internal, &request, time_exceeded(&request, INTERNAL_ADDRESS));
            let answer = answer.clone().ttl(ttl);
            rig.expect(External, &answer, time_exceeded(&answer, EXTERNAL_ADDRESS));
        }
    }
    let between = udp(HOST, 5000, HOST_B, 53).ttl(1);
    rig.expect(Internal, &between, time_exceeded(&between, INTERNAL_ADDRESS));
}

fn a_ttl_that_runs_out_opens_no_session() {
    let mut rig = Rig::standard();
    let probe = udp(HOST, 5000, REMOTE, 33_434).ttl(1);
    rig.expect(Internal, &probe, time_exceeded(&probe, INTERNAL_ADDRESS));
    assert!(rig.state().flows.is_empty());
    rig.open(&probe.ttl(2));
}

fn time_exceeded_in_a_vlan_is_tagged() {
    let mut rig = Rig::standard();
    let probe = udp(HOST_VLAN, 5000, REMOTE, 33_434).ttl(1);
    rig.expect(Internal, &probe, time_exceeded(&probe, VLAN_ADDRESS));
}

fn the_quote_is_what_was_received_up_to_576_bytes() {
    let mut rig = Rig::standard();
    for length in (0..40).chain([518, 519, 520, 521, 522, 1_000, 1_472]) {
        rig.case(format!("{length} bytes of data"));
        let content: Vec<u8> = (0..length).map(|place| (place * 31 + 7) as u8).collect();
        let probe = udp(HOST, 5000, REMOTE, 33_434).ttl(1).payload(&content);
        rig.expect(Internal, &probe, time_exceeded(&probe, INTERNAL_ADDRESS));
        let options = probe.clone().with(|packet| packet.ip.options = [1; 4].into());
        if length <= 1_468 {
            rig.expect(Internal, &options, time_exceeded(&options, INTERNAL_ADDRESS));
        }
        let padded = probe.with(|packet| packet.padding = 3);
        rig.expect(Internal, &padded, time_exceeded(&padded, INTERNAL_ADDRESS));
    }
}

fn the_answer_carries_the_dscp_of_the_packet_but_not_its_ecn() {
    let mut rig = Rig::standard();
    let probe = udp(HOST, 5000, REMOTE, 33_434).ttl(1).with(|packet| {
        packet.ip.dscp = IpDscp::try_new(46).expect("six bits");
        packet.ip.ecn = IpEcn::CongestionExperienced;
    });
    let answer = probe
        .answered(INTERNAL_ADDRESS, 11, 0, 0)
        .with(|packet| packet.ip.dscp = IpDscp::try_new(46).expect("six bits"));
    rig.expect(Internal, &probe, replied(&answer));
}

fn too_big_and_not_to_be_fragmented_is_answered_with_the_mtu() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &Layout::default());
    let fits = udp(HOST, 5000, REMOTE, 53).payload(&[5; 1_272]);
    let exceeds = udp(HOST, 5000, REMOTE, 53).payload(&[5; 1_273]);
    rig.expect(Internal, &exceeds, too_big(&exceeds, INTERNAL_ADDRESS, 1_300));
    assert!(rig.state().flows.is_empty());
    let leaving = rig.open(&fits);
    rig.expect(Internal, &fits, outbound(&leaving));
    rig.expect(Internal, &exceeds, too_big(&exceeds, INTERNAL_ADDRESS, 1_300));
    rig.expect(Internal, &fits, outbound(&leaving));
}

/// A rig whose subnet behind `int1` has a smaller MTU.
fn narrow_inside() -> Rig {
    let mut rig = Rig::standard();
    rig.ip("link set int1 mtu 1200\n");
    rig.apply(&Layout::default());
    rig
}

fn too_big_from_outside_is_answered_with_the_internal_mtu() {
    let mut rig = narrow_inside();
    let (_, answer) = rig.establish(&udp(HOST_B, 5000, REMOTE, 53));
    let exceeds = answer.payload(&[5; 1_173]);
    rig.expect(External, &exceeds, too_big(&exceeds, EXTERNAL_ADDRESS, 1_200));
    let fits = exceeds.payload(&[5; 1_172]);
    rig.expect(External, &fits, inbound(&fits.delivered(HOST_B, 5000)));
    // Longer than the smallest link of all, but not than the one it leaves by.
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE_2, 53));
    let long = answer.payload(&[5; 1_400]);
    rig.expect(External, &long, inbound(&long.delivered(HOST, 5000)).judged());
}

fn too_big_between_subnets_is_answered_with_the_mtu() {
    let mut rig = narrow_inside();
    let exceeds = udp(HOST, 5000, HOST_B, 53).payload(&[5; 1_173]);
    rig.expect(Internal, &exceeds, too_big(&exceeds, INTERNAL_ADDRESS, 1_200));
}

fn a_route_with_an_mtu_of_its_own_is_heeded() {
    let mut rig = Rig::standard();
    rig.ip(&format!("route add 192.0.2.0/24 via {ROUTER} mtu lock 1200\n"));
    rig.apply(&Layout::default());
    let exceeds = udp(HOST, 5000, REMOTE, 53).payload(&[5; 1_173]);
    rig.expect(Internal, &exceeds, too_big(&exceeds, INTERNAL_ADDRESS, 1_200));
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.expect(Internal, &exceeds, too_big(&exceeds, INTERNAL_ADDRESS, 1_200));
}

fn answers_are_limited_in_a_second() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nicmp_errors_per_second = 3\n"));
    let probe = udp(HOST, 5000, REMOTE, 33_434).ttl(1).frame();
    let answered = |rig: &mut Rig| {
        (0..10).filter(|_| rig.send(Internal, &probe[..]).verdict == Verdict::Tx.at_this_hook()).count()
    };
    // A second that ends in between brings a new allowance.
    let answers: usize = (0..3).map(|_| answered(&mut rig)).sum();
    assert!((3..=6).contains(&answers), "{answers} answers");
    let state = rig.state();
    assert_eq!(state.counter("replied_packets"), answers as u64);
    assert_eq!(state.drops()["ttl_expired"], 30 - answers as u64);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert!((3..=6).contains(&answered(&mut rig)), "a new second brings a new allowance");
}

fn an_answer_limit_of_zero_means_none() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nicmp_errors_per_second = 0\n"));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53).ttl(1), dropped(Reason::TtlExpired));
}

fn what_may_not_pass_is_refused_and_not_answered() {
    let mut rig = Rig::with(&Layout::with_private_nacl("", ""));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53).ttl(1), dropped(Reason::NaclOutbound));
    rig.expect(Internal, &udp(HOST_B, 5000, REMOTE, 53).ttl(1), dropped(Reason::SourceNotInSubnet));
    rig.expect(External, &udp(REMOTE, 53, ELASTIC_IP, PORT).ttl(1), dropped(Reason::NoSession));
    rig.expect(External, &tcp(REMOTE, 53, HOST, PORT, ACK).ttl(1), dropped(Reason::NotForGateway));
    let group = udp(HOST, 5000, REMOTE, 53).ttl(1).with(|packet| packet.macs[0] = [0xff; 6]);
    rig.expect(Internal, &group, dropped(Reason::LinkBroadcast));
}
