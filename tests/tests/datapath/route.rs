//! Route tables: the longest prefix decides between a NAT gateway, another subnet and nothing.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{Internal, InternalB},
    flags::{ACK, SYN},
    *,
};

super::tests![
    the_longest_prefix_decides,
    a_destination_without_route_is_refused,
    subnets_of_one_vpc_reach_each_other_untranslated,
    between_subnets_any_packet_passes_and_no_session_is_opened,
    between_subnets_the_tag_changes_with_the_subnet,
    a_destination_in_the_vpc_but_in_no_subnet_is_refused,
    a_local_route_may_be_narrowed,
    errors_between_subnets_pass_untranslated,
    a_blackhole_for_the_shared_address_space_refuses_all_of_it_and_nothing_else,
    no_source_of_the_shared_address_space_leaves,
];

const DEFAULT: &str = r#"{ destination = "0.0.0.0/0", target = "nat-a" }"#;

fn the_longest_prefix_decides() {
    let routes = format!(
        r#"{DEFAULT},
           {{ destination = "192.0.0.0/16", target = "blackhole" }},
           {{ destination = "192.0.2.8/29", target = "nat-a" }},
           {{ destination = "192.0.2.11/32", target = "blackhole" }}"#
    );
    let mut rig = Rig::with(&Layout::with_routes(&routes));
    rig.open(&udp(HOST, 5000, [192, 1, 0, 1].into(), 53));
    rig.expect(Internal, &udp(HOST, 5000, [192, 0, 0, 1].into(), 53), dropped(Reason::Blackhole));
    rig.expect(Internal, &udp(HOST, 5000, [192, 0, 2, 7].into(), 53), dropped(Reason::Blackhole));
    rig.open(&udp(HOST, 5000, [192, 0, 2, 8].into(), 53));
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE_2, 53), dropped(Reason::Blackhole));
    rig.open(&udp(HOST, 5000, [192, 0, 2, 15].into(), 53));
    rig.expect(Internal, &udp(HOST, 5000, [192, 0, 2, 16].into(), 53), dropped(Reason::Blackhole));
}

/// No route leads there, and the sender is told (RFC 1812 §4.3.3.1).
fn no_route(packet: &Packet) -> Expected {
    refused(Reason::NoRoute, &packet.answered(INTERNAL_ADDRESS, 3, 0, 0))
}

fn a_destination_without_route_is_refused() {
    let mut rig = Rig::with(&Layout::with_routes(r#"{ destination = "192.0.2.0/24", target = "nat-a" }"#));
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    let packet = udp(HOST, 5000, [192, 0, 3, 1].into(), 53);
    rig.expect(Internal, &packet, no_route(&packet));
}

fn subnets_of_one_vpc_reach_each_other_untranslated() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, HOST_B, 53);
    rig.expect(Internal, &request, local(&request.forwarded()));
    let answer = udp(HOST_B, 53, HOST, 5000);
    rig.expect(InternalB, &answer, local(&answer.forwarded()));
}

fn between_subnets_any_packet_passes_and_no_session_is_opened() {
    let mut rig = Rig::standard();
    for packet in [
        tcp(HOST, 5000, HOST_B, 22, SYN),
        tcp(HOST, 5000, HOST_B, 22, ACK),
        echo_request(HOST, 5000, HOST_B),
        echo_reply(HOST, 5000, HOST_B),
        udp(HOST, 5000, HOST_B, 53).ttl(2),
    ] {
        rig.expect(Internal, &packet, local(&packet.forwarded()));
    }
    assert!(rig.state().flows.is_empty());
}

fn between_subnets_the_tag_changes_with_the_subnet() {
    let mut rig = Rig::standard();
    let tagging = udp(HOST_B, 5000, HOST_VLAN, 53);
    rig.expect(InternalB, &tagging, local(&tagging.forwarded()));
    let untagging = udp(HOST_VLAN, 5000, HOST_B, 53);
    rig.expect(Internal, &untagging, local(&untagging.forwarded()));
    // Both subnets are behind one device.
    let turning = udp(HOST, 5000, HOST_VLAN, 53);
    rig.expect(Internal, &turning, local(&turning.forwarded()).turned_round());
}

fn a_destination_in_the_vpc_but_in_no_subnet_is_refused() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, [10, 0, 99, 1].into(), 53);
    rig.expect(Internal, &packet, no_route(&packet));
}

fn a_local_route_may_be_narrowed() {
    let routes = format!(r#"{DEFAULT}, {{ destination = "10.0.2.0/24", target = "blackhole" }}"#);
    let mut rig = Rig::with(&Layout::with_routes(&routes));
    rig.expect(Internal, &udp(HOST, 5000, HOST_B, 53), dropped(Reason::Blackhole));
    let to_c = udp(HOST, 5000, HOST_VLAN, 53);
    rig.expect(Internal, &to_c, local(&to_c.forwarded()).turned_round());
}

fn errors_between_subnets_pass_untranslated() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, HOST_B, 53);
    rig.expect(Internal, &request, local(&request.forwarded()));
    let error = icmp_error(HOST_B, HOST, 3, 3, request.forwarded().quote(8));
    rig.expect(InternalB, &error, local(&error.forwarded()));
}

/// The first and the last address of 100.64.0.0/10 (RFC 6598).
const SHARED: [[u8; 4]; 2] = [[100, 64, 0, 0], [100, 127, 255, 255]];

fn a_blackhole_for_the_shared_address_space_refuses_all_of_it_and_nothing_else() {
    let routes = format!(r#"{DEFAULT}, {{ destination = "100.64.0.0/10", target = "blackhole" }}"#);
    let mut rig = Rig::with(&Layout::with_routes(&routes));
    for destination in SHARED {
        rig.expect(Internal, &udp(HOST, 5000, destination.into(), 53), dropped(Reason::Blackhole));
    }
    for destination in [[100, 63, 255, 255], [100, 128, 0, 0]] {
        rig.open(&udp(HOST, 5000, destination.into(), 53));
    }
    // Without that route, it is as any other.
    let mut rig = Rig::standard();
    for destination in SHARED {
        rig.open(&udp(HOST, 5000, destination.into(), 53));
    }
}

fn no_source_of_the_shared_address_space_leaves() {
    let from = |source: [u8; 4]| udp(HOST, 5000, REMOTE, 53).source(source.into(), 5000);
    let mut rig = Rig::standard();
    for source in SHARED {
        rig.expect(Internal, &from(source), dropped(Reason::SourceNotInSubnet));
    }
    // Private hosts may well have it, and are translated as others are.
    let standard = Layout::default();
    let layout = Layout {
        networks: format!("{}, \"100.64.0.0/10\"", standard.networks),
        subnets: standard.subnets.replace("10.0.1.0/24", "100.64.0.0/10"),
        ..standard
    };
    let mut rig = Rig::with(&layout);
    for source in [[100, 64, 0, 1], [100, 127, 255, 254]] {
        let packet = from(source);
        rig.expect(Internal, &packet, outbound(&packet.translated(ELASTIC_IP, PORT)).opening());
        rig.age(400);
    }
    rig.expect(Internal, &from(HOST.octets()), dropped(Reason::SourceNotInSubnet));
}
