//! Protocols other than TCP, UDP and ICMP: refused, or translated by their addresses alone.

use DropReason as Reason;
use std::net::Ipv4Addr;

use natgw_tests::datapath::{
    Side::{External, Internal},
    *,
};

super::tests![
    other_protocols_are_refused_and_told_inside_and_silent_outside,
    other_protocols_are_for_the_host_if_they_are_addressed_to_it,
    other_protocols_are_not_told_about_odd_sources_or_broadcasts,
    gre_and_esp_are_refused_like_others_unless_a_nat_gateway_translates_them,
    gre_and_esp_leave_with_the_elastic_ip_and_come_back,
    the_payload_and_what_looks_like_ports_is_left_alone,
    one_host_has_a_remote_on_an_elastic_ip_and_others_are_refused,
    a_second_elastic_ip_serves_a_second_host,
    a_released_session_makes_room_for_another_host,
    protocols_without_ports_live_as_long_as_udp,
    nothing_from_outside_opens_a_session_without_ports,
    a_nacl_speaks_of_a_protocol_by_its_number,
    errors_about_protocols_without_ports_are_translated,
    a_withdrawn_protocol_cuts_its_sessions_in_both_directions,
    a_cut_header_without_ports_is_refused,
    a_datagram_without_ports_that_may_be_fragmented_is_numbered,
];

const GRE: u8 = 47;
const ESP: u8 = 50;

/// ICMP's relatives, tunnels, routing, SCTP, DCCP, UDP-Lite, AH, and what is reserved; those above 127 too.
const OTHERS: [u8; 19] = [0, 2, 3, 4, 33, 41, 51, 89, 103, 112, 129, 132, 134, 136, 145, 175, 178, 253, 255];

fn of(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    Packet::arriving(source, destination, Body::Raw(protocol, (0..40).map(|byte| byte * 3).collect()))
}

fn rig() -> Rig {
    Rig::with(&layout())
}

fn layout() -> Layout {
    Layout::default().gateway_option("port_less = [\"gre\", \"esp\"]")
}

fn told(packet: &Packet, reason: Reason) -> Expected {
    refused(reason, &packet.answered(INTERNAL_ADDRESS, 3, 2, 0))
}

fn other_protocols_are_refused_and_told_inside_and_silent_outside() {
    let mut rig = rig();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for protocol in OTHERS {
        rig.case(format!("protocol {protocol}"));
        for destination in [REMOTE, ELASTIC_IP, HOST_B] {
            let packet = of(protocol, HOST, destination);
            rig.expect(Internal, &packet, told(&packet, Reason::Protocol));
        }
        for destination in [ELASTIC_IP, HOST, STRANGER] {
            rig.expect(External, &of(protocol, REMOTE, destination), dropped(Reason::Protocol));
        }
    }
    assert_eq!(rig.state().flows.len(), 2);
}

fn other_protocols_are_for_the_host_if_they_are_addressed_to_it() {
    let mut rig = rig();
    for protocol in [2, 89, 103, 112, 132, GRE, ESP] {
        rig.case(format!("protocol {protocol}"));
        rig.expect(Internal, &of(protocol, HOST, INTERNAL_ADDRESS), stack());
        rig.expect(External, &of(protocol, REMOTE, EXTERNAL_ADDRESS), stack());
        rig.expect(Internal, &of(protocol, HOST, [224, 0, 0, 22].into()), stack());
    }
}

fn other_protocols_are_not_told_about_odd_sources_or_broadcasts() {
    let mut rig = rig();
    let strange = of(132, HOST, REMOTE);
    for source in [HOST_B, STRANGER, [127, 0, 0, 1].into(), [0, 0, 0, 0].into()] {
        rig.case(format!("from {source}"));
        rig.expect(Internal, &strange.clone().source(source, 0), dropped(Reason::SourceNotInSubnet));
    }
    rig.case("a broadcast");
    let to_all = strange.with(|packet| packet.macs[0] = [0xff; 6]);
    rig.expect(Internal, &to_all, dropped(Reason::LinkBroadcast));
}

fn gre_and_esp_are_refused_like_others_unless_a_nat_gateway_translates_them() {
    for (fields, refused) in
        [("", &[GRE, ESP][..]), ("port_less = [\"gre\"]", &[ESP]), ("port_less = [\"esp\"]", &[GRE])]
    {
        let mut rig = Rig::with(&Layout::default().gateway_option(fields));
        for protocol in [GRE, ESP] {
            rig.case(format!("protocol {protocol} with {fields}"));
            let packet = of(protocol, HOST, REMOTE);
            if refused.contains(&protocol) {
                rig.expect(Internal, &packet, told(&packet, Reason::Protocol));
            } else {
                rig.expect(Internal, &packet, outbound(&packet.translated(ELASTIC_IP, 0)).opening());
            }
            rig.expect(External, &of(protocol, STRANGER, ELASTIC_IP), dropped(Reason::NoSession));
        }
    }
}

