//! From one internal host to another by an Elastic IP (RFC 4787 REQ-9, RFC 5382 REQ-8).

use std::net::Ipv4Addr;

use natgw_tests::datapath::{
    Side::{External, Internal, InternalB},
    flags::{ACK, SYN},
    *,
};

super::tests![
    a_host_reaches_another_by_its_external_endpoint_and_is_seen_by_its_own,
    the_answer_comes_back_the_same_way,
    hosts_of_two_subnets_reach_each_other,
    a_connection_to_an_external_endpoint_is_made_and_carries_data,
    without_a_mapping_only_endpoints_that_talk_to_each_other_do,
    an_elastic_ip_where_nobody_is_refuses,
    a_host_reaches_itself,
    an_error_about_a_packet_that_was_turned_round_is_turned_round_too,
    an_error_to_an_elastic_ip_about_nothing_that_was_sent_is_refused,
    a_packet_that_is_turned_round_passes_the_nacls_of_both_sides,
    a_packet_that_is_turned_round_has_a_ttl_and_a_size,
    on_a_shared_address_the_host_is_reached_but_for_ports_of_mappings,
    with_one_arm_a_host_reaches_another_by_its_external_endpoint,
    an_elastic_ip_that_is_withdrawn_is_a_remote_like_others,
    fragments_from_inside_to_an_elastic_ip_are_refused,
    what_is_turned_round_keeps_its_identification_and_its_mss,
];

const INDEPENDENT: &str = "mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"";

/// A gateway with two ports, and the external endpoints of [`HOST`]:5000 and of `host`:6000.
fn rig(host: Ipv4Addr) -> (Rig, Endpoint, Endpoint) {
    let mut rig = Rig::with(&Layout::with_ports("40000-40001").gateway_option(INDEPENDENT));
    let first = open(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let second = open(&mut rig, &udp(host, 6000, REMOTE, 53));
    (rig, first, second)
}

type Endpoint = (Ipv4Addr, u16);

/// Sends a packet that must leave; the endpoint it leaves from.
#[track_caller]
fn open(rig: &mut Rig, packet: &Packet) -> Endpoint {
    open_on(rig, Side::of(packet.ip.source.into()).0, packet)
}

#[track_caller]
fn open_on(rig: &mut Rig, side: Side, packet: &Packet) -> Endpoint {
    let outcome = rig.send(side, packet);
    assert!(matches!(outcome.verdict, Verdict::Redirect | Verdict::Tx), "{:?}", rig.state().drops());
    let address: [u8; 4] = outcome.frame[26..30].try_into().unwrap();
    (address.into(), u16::from_be_bytes([outcome.frame[34], outcome.frame[35]]))
}

/// The other of the two ports.
fn other(endpoint: Endpoint) -> Endpoint {
    (endpoint.0, if endpoint.1 == 40_000 { 40_001 } else { 40_000 })
}

fn a_host_reaches_another_by_its_external_endpoint_and_is_seen_by_its_own() {
    let (mut rig, first, second) = rig(SECOND_HOST);
    let packet = udp(HOST, 5000, second.0, second.1).payload(b"hello");
    let seen = packet.turned_round(first, (SECOND_HOST, 6000));
    let expected = hairpin(&seen).turned_round().opening_after(0);
    // Both the sender's session and the way to the other host are looked for.
    rig.expect(Internal, &packet, expected);
    rig.expect(Internal, &packet, hairpin(&seen).turned_round().judged());
}

fn the_answer_comes_back_the_same_way() {
    let (mut rig, first, second) = rig(SECOND_HOST);
    let packet = udp(HOST, 5000, second.0, second.1);
    rig.send(Internal, &packet);
    let answer = udp(SECOND_HOST, 6000, first.0, first.1).payload(b"answer");
    let seen = answer.turned_round(second, (HOST, 5000));
    let opening = hairpin(&seen).turned_round().opening_after(0).refreshing_the_other();
    rig.expect(Internal, &answer, opening);
    // From now on both have a session.
    let expected = hairpin(&packet.turned_round(first, (SECOND_HOST, 6000))).turned_round();
    rig.expect(Internal, &packet, expected.refreshing_the_other().judged());
    rig.expect(Internal, &answer, hairpin(&seen).turned_round().refreshing_the_other());
}

fn hosts_of_two_subnets_reach_each_other() {
    let (mut rig, first, second) = rig(HOST_B);
    let packet = udp(HOST, 5000, second.0, second.1);
    rig.expect(Internal, &packet, hairpin(&packet.turned_round(first, (HOST_B, 6000))).opening_after(0));
    let answer = udp(HOST_B, 6000, first.0, first.1);
    let seen = answer.turned_round(second, (HOST, 5000));
    rig.expect(InternalB, &answer, hairpin(&seen).opening_after(0).refreshing_the_other());
}

fn a_connection_to_an_external_endpoint_is_made_and_carries_data() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40001").gateway_option(INDEPENDENT));
    let second = open(&mut rig, &tcp(SECOND_HOST, 80, REMOTE, 9, SYN));
    let first = other(second);
    let to_second = |flags| tcp(HOST, 5000, second.0, second.1, flags);
    let to_first = |flags| tcp(SECOND_HOST, 80, first.0, first.1, flags);
    let seen_by_second = |packet: &Packet| packet.turned_round(first, (SECOND_HOST, 80));
    let seen_by_first = |packet: &Packet| packet.turned_round(second, (HOST, 5000));
    let steps = [
        (to_second(SYN), seen_by_second(&to_second(SYN))),
        (to_first(SYN | ACK), seen_by_first(&to_first(SYN | ACK))),
        (to_second(ACK), seen_by_second(&to_second(ACK))),
        (to_second(ACK).payload(b"GET"), seen_by_second(&to_second(ACK).payload(b"GET"))),
        (to_first(ACK).payload(b"200"), seen_by_first(&to_first(ACK).payload(b"200"))),
    ];
    for (packet, seen) in steps {
        let outcome = rig.send(Internal, &packet);
        assert_eq!(outcome.verdict, Verdict::Tx.at_this_hook(), "{:?}", rig.state().drops());
        assert_eq!(outcome.frame, seen.frame());
    }
    assert_eq!(rig.state().counter("hairpin_packets"), 5);
    assert_eq!(rig.sessions().len(), 3);
}

