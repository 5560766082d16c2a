//! Where packets leave: MACs, VLAN tags, one interface for both sides, and next hops that cannot be used.

use DropReason as Reason;
use std::net::Ipv4Addr;

use natgw_tests::datapath::{
    Side::{External, Internal, InternalB, Nic},
    flags::{RST, SYN},
    *,
};

super::tests![
    the_tag_of_a_vlan_is_taken_off_outbound_and_put_back_inbound,
    the_priority_of_a_tag_changes_nothing,
    a_priority_tag_names_no_vlan_and_is_taken_off,
    one_interface_serves_both_sides,
    on_one_interface_only_sources_of_the_subnet_are_internal,
    on_one_interface_no_internal_address_answers_the_outside,
    a_next_hop_without_mac_address_is_dropped_and_asked_for,
    a_private_host_without_mac_address_is_dropped_and_asked_for,
    a_destination_that_the_host_cannot_reach_is_refused,
    an_internal_packet_leaves_on_an_external_interface_or_not_at_all,
    a_new_mac_address_of_the_next_hop_is_used_from_the_next_generation_on,
    new_sessions_use_a_new_mac_address_from_the_next_generation_on_or_within_three_seconds,
    a_hop_found_for_one_destination_is_no_hop_for_another,
    a_packet_longer_than_those_that_found_a_hop_is_measured_against_the_mtu,
];

fn the_tag_of_a_vlan_is_taken_off_outbound_and_put_back_inbound() {
    let mut rig = Rig::standard();
    for packet in [
        udp(HOST_VLAN, 5000, REMOTE, 53),
        tcp(HOST_VLAN, 5000, REMOTE, 443, SYN),
        echo_request(HOST_VLAN, 5000, REMOTE),
    ] {
        let (leaving, answer) = rig.establish(&packet);
        assert_eq!((packet.tag, leaving.tag, answer.tag), (Some(VLAN), None, None));
        assert_eq!(answer.delivered(HOST_VLAN, 5000).tag, Some(VLAN));
        rig.expect(External, &answer, inbound(&answer.delivered(HOST_VLAN, 5000)));
    }
}

fn the_priority_of_a_tag_changes_nothing() {
    let mut rig = Rig::standard();
    let request = udp(HOST_VLAN, 5000, REMOTE, 53);
    let leaving = rig.open(&request);
    for control in [0xe000, 0x1000, 0xf000] {
        let marked = request.clone().with(|packet| packet.tag = Some(control | VLAN));
        rig.expect(Internal, &marked, outbound(&leaving));
    }
}

fn a_priority_tag_names_no_vlan_and_is_taken_off() {
    let mut rig = Rig::standard();
    let tagged = |packet: Packet| packet.with(|packet| packet.tag = Some(0xa000));
    let request = udp(HOST, 5000, REMOTE, 53);
    let leaving = request.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &tagged(request), outbound(&leaving).opening());
    let answer = leaving.answer();
    rig.expect(External, &tagged(answer.clone()), inbound(&answer.delivered(HOST, 5000)).judged());
}

/// The same packet on the link of the one-armed gateway.
fn on_nic(packet: Packet) -> Packet {
    let own = [Internal.mac(), External.mac()];
    packet.with(|packet| {
        for mac in packet.macs.iter_mut().filter(|mac| own.contains(mac)) {
            *mac = NIC_MAC;
        }
    })
}

fn one_interface_serves_both_sides() {
    let mut rig = Rig::on(Network::OneArmed, &Layout::one_armed());
    let request = on_nic(udp(HOST, 5000, REMOTE, 53));
    let leaving = on_nic(request.translated(ELASTIC_IP, PORT));
    rig.expect(Nic, &request, outbound(&leaving).opening().turned_round());
    let answer = on_nic(leaving.answer());
    let delivered = on_nic(answer.delivered(HOST, 5000));
    rig.expect(Nic, &answer, inbound(&delivered).judged().turned_round());
    rig.expect(Nic, &request, outbound(&leaving).turned_round());
    let about = on_nic(icmp_error(STRANGER, ELASTIC_IP, 3, 1, leaving.quote(8)));
    let told = on_nic(about.clone().payload(&request.clone().ttl(63).quote(8)).delivered(HOST, 0));
    rig.expect(Nic, &about, inbound(&told).judged().refreshing_nothing().turned_round());
}

