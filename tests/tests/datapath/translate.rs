//! Addresses, ports and checksums of a session's packets.

use etherparse::{IpDscp, IpEcn};
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, SYN},
    *,
};

super::tests![
    outbound_udp_leaves_with_the_elastic_ip_and_its_answer_comes_back,
    a_tcp_connection_is_translated_both_ways,
    an_echo_request_leaves_with_the_elastic_ip_and_its_reply_comes_back,
    a_udp_packet_without_checksum_stays_without,
    a_udp_checksum_that_computes_to_zero_is_sent_as_all_ones,
    payloads_of_every_length_keep_their_checksums_right,
    ip_options_without_effect_are_kept,
    fields_that_translation_does_not_concern_are_untouched,
    the_reserved_flag_bit_is_untouched,
    tcp_options_and_every_flag_are_untouched,
    a_wrong_transport_checksum_stays_wrong_by_the_same_amount,
    ethernet_padding_is_no_part_of_the_packet,
    random_endpoints_are_translated_there_and_back,
    a_packet_of_a_sessions_own_host_and_port_to_another_remote_is_a_session_of_its_own,
];

fn outbound_udp_leaves_with_the_elastic_ip_and_its_answer_comes_back() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let leaving = request.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &request, outbound(&leaving).opening());
    let answer = leaving.answer().payload(b"an answer of another length");
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
    rig.expect(Internal, &request, outbound(&leaving));
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
}

fn a_tcp_connection_is_translated_both_ways() {
    let mut rig = Rig::standard();
    rig.connect(HOST, 5000, REMOTE, 443);
    let data = tcp(HOST, 5000, REMOTE, 443, ACK).payload(&[7; 1_400]);
    rig.expect(Internal, &data, outbound(&data.translated(ELASTIC_IP, PORT)));
    let answer = tcp(REMOTE, 443, ELASTIC_IP, PORT, ACK | FIN).payload(&[9; 1_001]);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
}

fn an_echo_request_leaves_with_the_elastic_ip_and_its_reply_comes_back() {
    let mut rig = Rig::standard();
    let (_, reply) = rig.establish(&echo_request(HOST, 0x1234, REMOTE));
    assert!(matches!(reply.body, Body::Icmp { kind: 0, rest: [0x9c, 0x40, 0, 1], .. }), "the port is 40000");
}

fn a_udp_packet_without_checksum_stays_without() {
    let mut rig = Rig::standard();
    let bare = |packet: Packet| {
        packet.with(|packet| {
            if let Body::Udp { checksum, .. } = &mut packet.body {
                *checksum = false;
            }
        })
    };
    let (leaving, answer) = rig.establish(&bare(udp(HOST, 5000, REMOTE, 53)));
    assert_eq!(leaving.frame()[40..42], [0, 0]);
    assert_eq!(answer.delivered(HOST, 5000).frame()[40..42], [0, 0]);
}

fn a_udp_checksum_that_computes_to_zero_is_sent_as_all_ones() {
    let mut rig = Rig::standard();
    let sums_to_zero = |packet: &Packet| packet.frame()[40..42] == [0xff, 0xff];
    let candidates = || (0..=u16::MAX).map(u16::to_be_bytes);
    let request = |content: [u8; 2]| udp(HOST, 5000, REMOTE, 53).payload(&content);
    let found = candidates().find(|content| sums_to_zero(&request(*content).translated(ELASTIC_IP, PORT)));
    let request = request(found.expect("one content of all makes the sum zero"));
    let leaving = rig.open(&request);
    let answer = |content: [u8; 2]| leaving.answer().payload(&content);
    let found = candidates().find(|content| sums_to_zero(&answer(*content).delivered(HOST, 5000)));
    let answer = answer(found.expect("one content of all makes the sum zero"));
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
}

fn payloads_of_every_length_keep_their_checksums_right() {
    let mut rig = Rig::standard();
    let packets = [udp(HOST, 1, REMOTE, 2), tcp(HOST, 1, REMOTE, 2, SYN), echo_request(HOST, 1, REMOTE)];
    for packet in packets {
        rig.establish(&packet);
        for length in (0..40).chain([511, 512, 1_000, 1_459]) {
            let content: Vec<u8> = (0..length).map(|place| (place * 7 + 3) as u8).collect();
            let packet = packet.clone().payload(&content);
            let leaving = packet.translated(ELASTIC_IP, PORT);
            rig.expect(Internal, &packet, outbound(&leaving));
            let answer = leaving.answer();
            rig.expect(External, &answer, inbound(&answer.delivered(HOST, 1)));
        }
    }
}

fn ip_options_without_effect_are_kept() {
    let mut rig = Rig::standard();
    let router_alert = [148, 4, 0, 0];
    let long = [[1; 4]; 10].concat();
    for options in [&[1, 1, 1, 1][..], &[1, 1, 1, 0], &[0, 0xff, 0xff, 0xff], &router_alert, &long] {
        rig.case(format!("options {options:?}"));
        let port = 5000 + u16::from(options[0]) + options.len() as u16 + u16::from(options[3]);
        let with_options = |packet: Packet| {
            packet.with(|packet| packet.ip.options = options.try_into().expect("whole words"))
        };
        let request = with_options(tcp(HOST, port, REMOTE, port, SYN));
        let leaving = rig.open(&request);
        let answer = with_options(leaving.answer());
        rig.expect(External, &answer, inbound(&answer.delivered(HOST, port)).judged());
    }
}