fn without_a_mapping_only_endpoints_that_talk_to_each_other_do() {
    // One port each: both hosts know under which endpoint the other will be seen.
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("40000"));
    let hosts = [(HOST, 5000), (SECOND_HOST, 6000), (HOST_B, 7000)];
    let seen: Vec<_> =
        hosts.iter().map(|(host, port)| open(&mut rig, &udp(*host, *port, REMOTE, *port))).collect();
    let place =
        seen.iter().position(|endpoint| *endpoint != seen[0]).expect("hosts differ in their Elastic IP");
    let (one, two) = (hosts[0], hosts[place]);
    let (one_seen, two_seen) = (seen[0], seen[place]);
    let packet = udp(one.0, one.1, two_seen.0, two_seen.1);
    // The other has not talked to this endpoint: the session is opened, and its packet refused.
    rig.send(Side::of(one.0).0, &packet);
    assert_eq!(rig.state().drops(), [("no_session", 1)].into());
    let answer = udp(two.0, two.1, one_seen.0, one_seen.1);
    let outcome = rig.send(Side::of(two.0).0, &answer);
    assert_eq!(outcome.frame, answer.turned_round(two_seen, one).frame());
    let outcome = rig.send(Side::of(one.0).0, &packet);
    assert_eq!(outcome.frame, packet.turned_round(one_seen, two).frame());
}

fn an_elastic_ip_where_nobody_is_refuses() {
    let (mut rig, _, second) = rig(SECOND_HOST);
    rig.send(Internal, &udp(HOST, 5000, second.0, 9));
    rig.send(Internal, &tcp(HOST, 5000, second.0, 9, SYN));
    rig.send(Internal, &echo_request(HOST, 5000, second.0));
    assert_eq!(rig.state().drops(), [("no_session", 3)].into());
}

