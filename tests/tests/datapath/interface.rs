//! What is for the host itself, what no interface is responsible for, and sources that an interface cannot have.

use std::net::{Ipv4Addr, Ipv6Addr};

use DropReason as Reason;
use etherparse::IpFragOffset;
use natgw_tests::datapath::{
    Side::{External, Internal, InternalB, Unconfigured},
    flags::SYN,
    *,
};

super::tests![
    everything_addressed_to_the_host_goes_to_its_stack,
    broadcast_and_multicast_go_to_the_stack_and_no_farther,
    frames_of_the_link_itself_go_to_the_stack,
    ipv6_for_the_host_and_of_the_link_goes_to_the_stack,
    ipv6_for_anybody_else_is_refused,
    an_elastic_ip_is_never_the_hosts_own_though_it_answers_arp_for_it,
    an_elastic_ip_that_is_the_hosts_own_address_is_shared_with_its_stack,
    from_outside_only_elastic_ips_and_the_host_can_be_reached,
    an_interface_that_the_configuration_does_not_know_reaches_the_host_alone,
    a_source_that_its_interface_cannot_have_is_refused,
    martians_are_refused,
    an_elastic_ip_is_not_reached_from_inside_where_nobody_waits_for_it,
    a_refused_packet_leaves_a_sample_with_its_tuple,
];

fn everything_addressed_to_the_host_goes_to_its_stack() {
    let mut rig = Rig::standard();
    let ways = [(Internal, HOST, INTERNAL_ADDRESS), (External, REMOTE, EXTERNAL_ADDRESS)];
    for (side, source, own) in ways {
        let own_packets = [
            udp(source, 5000, own, 53),
            udp(source, 5000, own, 53).ttl(1),
            tcp(source, 5000, own, 22, SYN),
            echo_request(source, 5000, own),
            udp(source, 5000, own, 53).with(|packet| packet.body = Body::Raw(47, vec![0; 20])),
            udp(source, 5000, own, 53).with(|packet| packet.ip.more_fragments = true),
            udp(source, 5000, own, 53)
                .with(|packet| packet.ip.fragment_offset = IpFragOffset::try_new(9).expect("13 bits")),
            udp(source, 5000, own, 53).with(|packet| packet.body = Body::Raw(6, vec![0; 3])),
            udp(source, 5000, own, 53).with(|packet| packet.tag = Some(7)),
            udp(source, 5000, own, 53).with(|packet| packet.macs[0] = [0xff; 6]),
            icmp_error(source, own, 3, 3, udp(own, 1, source, 2).quote(8)),
            icmp_error(source, own, 3, 3, vec![0; 5]),
            icmp_error(source, own, 5, 1, udp(own, 1, source, 2).quote(8)),
        ];
        for packet in &own_packets {
            rig.expect(side, packet, stack());
        }
    }
    // One host, whatever the interface.
    rig.expect(Internal, &udp(HOST, 5000, EXTERNAL_ADDRESS, 53), stack());
    rig.expect(External, &udp(REMOTE, 5000, INTERNAL_B_ADDRESS, 53), stack());
    rig.expect(Internal, &udp(HOST_VLAN, 5000, VLAN_ADDRESS, 53), stack());
}

fn broadcast_and_multicast_go_to_the_stack_and_no_farther() {
    let mut rig = Rig::standard();
    let groups =
        [[255, 255, 255, 255], [10, 0, 1, 255], [198, 51, 100, 255], [224, 0, 0, 251], [239, 255, 255, 250]];
    for group in groups.map(Ipv4Addr::from) {
        rig.case(format!("to {group}"));
        rig.expect(Internal, &udp(HOST, 68, group, 67), stack());
        rig.expect(Internal, &udp(HOST, 68, group, 67).with(|packet| packet.macs[0] = [0xff; 6]), stack());
        rig.expect(External, &udp(REMOTE, 68, group, 67), stack());
    }
    // A host without an address yet asks for one (RFC 2131).
    let ask = udp(HOST, 68, [255; 4].into(), 67).with(|packet| packet.ip.source = [0; 4]);
    rig.expect(Internal, &ask, stack());
}

/// A frame of 60 bytes.
fn frame(destination: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = [&destination[..], &mac_of(HOST), &ethertype].concat();
    frame.resize(60, 0x5a);
    frame
}

