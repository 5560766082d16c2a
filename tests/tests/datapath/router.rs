//! The duties of a router (RFC 1812): what it tells senders, what it never forwards, and what it leaves alone.

use DropReason as Reason;
use std::net::Ipv4Addr;

use etherparse::IpDscp;
use natgw_tests::datapath::{
    Side::{External, Internal, InternalB},
    flags::{ACK, SYN},
    *,
};

super::tests![
    no_route_is_told_inside_with_what_was_received,
    a_blackhole_and_a_nacl_are_silent,
    the_kernels_types_of_routes_are_told_as_the_kernel_tells_them,
    a_next_hop_that_never_answers_is_told_as_unreachable,
    what_is_unreachable_inside_is_not_told_outside,
    what_is_unreachable_is_not_told_about_errors_or_odd_sources,
    tellings_of_unreachability_are_limited_in_a_second,
    a_session_whose_route_is_gone_is_told,
    martians_from_outside_are_refused,
    what_comes_from_no_single_host_is_never_answered,
    an_address_of_our_own_from_outside_is_refused,
    errors_from_outside_with_an_impossible_source_are_refused,
    what_is_for_the_host_goes_to_its_stack_whatever_its_source,
    the_ttl_is_lowered_by_one_in_both_directions,
    a_ttl_of_one_is_enough_for_the_host_itself,
    a_limited_broadcast_is_not_forwarded,
    a_broadcast_of_the_link_is_not_forwarded_or_answered,
];

fn told(packet: &Packet, own: Ipv4Addr, code: u8, reason: Reason) -> Expected {
    refused(reason, &packet.answered(own, 3, code, 0))
}

fn nowhere() -> Rig {
    Rig::with(&Layout::with_routes(r#"{ destination = "192.0.2.0/24", target = "nat-a" }"#))
}

fn no_route_is_told_inside_with_what_was_received() {
    let mut rig = nowhere();
    let far = Ipv4Addr::new(198, 18, 5, 5);
    for packet in [udp(HOST, 5000, far, 53), tcp(HOST, 5000, far, 443, SYN), echo_request(HOST, 7, far)] {
        rig.expect(Internal, &packet, told(&packet, INTERNAL_ADDRESS, 0, Reason::NoRoute));
    }
    for packet in [udp(HOST_B, 5000, far, 53), udp(HOST_B, 5000, far, 53).payload(&[9; 1_400]).ttl(1)] {
        rig.expect(InternalB, &packet, told(&packet, INTERNAL_B_ADDRESS, 0, Reason::NoRoute));
    }
    let marked =
        |packet: Packet| packet.with(|packet| packet.ip.dscp = IpDscp::try_new(46).expect("six bits"));
    let packet = marked(udp(HOST, 5000, far, 53));
    let answer = marked(packet.answered(INTERNAL_ADDRESS, 3, 0, 0));
    rig.expect(Internal, &packet, refused(Reason::NoRoute, &answer));
    assert!(rig.state().flows.is_empty());
}

fn a_blackhole_and_a_nacl_are_silent() {
    let mut rig = Rig::with(&Layout::with_routes(r#"{ destination = "0.0.0.0/0", target = "blackhole" }"#));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::Blackhole));
    let mut rig = Rig::with(&Layout::with_private_nacl("", ""));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::NaclOutbound));
    let mut rig = Rig::with(&Layout::with_public_nacl("", ""));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::NaclOutbound));
}

fn the_kernels_types_of_routes_are_told_as_the_kernel_tells_them() {
    let mut rig = Rig::standard();
    rig.ip("route add blackhole 198.18.1.0/24\nroute add prohibit 198.18.2.0/24\nroute add unreachable 198.18.3.0/24\n");
    rig.apply(&Layout::default());
    let to = |net: u8| udp(HOST, 5000, Ipv4Addr::new(198, 18, net, 1), 53);
    rig.expect(Internal, &to(1), dropped(Reason::Unreachable).moves("hop_lookups", 1));
    for (net, code) in [(2, 13), (3, 1)] {
        let expected = told(&to(net), INTERNAL_ADDRESS, code, Reason::Unreachable);
        rig.expect(Internal, &to(net), expected.moves("hop_lookups", 1));
    }
    rig.ip("route del default\n");
    rig.apply(&Layout::default());
    let packet = udp(HOST, 5000, REMOTE, 53);
    let expected = told(&packet, INTERNAL_ADDRESS, 0, Reason::Unreachable);
    rig.expect(Internal, &packet, expected.moves("hop_lookups", 1));
}