fn a_host_reaches_itself() {
    let (mut rig, _, second) = rig(SECOND_HOST);
    let packet = udp(SECOND_HOST, 6000, second.0, second.1);
    let outcome = rig.send(Internal, &packet);
    assert_eq!(outcome.frame, packet.turned_round(second, (SECOND_HOST, 6000)).frame());
}

fn a_packet_that_is_turned_round_passes_the_nacls_of_both_sides() {
    let allow = r#"{ rule = 9, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;
    let deny = |cidr: &str| {
        format!(r#"{{ rule = 1, action = "deny", protocol = "udp", cidr = "{cidr}" }}, {allow}"#)
    };
    // What the sender sends to is the Elastic IP, and so is what the receiver gets it from.
    let cases = [
        (Layout::with_private_nacl(allow, &deny("203.0.113.10/32")), "nacl_outbound"),
        (Layout::with_private_nacl(&deny("203.0.113.10/32"), allow), "nacl_inbound"),
        (Layout::with_public_nacl(&deny("203.0.113.10/32"), allow), "nacl_inbound"),
        (Layout::with_public_nacl(allow, &deny("203.0.113.10/32")), "nacl_outbound"),
    ];
    for (layout, reason) in cases {
        let layout = Layout { elastic_ips: Layout::with_ports("40000-40001").elastic_ips, ..layout };
        let mut rig = Rig::with(&layout.gateway_option(INDEPENDENT));
        rig.case(reason);
        let second = open(&mut rig, &udp(SECOND_HOST, 6000, REMOTE, 53));
        rig.send(Internal, &udp(HOST, 5000, second.0, second.1));
        assert_eq!(rig.state().drops(), [(reason, 1)].into());
    }
}

fn a_packet_that_is_turned_round_has_a_ttl_and_a_size() {
    let (mut rig, _, second) = rig(HOST_B);
    let packet = udp(HOST, 5000, second.0, second.1);
    let short = packet.clone().ttl(1);
    rig.expect(Internal, &short, replied(&short.answered(INTERNAL_ADDRESS, 11, 0, 0)));
    rig.send(Internal, &packet);
    rig.expect(Internal, &short, replied(&short.answered(INTERNAL_ADDRESS, 11, 0, 0)));
}

fn on_a_shared_address_the_host_is_reached_but_for_ports_of_mappings() {
    let mut rig = Rig::with(&Layout::with_shared_address().gateway_option(INDEPENDENT));
    rig.expect(Internal, &udp(HOST, 5000, EXTERNAL_ADDRESS, PORT), stack());
    let second = open(&mut rig, &udp(SECOND_HOST, 6000, REMOTE, 53));
    assert_eq!(second, (EXTERNAL_ADDRESS, PORT));
    rig.expect(Internal, &udp(HOST, 5000, EXTERNAL_ADDRESS, 53), stack());
    let packet = udp(SECOND_HOST, 6000, EXTERNAL_ADDRESS, PORT);
    let outcome = rig.send(Internal, &packet);
    assert_eq!(outcome.frame, packet.turned_round(second, (SECOND_HOST, 6000)).frame());
}

fn with_one_arm_a_host_reaches_another_by_its_external_endpoint() {
    let layout = Layout { elastic_ips: Layout::with_ports("40000-40001").elastic_ips, ..Layout::one_armed() };
    let mut rig = Rig::on(Network::OneArmed, &layout.gateway_option(INDEPENDENT));
    let second = open_on(&mut rig, Side::Nic, &udp(SECOND_HOST, 6000, REMOTE, 53));
    let packet = udp(HOST, 5000, second.0, second.1);
    let outcome = rig.send(Side::Nic, &packet);
    let mut seen = packet.turned_round(other(second), (SECOND_HOST, 6000));
    seen.macs[1] = NIC_MAC;
    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Tx.at_this_hook(), seen.frame()));
}