fn frames_of_the_link_itself_go_to_the_stack() {
    let mut rig = Rig::standard();
    let (arp, lldp, slow, length) = ([0x08, 0x06], [0x88, 0xcc], [0x88, 0x09], [0x00, 0x26]);
    for side in [Internal, External, Unconfigured] {
        rig.expect(side, frame([0xff; 6], arp), stack());
        rig.expect(side, frame(side.mac(), arp), stack());
        rig.expect(side, frame([0x01, 0x80, 0xc2, 0, 0, 0x0e], lldp), stack());
        rig.expect(side, frame([0x01, 0x80, 0xc2, 0, 0, 0x02], slow), stack());
        rig.expect(side, frame([0x01, 0x80, 0xc2, 0, 0, 0x00], length), stack());
        let mut tagged = frame([0xff; 6], [0x81, 0x00]);
        tagged[14..18].copy_from_slice(&[0, 100, 0x08, 0x06]);
        rig.expect(side, tagged, stack());
    }
}

/// An IPv6 packet without content.
fn ipv6(destination: Ipv6Addr) -> Vec<u8> {
    let mut frame = frame([2, 0, 0, 0, 0, 1], [0x86, 0xdd]);
    frame.truncate(14);
    frame.extend([0x60, 0, 0, 0, 0, 0, 59, 64]);
    frame.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).octets());
    frame.extend(destination.octets());
    frame
}

fn ipv6_for_the_host_and_of_the_link_goes_to_the_stack() {
    let mut rig = Rig::standard();
    for text in ["fd00::1", "fe80::1", "febf::9", "ff02::1", "ff0e::101"] {
        rig.case(text);
        rig.expect(Internal, ipv6(text.parse().expect("an address")), stack());
        rig.expect(External, ipv6(text.parse().expect("an address")), stack());
    }
    assert_eq!(INTERNAL_IPV6, "fd00::1".parse::<Ipv6Addr>().expect("an address"));
}

fn ipv6_for_anybody_else_is_refused() {
    let mut rig = Rig::standard();
    for text in ["fd00::2", "2001:db8::1", "::", "fec0::1", "::ffff:10.0.1.77"] {
        rig.case(text);
        rig.expect(Internal, ipv6(text.parse().expect("an address")), dropped(Reason::Ipv6));
        rig.expect(External, ipv6(text.parse().expect("an address")), dropped(Reason::Ipv6));
    }
    let whole = ipv6(INTERNAL_IPV6);
    rig.expect(Internal, &whole[..53], dropped(Reason::FrameTooShort));
}

fn an_elastic_ip_is_never_the_hosts_own_though_it_answers_arp_for_it() {
    let mut rig = Rig::standard();
    let sshd = tcp(REMOTE, 5000, ELASTIC_IP, 22, SYN);
    rig.expect(External, &sshd, dropped(Reason::NoSession));
    let tunnel = sshd.with(|packet| packet.body = Body::Raw(47, vec![0; 40]));
    rig.expect(External, &tunnel, dropped(Reason::NoSession));
    rig.expect(Unconfigured, &tunnel, dropped(Reason::NotConfigured));
}

fn an_elastic_ip_that_is_the_hosts_own_address_is_shared_with_its_stack() {
    let mut rig = Rig::with(&Layout::with_shared_address());
    rig.expect(External, &tcp(REMOTE, 5000, EXTERNAL_ADDRESS, 22, SYN), stack());
    let packet = udp(HOST, 5000, REMOTE, 53);
    let leaving = packet.translated(EXTERNAL_ADDRESS, PORT);
    rig.expect(Internal, &packet, outbound(&leaving).opening());
    let answer = leaving.answer();
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
    // Only the session's own remote is answered past the stack.
    rig.expect(External, &udp(REMOTE, 54, EXTERNAL_ADDRESS, PORT), stack());
    rig.expect(External, &udp(REMOTE_2, 53, EXTERNAL_ADDRESS, PORT), stack());
    rig.expect(External, &tcp(REMOTE, 53, EXTERNAL_ADDRESS, PORT, SYN), stack());
    rig.expect(External, &echo_request(REMOTE, PORT, EXTERNAL_ADDRESS), stack());
    rig.expect(External, &udp(REMOTE, 53, EXTERNAL_ADDRESS, 9), stack());
    rig.expect(Internal, &tcp(HOST, 5000, EXTERNAL_ADDRESS, 22, SYN), stack());
}