fn a_next_hop_that_never_answers_is_told_as_unreachable() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, NEIGHBOUR, 53);
    let index = rig.index("ext0");
    // Being asked for.
    let asked = |expected: Expected| expected.moves("hop_lookups", 1).asking_to_resolve("ext0", NEIGHBOUR);
    rig.expect(Internal, &packet, asked(dropped(Reason::NoNeighbour)));
    rig.maps_mut().note_unanswered(index, NEIGHBOUR).expect("UNANSWERED can be written");
    rig.expect(Internal, &packet, asked(told(&packet, INTERNAL_ADDRESS, 1, Reason::NoNeighbour)));
    let index = rig.index("int1");
    let between = udp(HOST, 5000, [10, 0, 2, 99].into(), 53);
    let asked = |expected: Expected| {
        expected.moves("hop_lookups", 1).asking_to_resolve("int1", [10, 0, 2, 99].into())
    };
    rig.expect(Internal, &between, asked(dropped(Reason::NoNeighbour)));
    rig.maps_mut().note_unanswered(index, [10, 0, 2, 99].into()).expect("UNANSWERED can be written");
    rig.expect(Internal, &between, asked(told(&between, INTERNAL_ADDRESS, 1, Reason::NoNeighbour)));
    rig.ip(&format!("neigh add {NEIGHBOUR} lladdr 06:00:c6:33:64:09 dev ext0 nud permanent\n"));
    assert_eq!(rig.send(Internal, &packet).verdict, Verdict::Redirect, "it answers by now");
}

fn what_is_unreachable_inside_is_not_told_outside() {
    let mut rig = Rig::standard();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.ip(&format!("route add unreachable {HOST}\n"));
    rig.renew_generation();
    rig.expect(External, &answer, dropped(Reason::Unreachable).moves("hop_lookups", 1));
    rig.ip(&format!("route del unreachable {HOST}\nneigh del {HOST} dev int0\n"));
    let index = rig.index("int0");
    rig.maps_mut().note_unanswered(index, HOST).expect("UNANSWERED can be written");
    let asked = dropped(Reason::NoNeighbour).moves("hop_lookups", 1).asking_to_resolve("int0", HOST);
    rig.expect(External, &answer, asked);
}

fn what_is_unreachable_is_not_told_about_errors_or_odd_sources() {
    let mut rig = Rig::standard();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let error = icmp_error(HOST, REMOTE, 3, 3, answer.delivered(HOST, 5000).quote(8));
    rig.ip("route del default\n");
    rig.renew_generation();
    rig.expect(Internal, &error, dropped(Reason::Unreachable).moves("hop_lookups", 1));
    let mut rig = nowhere();
    let error = icmp_error(HOST, [198, 18, 5, 5].into(), 3, 3, answer.delivered(HOST, 5000).quote(8));
    rig.expect(Internal, &error, dropped(Reason::NoRoute));
    for source in [[10, 0, 1, 255], [10, 0, 1, 1]].map(Ipv4Addr::from) {
        rig.case(format!("from {source}"));
        rig.expect(Internal, &udp(source, 5000, [198, 18, 5, 5].into(), 53), dropped(Reason::NoRoute));
    }
}

fn tellings_of_unreachability_are_limited_in_a_second() {
    let limits = "[gateway]\nicmp_errors_per_second = 3\n".to_owned();
    let mut rig = Rig::with(&Layout { limits, ..Layout::with_routes("") });
    let packet = udp(HOST, 5000, REMOTE, 53).frame();
    let answered =
        (0..30).filter(|_| rig.send(Internal, &packet[..]).verdict == Verdict::Tx.at_this_hook()).count();
    assert!((3..=6).contains(&answered), "{answered} answers");
    assert_eq!(rig.state().drops()["no_route"], 30);
}