fn on_one_interface_only_sources_of_the_subnet_are_internal() {
    let mut rig = Rig::on(Network::OneArmed, &Layout::one_armed());
    rig.expect(Nic, &on_nic(udp(REMOTE, 53, ELASTIC_IP, PORT)), dropped(Reason::NoSession));
    rig.expect(Nic, &on_nic(udp(REMOTE, 53, REMOTE_2, 53)), dropped(Reason::NotForGateway));
    rig.expect(Nic, &on_nic(udp([10, 0, 77, 1].into(), 5000, REMOTE, 53)), dropped(Reason::NotForGateway));
    rig.expect(Nic, &on_nic(udp(REMOTE, 53, HOST, 5000)), dropped(Reason::NotForGateway));
    rig.expect(Nic, &on_nic(tcp(HOST, 5000, REMOTE, 53, RST)), dropped(Reason::NotOpening));
}

fn on_one_interface_no_internal_address_answers_the_outside() {
    let mut rig = Rig::on(Network::OneArmed, &Layout::one_armed());
    let request = on_nic(udp(HOST, 5000, REMOTE, 53));
    let leaving = on_nic(request.translated(ELASTIC_IP, PORT));
    rig.expect(Nic, &request, outbound(&leaving).opening().turned_round());
    let probe = on_nic(leaving.answer().ttl(1));
    let Outcome { verdict, frame } = rig.send(Nic, &probe);
    assert_eq!(verdict, Verdict::Tx.at_this_hook());
    assert_eq!(frame[26..30], EXTERNAL_ADDRESS.octets(), "the source of the time exceeded");
    let probe = request.ttl(1);
    let Outcome { verdict, frame } = rig.send(Nic, &probe);
    assert_eq!(verdict, Verdict::Tx.at_this_hook());
    assert_eq!(frame[26..30], INTERNAL_ADDRESS.octets(), "the source of the time exceeded");
}

fn a_next_hop_without_mac_address_is_dropped_and_asked_for() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, NEIGHBOUR, 53);
    let refused = || dropped(Reason::NoNeighbour).moves("hop_lookups", 1);
    rig.expect(Internal, &request, refused().asking_to_resolve("ext0", NEIGHBOUR));
    rig.expect(
        Internal,
        &tcp(HOST, 5000, NEIGHBOUR, 53, SYN),
        refused().asking_to_resolve("ext0", NEIGHBOUR),
    );
    rig.ip(&format!("neigh del {ROUTER} dev ext0\n"));
    let far = udp(HOST, 5000, REMOTE, 53);
    rig.expect(Internal, &far, refused().asking_to_resolve("ext0", ROUTER));
    assert!(rig.state().flows.is_empty());
    rig.ip(&format!("neigh add {ROUTER} lladdr 06:00:c6:33:64:01 dev ext0 nud permanent\n"));
    rig.open(&far);
}

fn a_private_host_without_mac_address_is_dropped_and_asked_for() {
    let mut rig = Rig::standard();
    let leaving = rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.ip(&format!("neigh del {HOST} dev int0\n"));
    let refused = dropped(Reason::NoNeighbour).moves("hop_lookups", 1).asking_to_resolve("int0", HOST);
    rig.expect(External, &leaving.answer(), refused);
}

/// The kernel has no way to the destination, and the sender is told with this code.
fn unreachable(packet: &Packet, code: u8) -> Expected {
    refused(Reason::Unreachable, &packet.answered(INTERNAL_ADDRESS, 3, code, 0)).moves("hop_lookups", 1)
}

fn a_destination_that_the_host_cannot_reach_is_refused() {
    let mut rig = Rig::standard();
    for packet in [udp(HOST, 5000, UNREACHABLE, 53), tcp(HOST, 5000, UNREACHABLE, 53, SYN)] {
        rig.expect(Internal, &packet, unreachable(&packet, 1));
    }
}