fn fields_that_translation_does_not_concern_are_untouched() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.establish(&request);
    for (dscp, ecn) in [(46, IpEcn::NotEct), (0, IpEcn::Ect0), (63, IpEcn::CongestionExperienced)] {
        for (identification, dont_fragment, ttl) in [(0, true, 255), (0xffff, true, 2), (1, false, 64)] {
            let marked = |packet: Packet, dont_fragment| {
                packet.with(|packet| {
                    packet.ip.dscp = IpDscp::try_new(dscp).expect("six bits");
                    packet.ip.ecn = ecn;
                    packet.ip.identification = identification;
                    packet.ip.dont_fragment = dont_fragment;
                    packet.ip.time_to_live = ttl;
                })
            };
            // What goes out and may be fragmented gets an identification of the gateway's own.
            let request = marked(request.clone(), true);
            let leaving = request.translated(ELASTIC_IP, PORT);
            rig.expect(Internal, &request, outbound(&leaving));
            let answer = marked(leaving.answer(), dont_fragment);
            rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
        }
    }
}

fn the_reserved_flag_bit_is_untouched() {
    let mut rig = Rig::standard();
    let reserved = |packet: &Packet| {
        let mut frame = packet.frame();
        frame[packet.l3() + 6] |= 0x80;
        fix_ip_checksum(&mut frame, packet.l3());
        frame
    };
    let request = udp(HOST, 5000, REMOTE, 53);
    let leaving = request.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, reserved(&request), outbound(reserved(&leaving)).opening());
}

fn tcp_options_and_every_flag_are_untouched() {
    let mut rig = Rig::standard();
    rig.connect(HOST, 5000, REMOTE, 443);
    // MSS, window scale, SACK permitted, timestamps, MPTCP, an experiment: any order, as they stand.
    let options = [2, 4, 5, 0xb4, 3, 3, 7, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 30, 4, 0, 1, 253, 4, 9, 9, 1];
    let segment = tcp(HOST, 5000, REMOTE, 443, ACK).with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            header.set_options_raw(&options).expect("fits the header");
            (header.psh, header.urg, header.ece, header.cwr, header.ns) = (true, true, true, true, true);
            header.urgent_pointer = 0xabcd;
            header.window_size = 0xffff;
        }
    });
    let leaving = segment.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &segment, outbound(&leaving));
    let answer = leaving.answer();
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
}

fn a_wrong_transport_checksum_stays_wrong_by_the_same_amount() {
    let mut rig = Rig::standard();
    let packets = [udp(HOST, 1, REMOTE, 2), tcp(HOST, 1, REMOTE, 2, SYN), echo_request(HOST, 1, REMOTE)];
    // A bit of the content flips after the checksum was computed: it must be just as wrong behind the gateway.
    let damaged = |packet: &Packet| {
        let mut frame = packet.frame();
        *frame.last_mut().expect("a frame has bytes") ^= 0x10;
        frame
    };
    for packet in packets {
        let (leaving, answer) = rig.establish(&packet);
        rig.expect(Internal, damaged(&packet), outbound(damaged(&leaving)));
        rig.expect(External, damaged(&answer), inbound(damaged(&answer.delivered(HOST, 1))));
    }
}

fn ethernet_padding_is_no_part_of_the_packet() {
    let mut rig = Rig::standard();
    let padded = |packet: Packet, padding| packet.with(|packet| packet.padding = padding);
    let segment = padded(tcp(HOST, 5000, REMOTE, 443, SYN).payload(b""), 6);
    assert_eq!(segment.frame().len(), 60);
    let leaving = rig.open(&segment);
    let answer = padded(leaving.answer(), 9);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
    let request = padded(udp(HOST, 5000, REMOTE, 53).payload(b""), 18);
    rig.open(&request);
}

fn random_endpoints_are_translated_there_and_back() {
    let mut rig = Rig::standard();
    let mut random = crate::random::Random::new(1624);
    for _ in 0..300 {
        let remote = std::net::Ipv4Addr::new(192, 0, random.below(2) as u8 + 1, random.below(256) as u8);
        let host = if random.below(2) == 0 { HOST } else { SECOND_HOST };
        let (port, remote_port) = (random.below(65_536) as u16, random.below(65_536) as u16);
        let content = random.bytes(64);
        let packet = match random.below(2) {
            0 => udp(host, port, remote, remote_port),
            _ => tcp(host, port, remote, remote_port, SYN),
        };
        let known = |state: &State| state.flows.len();
        let before = known(&rig.state());
        rig.establish(&packet.payload(&content));
        assert_eq!(known(&rig.state()), before + 2);
    }
}

fn a_packet_of_a_sessions_own_host_and_port_to_another_remote_is_a_session_of_its_own() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.establish(&udp(HOST, 5000, REMOTE, 54));
    rig.establish(&udp(HOST, 5000, REMOTE_2, 53));
    rig.establish(&tcp(HOST, 5000, REMOTE, 53, SYN));
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    assert_eq!(rig.sessions().len(), 5);
}