/// Opens a session without ports; what left, and the answer.
fn establish(rig: &mut Rig, packet: &Packet) -> (Packet, Packet) {
    let leaving = packet.translated(ELASTIC_IP, 0);
    rig.expect(Internal, packet, outbound(&leaving).opening());
    let answer = leaving.answer();
    let host = Ipv4Addr::from(packet.ip.source);
    rig.expect(External, &answer, inbound(&answer.delivered(host, 0)).judged());
    (leaving, answer)
}

fn gre_and_esp_leave_with_the_elastic_ip_and_come_back() {
    let mut rig = rig();
    for protocol in [GRE, ESP] {
        rig.case(format!("protocol {protocol}"));
        let packet = of(protocol, HOST, REMOTE);
        let (leaving, answer) = establish(&mut rig, &packet);
        rig.expect(Internal, &packet, outbound(&leaving));
        rig.expect(External, &answer, inbound(&answer.delivered(HOST, 0)));
        rig.expect(
            Internal,
            &packet.clone().ttl(1),
            replied(&packet.ttl(1).answered(INTERNAL_ADDRESS, 11, 0, 0)),
        );
        let session = rig.sessions().into_iter().find(|session| session.protocol == protocol);
        let session = session.expect("there is a session");
        assert_eq!(*session.internal.ip(), HOST);
        assert_eq!(session.internal.port() | session.external.port() | session.remote.port(), 0);
    }
}

fn the_payload_and_what_looks_like_ports_is_left_alone() {
    let mut rig = rig();
    for (protocol, least) in [(GRE, 4), (ESP, 8)] {
        for length in [least, least + 1, 17, 64, 1_400] {
            rig.case(format!("{length} bytes of protocol {protocol}"));
            let content: Vec<u8> = (0..length).map(|place| (place * 37 + 5) as u8).collect();
            let packet = of(protocol, HOST, REMOTE).payload(&content);
            establish(&mut rig, &packet);
            assert_eq!(rig.age(400), (1, 0));
        }
    }
}

fn one_host_has_a_remote_on_an_elastic_ip_and_others_are_refused() {
    let mut rig = rig();
    establish(&mut rig, &of(GRE, HOST, REMOTE));
    let second = of(GRE, SECOND_HOST, REMOTE);
    let answer = second.answered(INTERNAL_ADDRESS, 3, 13, 0);
    let none = refused(Reason::ErrorPortAllocation, &answer).moves("port_tries", 1).moves("hop_lookups", 1);
    rig.expect(Internal, &second, none);
    // Another remote, or another protocol, is another matter.
    establish(&mut rig, &of(GRE, SECOND_HOST, REMOTE_2));
    establish(&mut rig, &of(ESP, SECOND_HOST, REMOTE));
}

fn a_second_elastic_ip_serves_a_second_host() {
    let layout = Layout::with_two_elastic_ips("40000").gateway_option("port_less = [\"gre\"]");
    let mut rig = Rig::with(&layout);
    let external = |rig: &mut Rig, host: Ipv4Addr| {
        let outcome = rig.send(Internal, &of(GRE, host, REMOTE));
        (outcome.verdict == Verdict::Redirect).then(|| Ipv4Addr::new(203, 0, 113, outcome.frame[29]))
    };
    let (first, second) = (external(&mut rig, HOST), external(&mut rig, SECOND_HOST));
    assert!(first.is_some() && second.is_some() && first != second, "{first:?} and {second:?}");
    let third = rig.send(Internal, &of(GRE, [10, 0, 1, 12].into(), REMOTE));
    assert_eq!((third.verdict, third.frame[34]), (Verdict::Tx.at_this_hook(), 3), "it is told");
    assert_eq!(rig.sessions().len(), 2);
}

fn a_released_session_makes_room_for_another_host() {
    let mut rig = rig();
    establish(&mut rig, &of(ESP, HOST, REMOTE));
    assert_eq!(rig.age(400), (1, 0));
    establish(&mut rig, &of(ESP, SECOND_HOST, REMOTE));
}