fn an_internal_packet_leaves_on_an_external_interface_or_not_at_all() {
    let mut rig = Rig::standard();
    // The kernel's routes lead to an internal interface, and to one that natgw does not know.
    let wrong = udp(HOST, 5000, WRONG_WAY, 53);
    rig.expect(Internal, &wrong, unreachable(&wrong, 0));
    rig.ip("neigh add 172.31.0.5 lladdr 06:00:00:00:00:05 dev mgmt0 nud permanent\n");
    let wrong = udp(HOST, 5000, [172, 31, 0, 5].into(), 53);
    rig.expect(Internal, &wrong, unreachable(&wrong, 0));
    // And a packet between two subnets never leaves outside.
    rig.ip(&format!("route add {HOST_B} via {ROUTER}\n"));
    let wrong = udp(HOST, 5000, HOST_B, 53);
    rig.expect(Internal, &wrong, unreachable(&wrong, 0));
    rig.expect(InternalB, &udp(HOST_B, 5000, HOST, 53), local(&udp(HOST_B, 5000, HOST, 53).forwarded()));
}

fn a_new_mac_address_of_the_next_hop_is_used_from_the_next_generation_on() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let leaving = rig.open(&request);
    rig.ip(&format!("neigh replace {ROUTER} lladdr 06:00:00:00:00:77 dev ext0 nud permanent\n"));
    rig.expect(Internal, &request, outbound(&leaving));
    rig.renew_generation();
    let leaving = leaving.with(|packet| packet.macs[0] = [6, 0, 0, 0, 0, 0x77]);
    rig.expect(Internal, &request, outbound(&leaving).judged());
}

/// Opens a session of another port toward `remote`; the MAC address that its packet leaves to.
fn next_hop(rig: &mut Rig, remote: Ipv4Addr) -> [u8; 6] {
    let port = 1 + rig.sessions().len() as u16;
    let outcome = rig.send(Internal, &udp(HOST, 5000, remote, port));
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    outcome.frame[..6].try_into().expect("six bytes")
}

fn new_sessions_use_a_new_mac_address_from_the_next_generation_on_or_within_three_seconds() {
    let mut rig = Rig::standard();
    let change = |rig: &mut Rig, last: u8| {
        rig.ip(&format!("neigh replace {ROUTER} lladdr 06:00:00:00:00:{last:02x} dev ext0 nud permanent\n"));
        [6, 0, 0, 0, 0, last]
    };
    let before = next_hop(&mut rig, REMOTE);
    let first = change(&mut rig, 0x77);
    assert_ne!(before, first);
    rig.renew_generation();
    assert_eq!(next_hop(&mut rig, REMOTE), first);
    // Nobody raises the generation: there is no controller.
    let second = change(&mut rig, 0x78);
    std::thread::sleep(std::time::Duration::from_millis(2_600));
    assert_eq!(next_hop(&mut rig, REMOTE), second);
}

fn a_hop_found_for_one_destination_is_no_hop_for_another() {
    let mut rig = Rig::standard();
    rig.ip(&format!("neigh add {NEIGHBOUR} lladdr 06:00:00:00:00:79 dev ext0 nud permanent\n"));
    let far = next_hop(&mut rig, REMOTE);
    for last in 1..=250 {
        assert_eq!(next_hop(&mut rig, [192, 0, 3, last].into()), far);
        assert_eq!(next_hop(&mut rig, NEIGHBOUR), [6, 0, 0, 0, 0, 0x79]);
    }
}

fn a_packet_longer_than_those_that_found_a_hop_is_measured_against_the_mtu() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &Layout::default());
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.open(&udp(HOST, 5000, REMOTE, 54).payload(&[5; 1_272]));
    let exceeds = udp(HOST, 5000, REMOTE, 55).payload(&[5; 1_273]);
    let answer = exceeds.answered(INTERNAL_ADDRESS, 3, 4, 1_300);
    rig.expect(Internal, &exceeds, replied(&answer).moves("hop_lookups", 1));
    rig.open(&udp(HOST, 5000, REMOTE, 56));
}