fn a_session_whose_route_is_gone_is_told() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.establish(&request);
    rig.apply(&Layout::with_routes(r#"{ destination = "198.18.0.0/16", target = "nat-a" }"#));
    rig.expect(Internal, &request, told(&request, INTERNAL_ADDRESS, 0, Reason::NoRoute));
}

const MARTIANS: [[u8; 4]; 8] = [
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [127, 0, 0, 1],
    [127, 255, 255, 255],
    [224, 0, 0, 1],
    [239, 1, 1, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

/// From the router of the outside, whatever the source says.
fn from_router(source: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    udp(REMOTE, 53, destination, PORT).source(source, 53)
}

fn martians_from_outside_are_refused() {
    let mut rig = Rig::standard();
    for source in MARTIANS.map(Ipv4Addr::from) {
        rig.case(format!("from {source}"));
        for destination in [ELASTIC_IP, HOST, [198, 18, 0, 9].into()] {
            rig.expect(External, &from_router(source, destination), dropped(Reason::Martian));
        }
        let inside = udp(HOST, 53, REMOTE, 53).source(source, 53);
        rig.expect(Internal, &inside, dropped(Reason::Martian));
    }
}

/// RFC 1812 §4.3.2.7: on a gateway that answers the same packets of a host, on either side.
fn what_comes_from_no_single_host_is_never_answered() {
    let fields = "mapping = \"endpoint-independent\"\nfiltering = \"endpoint-independent\"";
    let mut rig = Rig::with(&Layout::default().gateway_option(fields));
    assert_eq!(rig.send(Internal, &udp(HOST, 5000, REMOTE, 53)).verdict, Verdict::Redirect);
    for ttl in [0, 1] {
        let outbound = udp(HOST, 5000, REMOTE_2, 53).ttl(ttl);
        rig.expect(Internal, &outbound, replied(&outbound.answered(INTERNAL_ADDRESS, 11, 0, 0)));
        let inbound = from_router(STRANGER, ELASTIC_IP).ttl(ttl);
        rig.expect(External, &inbound, replied(&inbound.answered(EXTERNAL_ADDRESS, 11, 0, 0)));
        for source in MARTIANS.map(Ipv4Addr::from) {
            rig.case(format!("from {source} with TTL {ttl}"));
            rig.expect(Internal, &outbound.clone().source(source, 5000), dropped(Reason::Martian));
            rig.expect(External, &from_router(source, ELASTIC_IP).ttl(ttl), dropped(Reason::Martian));
        }
        // A broadcast of the link is no single host's either.
        let broadcast = [10, 0, 1, 255].into();
        rig.expect(Internal, &outbound.source(broadcast, 5000), dropped(Reason::TtlExpired));
    }
}

fn an_address_of_our_own_from_outside_is_refused() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for source in [HOST, HOST_B, HOST_VLAN, [10, 0, 1, 254].into(), ELASTIC_IP] {
        rig.case(format!("from {source}"));
        rig.expect(External, &from_router(source, ELASTIC_IP), dropped(Reason::SourceNotInSubnet));
        rig.expect(External, &from_router(source, HOST_B), dropped(Reason::SourceNotInSubnet));
    }
    // Private addresses of others may well come from the provider's network.
    rig.expect(External, &from_router([10, 9, 9, 9].into(), ELASTIC_IP), dropped(Reason::NoSession));
}

fn errors_from_outside_with_an_impossible_source_are_refused() {
    let mut rig = Rig::standard();
    let (leaving, _) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let from = |source: Ipv4Addr| icmp_error(REMOTE, ELASTIC_IP, 3, 3, leaving.quote(8)).source(source, 0);
    rig.expect(External, &from([127, 0, 0, 1].into()), dropped(Reason::Martian));
    rig.expect(External, &from(HOST_B), dropped(Reason::SourceNotInSubnet));
    rig.expect(External, &from(ELASTIC_IP), dropped(Reason::SourceNotInSubnet));
    // Routers of the provider may have private addresses (RFC 1918 §3).
    assert_eq!(rig.send(External, &from([10, 200, 0, 1].into())).verdict, Verdict::Redirect);
}

fn what_is_for_the_host_goes_to_its_stack_whatever_its_source() {
    let mut rig = Rig::standard();
    for source in [HOST, ELASTIC_IP, [127, 0, 0, 1].into(), [0, 0, 0, 0].into()] {
        rig.expect(External, &from_router(source, EXTERNAL_ADDRESS), stack());
        rig.expect(External, &from_router(source, [255, 255, 255, 255].into()), stack());
    }
}

fn the_ttl_is_lowered_by_one_in_both_directions() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, answer) = rig.establish(&request);
    let between = udp(HOST, 5000, HOST_B, 53);
    for ttl in [2, 3, 64, 128, 255] {
        rig.expect(Internal, &request.clone().ttl(ttl), outbound(&leaving.clone().ttl(ttl - 1)));
        let back = answer.clone().ttl(ttl);
        rig.expect(External, &back, inbound(&answer.delivered(HOST, 5000).ttl(ttl - 1)));
        rig.expect(Internal, &between.clone().ttl(ttl), local(&between.forwarded().ttl(ttl - 1)));
    }
}

fn a_ttl_of_one_is_enough_for_the_host_itself() {
    let mut rig = Rig::standard();
    rig.expect(Internal, &echo_request(HOST, 1, INTERNAL_ADDRESS).ttl(1), stack());
    rig.expect(External, &echo_request(REMOTE, 1, EXTERNAL_ADDRESS).ttl(1), stack());
}

fn a_limited_broadcast_is_not_forwarded() {
    let mut rig = Rig::standard();
    let everyone = Ipv4Addr::BROADCAST;
    for mac in [[0xff; 6], Internal.mac()] {
        let packet = udp(HOST, 68, everyone, 67).with(|packet| packet.macs[0] = mac);
        rig.expect(Internal, &packet, stack());
    }
    rig.expect(External, &udp(REMOTE, 68, everyone, 67), stack());
    rig.expect(Internal, &udp(HOST, 68, [10, 0, 1, 255].into(), 67), stack());
}

fn a_broadcast_of_the_link_is_not_forwarded_or_answered() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.establish(&request);
    for (mac, ttl) in [([0xff; 6], 64), ([0xff; 6], 1), ([1, 0, 0x5e, 1, 2, 3], 64)] {
        let to_all = request.clone().ttl(ttl).with(|packet| packet.macs[0] = mac);
        rig.expect(Internal, &to_all, dropped(Reason::LinkBroadcast));
        let elsewhere = tcp(HOST, 5000, [198, 18, 0, 1].into(), 53, ACK).ttl(ttl);
        rig.expect(Internal, &elsewhere.with(|packet| packet.macs[0] = mac), dropped(Reason::LinkBroadcast));
    }
}