fn protocols_without_ports_live_as_long_as_udp() {
    let mut rig = Rig::with(&Layout { limits: "[timeouts]\nudp = 100\nicmp = 10\n".into(), ..layout() });
    establish(&mut rig, &of(GRE, HOST, REMOTE));
    establish(&mut rig, &of(ESP, HOST, REMOTE));
    assert_eq!(rig.age(99), (0, 0));
    assert_eq!(rig.age(100), (2, 0));
}

fn nothing_from_outside_opens_a_session_without_ports() {
    let mut rig = rig();
    establish(&mut rig, &of(GRE, HOST, REMOTE));
    for (protocol, source) in [(GRE, STRANGER), (GRE, REMOTE_2), (ESP, REMOTE)] {
        rig.expect(External, &of(protocol, source, ELASTIC_IP), dropped(Reason::NoSession));
    }
    rig.expect(External, &of(GRE, REMOTE, HOST), dropped(Reason::NotForGateway));
}

fn a_nacl_speaks_of_a_protocol_by_its_number() {
    let rules = [
        r#"{ rule = 1, action = "allow", protocol = 47, cidr = "192.0.2.10/32" }"#,
        r#"{ rule = 2, action = "allow", protocol = "icmp", cidr = "0.0.0.0/0", icmp_type = 0, icmp_code = 0 }"#,
        r#"{ rule = 3, action = "allow", protocol = "udp", cidr = "0.0.0.0/0" }"#,
    ];
    let all = r#"{ rule = 1, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;
    let layout = Layout::with_private_nacl(all, &rules.join(","));
    let mut rig = Rig::with(&layout.gateway_option("port_less = [\"gre\", \"esp\"]"));
    establish(&mut rig, &of(GRE, HOST, REMOTE));
    rig.expect(Internal, &of(GRE, HOST, REMOTE_2), dropped(Reason::NaclOutbound));
    rig.expect(Internal, &of(ESP, HOST, REMOTE), dropped(Reason::NaclOutbound));
}

fn errors_about_protocols_without_ports_are_translated() {
    let mut rig = rig();
    for protocol in [GRE, ESP] {
        rig.case(format!("protocol {protocol}"));
        let packet = of(protocol, HOST, REMOTE);
        let (leaving, answer) = establish(&mut rig, &packet);
        let original = packet.clone().ttl(63);
        for length in [8, 20, 40] {
            let error = icmp_error(STRANGER, ELASTIC_IP, 3, 4, leaving.quote(length));
            let told = error.clone().payload(&original.quote(length)).delivered(HOST, 0);
            rig.expect(External, &error, inbound(&told).judged().refreshing_nothing());
            let received = answer.delivered(HOST, 0);
            let error = icmp_error(HOST, REMOTE, 3, 2, received.quote(length));
            let told = error.clone().payload(&answer.clone().ttl(63).quote(length)).translated(ELASTIC_IP, 0);
            rig.expect(Internal, &error, outbound(&told).judged().refreshing_nothing());
        }
    }
    let none = icmp_error(STRANGER, ELASTIC_IP, 3, 3, of(GRE, ELASTIC_IP, STRANGER).quote(8));
    rig.expect(External, &none, dropped(Reason::IcmpNoSession));
}

fn a_withdrawn_protocol_cuts_its_sessions_in_both_directions() {
    let mut rig = rig();
    let packet = of(GRE, HOST, REMOTE);
    let (leaving, answer) = establish(&mut rig, &packet);
    rig.apply(&Layout::default());
    rig.expect(Internal, &packet, told(&packet, Reason::Protocol));
    rig.expect(External, &answer, dropped(Reason::Protocol));
    rig.apply(&layout());
    rig.expect(Internal, &packet, outbound(&leaving).judged());
}

fn a_cut_header_without_ports_is_refused() {
    let mut rig = rig();
    for (protocol, least) in [(GRE, 4), (ESP, 8)] {
        for length in 0..least {
            rig.case(format!("{length} bytes of protocol {protocol}"));
            let packet = of(protocol, HOST, REMOTE).payload(&vec![7; length]);
            rig.expect(
                Internal,
                &packet.with(|packet| packet.padding = 30),
                dropped(Reason::TransportTruncated),
            );
        }
    }
}

fn a_datagram_without_ports_that_may_be_fragmented_is_numbered() {
    let mut rig = rig();
    let packet = of(ESP, HOST, REMOTE).with(|packet| packet.ip.dont_fragment = false);
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let frame = rig.send(Internal, &packet).frame;
        let number = u16::from_be_bytes([frame[18], frame[19]]);
        let leaving = packet.translated(ELASTIC_IP, 0).with(|packet| packet.ip.identification = number);
        assert_eq!(frame, leaving.frame());
        numbers.insert(number);
    }
    assert_eq!(numbers.len(), 20);
}