fn an_elastic_ip_that_is_withdrawn_is_a_remote_like_others() {
    let addresses = ["203.0.113.10", "203.0.113.11"];
    let both = Layout::with_elastic_ips(&addresses, "40000-40001").gateway_option(INDEPENDENT);
    let mut rig = Rig::with(&both);
    let (address, port) = open(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let gone = if address == ELASTIC_IP { SECOND_ELASTIC_IP } else { ELASTIC_IP };
    let packet = udp(HOST, 5000, gone, 9);
    rig.send(Internal, &packet);
    assert_eq!(rig.state().drops(), [("no_session", 1)].into());
    rig.apply(&Layout::with_elastic_ips(&[&address.to_string()], "40000-40001").gateway_option(INDEPENDENT));
    rig.expect(Internal, &packet, outbound(&packet.translated(address, port)).judged());
    rig.apply(&both);
    rig.send(Internal, &packet);
    assert_eq!(rig.state().drops(), [("no_session", 2)].into());
    let answer = udp(REMOTE, 53, address, port);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
}

fn an_error_about_a_packet_that_was_turned_round_is_turned_round_too() {
    for packet in
        [udp as fn(_, _, _, _) -> _, |host, port, remote, other| tcp(host, port, remote, other, SYN)]
    {
        let mut rig = Rig::with(&Layout::with_ports("40000-40001").gateway_option(INDEPENDENT));
        let first = open(&mut rig, &packet(HOST, 5000, REMOTE, 53));
        let second = open(&mut rig, &packet(SECOND_HOST, 6000, REMOTE, 53));
        let sent = packet(HOST, 5000, second.0, second.1);
        let seen = sent.turned_round(first, (SECOND_HOST, 6000));
        rig.send(Internal, &sent);
        // The second host has no session with the first: it complains about what came in by its mapping.
        let error = icmp_error(SECOND_HOST, first.0, 3, 3, seen.bytes());
        let told = error.clone().payload(&sent.clone().ttl(63).bytes());
        let told = told.turned_round((second.0, 0), (HOST, 0));
        rig.expect(Internal, &error, hairpin(&told).turned_round().refreshing_nothing().judged());
        // And with a session of its own.
        rig.send(Internal, &packet(SECOND_HOST, 6000, first.0, first.1));
        rig.expect(Internal, &error, hairpin(&told).turned_round().refreshing_nothing().judged());
    }
}

fn an_error_to_an_elastic_ip_about_nothing_that_was_sent_is_refused() {
    let (mut rig, first, second) = rig(SECOND_HOST);
    let never_sent = udp(HOST, 5000, second.0, second.1).turned_round(first, (SECOND_HOST, 6000));
    let error = icmp_error(SECOND_HOST, first.0, 3, 3, never_sent.bytes());
    rig.expect(Internal, &error, dropped(DropReason::IcmpNoSession));
}

fn fragments_from_inside_to_an_elastic_ip_are_refused() {
    let (mut rig, _, second) = rig(SECOND_HOST);
    let packet = udp(HOST, 5000, second.0, second.1).payload(&[7; 100]);
    assert_eq!(rig.send(Internal, &packet).verdict, Verdict::Tx.at_this_hook(), "whole, it passes");
    for piece in fragments(&packet, &[4]) {
        rig.expect(Internal, &piece, dropped(DropReason::FragmentHairpin));
    }
}

fn what_is_turned_round_keeps_its_identification_and_its_mss() {
    let layout = Layout::with_ports("40000-40001").gateway_option(INDEPENDENT);
    let mut rig = Rig::with(&layout.gateway_option("mss_clamp = 1260"));
    let second = open(&mut rig, &tcp(SECOND_HOST, 80, REMOTE, 9, SYN));
    let syn = tcp(HOST, 5000, second.0, second.1, SYN).with(|packet| {
        (packet.ip.dont_fragment, packet.ip.identification) = (false, 777);
        if let Body::Tcp(header, _) = &mut packet.body {
            header.set_options_raw(&[2, 4, 0x05, 0xb4]).expect("one option");
        }
    });
    let seen = syn.turned_round(other(second), (SECOND_HOST, 80));
    let outcome = rig.send(Internal, &syn);
    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Tx.at_this_hook(), seen.frame()));
}