fn from_outside_only_elastic_ips_and_the_host_can_be_reached() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for destination in [HOST, HOST_B, REMOTE_2, ROUTER, SECOND_ELASTIC_IP] {
        rig.case(format!("to {destination}"));
        rig.expect(External, &udp(REMOTE, 53, destination, 5000), dropped(Reason::NotForGateway));
        rig.expect(External, &tcp(REMOTE, 53, destination, 5000, SYN), dropped(Reason::NotForGateway));
    }
    // An internal source is not believed outside.
    for destination in [REMOTE, ELASTIC_IP] {
        rig.expect(External, &udp(HOST, 5000, destination, 53), dropped(Reason::SourceNotInSubnet));
    }
}

fn an_interface_that_the_configuration_does_not_know_reaches_the_host_alone() {
    let mut rig = Rig::standard();
    rig.expect(Unconfigured, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::NotConfigured));
    rig.expect(Unconfigured, &udp(REMOTE, 53, HOST, 5000), dropped(Reason::NotConfigured));
    rig.expect(Unconfigured, &udp([172, 31, 0, 5].into(), 5000, [172, 31, 0, 1].into(), 22), stack());
}

fn a_source_that_its_interface_cannot_have_is_refused() {
    let mut rig = Rig::standard();
    for source in [HOST_B, HOST_VLAN, REMOTE, [10, 0, 200, 1].into(), [192, 168, 1, 1].into()] {
        rig.case(format!("from {source}"));
        let untagged = udp(source, 5000, REMOTE, 53).with(|packet| packet.tag = None);
        rig.expect(Internal, &untagged, dropped(Reason::SourceNotInSubnet));
        let between = udp(source, 5000, HOST_B, 53).with(|packet| packet.tag = None);
        rig.expect(Internal, &between, dropped(Reason::SourceNotInSubnet));
    }
    let tagged = udp(HOST, 5000, REMOTE, 53).with(|packet| packet.tag = Some(VLAN));
    rig.expect(Internal, &tagged, dropped(Reason::SourceNotInSubnet));
    rig.expect(InternalB, &udp(HOST, 5000, REMOTE, 53), dropped(Reason::SourceNotInSubnet));
}

fn martians_are_refused() {
    let mut rig = Rig::standard();
    for martian in [[0, 0, 0, 1], [127, 0, 0, 1], [127, 255, 255, 254], [240, 0, 0, 1]].map(Ipv4Addr::from) {
        rig.case(format!("{martian}"));
        rig.expect(Internal, &udp(HOST, 5000, martian, 53), dropped(Reason::Martian));
        let from = udp(HOST, 5000, REMOTE, 53).with(|packet| packet.ip.source = martian.octets());
        rig.expect(Internal, &from, dropped(Reason::Martian));
    }
    let from_group = udp(HOST, 5000, REMOTE, 53).with(|packet| packet.ip.source = [224, 0, 0, 1]);
    rig.expect(Internal, &from_group, dropped(Reason::Martian));
}

fn an_elastic_ip_is_not_reached_from_inside_where_nobody_waits_for_it() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for packet in [
        udp(SECOND_HOST, 5000, ELASTIC_IP, 9),
        tcp(HOST, 5000, ELASTIC_IP, 9, SYN),
        echo_request(HOST, 5000, ELASTIC_IP),
    ] {
        let outcome = rig.send(Internal, &packet);
        assert_eq!((outcome.verdict, outcome.frame), (Verdict::Drop, packet.frame()));
    }
    assert_eq!(rig.state().drops(), [("no_session", 3)].into());
}

fn a_refused_packet_leaves_a_sample_with_its_tuple() {
    let mut rig = Rig::standard();
    let sample = |rig: &Rig| rig.maps().drop_sample(Reason::NoSession).expect("SAMPLES can be read");
    assert_eq!(sample(&rig), None);
    let packet = udp(STRANGER, 1111, ELASTIC_IP, 2222);
    rig.expect(External, &packet, dropped(Reason::NoSession));
    let found = sample(&rig).expect("there is a sample");
    assert_eq!((found.key.source_address(), found.key.destination_address()), (STRANGER, ELASTIC_IP));
    assert_eq!((u16::from_be(found.key.source_port), u16::from_be(found.key.destination_port)), (1111, 2222));
    assert_eq!((found.ifindex, found.length, found.key.protocol), (rig.index("ext0"), 35, 17));
}
