//! Fragments: the first one goes the way of a whole packet, the others follow it, and what could deceive is refused.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::SYN,
    *,
};

super::tests![
    fragments_in_order_are_translated_both_ways,
    fragments_between_subnets_follow_the_first_ones_verdict,
    fragments_of_a_denied_datagram_never_pass,
    fragments_pass_with_ip_options,
    a_first_fragment_without_its_whole_transport_header_is_refused,
    a_fragment_that_would_lie_over_the_transport_header_is_refused,
    a_second_first_fragment_with_other_ports_is_refused,
    a_fragment_that_ends_beyond_any_packet_is_refused,
    a_fragment_of_odd_length_that_is_not_the_last_is_refused,
    a_fragmented_icmp_error_is_refused,
    a_fragment_of_anothers_datagram_does_not_pass,
    a_fragment_that_could_never_pass_is_refused_and_not_held,
    a_fragment_whose_ttl_runs_out_is_refused_without_an_answer,
    fragments_stop_with_their_generation,
    fragments_stop_with_their_lifetime,
    as_aws_does_it_only_udp_passes_in_fragments,
    fragments_for_the_host_itself_go_to_its_stack,
    a_flood_of_unknown_fragments_neither_costs_memory_nor_harms_others,
    a_flood_of_first_fragments_displaces_no_other_sources,
];

/// One datagram of every protocol, of 93 to 105 bytes of content, and its session's inbound counterpart.
pub fn datagrams() -> [(&'static str, Packet); 3] {
    let content: Vec<u8> = (0..85).collect();
    [
        ("udp", udp(HOST, 5000, REMOTE, 53).payload(&content)),
        ("tcp", tcp(HOST, 5000, REMOTE, 80, SYN).payload(&content)),
        ("icmp", echo_request(HOST, 77, REMOTE).payload(&content)),
    ]
}

/// The fragments of a datagram and how they leave, which is how its own would.
pub fn both(packet: &Packet, leaving: &Packet, cuts: &[usize]) -> Vec<(Packet, Packet)> {
    fragments(packet, cuts).into_iter().zip(fragments(leaving, cuts)).collect()
}

/// Forwarded as a fragment that is not the first: no session is touched.
pub fn following(expected: Expected) -> Expected {
    expected.refreshing_nothing()
}

fn fragments_in_order_are_translated_both_ways() {
    for cuts in [&[3][..], &[4, 8], &[3, 4, 5, 6]] {
        for (name, packet) in datagrams() {
            let mut rig = Rig::standard();
            let leaving = packet.translated(ELASTIC_IP, PORT);
            for (number, (came, left)) in both(&packet, &leaving, cuts).iter().enumerate() {
                rig.case(format!("{name}, outbound fragment {number} of cuts {cuts:?}"));
                let expected = outbound(left);
                rig.expect(
                    Internal,
                    came,
                    match (number, name) {
                        (0, "tcp") => expected.numbered().connecting(),
                        (0, _) => expected.numbered().opening(),
                        _ => following(expected).numbered_alike(),
                    },
                );
            }
            let back = leaving.answer().with(|answer| answer.ip.identification = 0x0102);
            let delivered = back.delivered(HOST, if name == "icmp" { 77 } else { 5000 });
            for (number, (came, left)) in both(&back, &delivered, cuts).iter().enumerate() {
                rig.case(format!("{name}, inbound fragment {number} of cuts {cuts:?}"));
                let expected = inbound(left);
                rig.expect(
                    External,
                    came,
                    match number {
                        0 => expected.judged(),
                        _ => following(expected),
                    },
                );
            }
        }
    }
}

fn fragments_between_subnets_follow_the_first_ones_verdict() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, HOST_B, 53).payload(&[7; 100]);
    for (number, (came, left)) in both(&packet, &packet.forwarded(), &[3, 6]).iter().enumerate() {
        let expected = forwarded_locally(left);
        rig.expect(Internal, came, if number == 0 { expected.moves("hop_lookups", 1) } else { expected });
    }
}

/// As [`local`], of a fragment whose hop is known.
fn forwarded_locally(left: &Packet) -> Expected {
    local(left).without("hop_lookups")
}

fn fragments_of_a_denied_datagram_never_pass() {
    const ALL: &str = r#"{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;
    let deny = r#"{ rule = 50, action = "deny", protocol = "udp", cidr = "0.0.0.0/0", ports = "53" }"#;
    let mut rig = Rig::with(&Layout::with_private_nacl(ALL, &format!("{deny}, {ALL}")));
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    let pieces = fragments(&packet, &[3, 6]);
    rig.expect(Internal, &pieces[0], dropped(Reason::NaclOutbound));
    for piece in &pieces[1..] {
        rig.expect(Internal, piece, held());
    }
}

fn fragments_pass_with_ip_options() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53)
        .payload(&[7; 100])
        .with(|packet| packet.ip.options = [0x94, 4, 0, 0].into());
    let leaving = packet.translated(ELASTIC_IP, PORT);
    for (number, (came, left)) in both(&packet, &leaving, &[3, 6]).iter().enumerate() {
        let expected = outbound(left);
        let first = number == 0;
        let expected = if first { expected.numbered() } else { following(expected).numbered_alike() };
        rig.expect(Internal, came, if first { expected.opening() } else { expected });
    }
}

fn a_first_fragment_without_its_whole_transport_header_is_refused() {
    for (name, packet) in datagrams() {
        let mut rig = Rig::standard();
        let bytes = packet.bytes()[20..].to_vec();
        for length in [8, 16] {
            rig.case(format!("{name}, {length} bytes"));
            let piece = fragment(&packet, 0, true, &bytes[..length]);
            if name == "tcp" {
                rig.expect(Internal, &piece, dropped(Reason::FragmentTiny));
            }
        }
        rig.case(format!("{name}, nothing"));
        rig.expect(Internal, &fragment(&packet, 0, true, &[]), dropped(Reason::FragmentMalformed));
    }
    let mut rig = Rig::standard();
    let mut options = tcp(HOST, 5000, REMOTE, 80, SYN).payload(&[7; 60]).bytes()[20..].to_vec();
    options[12] = 15 << 4;
    let piece = fragment(&tcp(HOST, 5000, REMOTE, 80, SYN), 0, true, &options[..24]);
    rig.expect(Internal, &piece, dropped(Reason::TcpHeaderLength));
}

fn a_fragment_that_would_lie_over_the_transport_header_is_refused() {
    let mut rig = Rig::standard();
    for (name, packet) in datagrams() {
        let first = &fragments(&packet, &[4])[0];
        assert!(rig.send(Internal, first).verdict == Verdict::Redirect, "{name} opens");
    }
    let tcp = tcp(HOST, 5000, REMOTE, 80, SYN);
    for offset in [1, 2] {
        for more in [true, false] {
            rig.expect(Internal, &fragment(&tcp, offset, more, &[9; 24]), dropped(Reason::FragmentOverlap));
        }
    }
    let sound = fragment(&tcp, 3, false, &[9; 24]);
    assert_eq!(rig.send(Internal, &sound).verdict, Verdict::Redirect, "behind the header there is no harm");
    let udp = fragment(&udp(HOST, 5000, REMOTE, 53), 1, true, &[9; 24]);
    assert_eq!(rig.send(Internal, &udp).verdict, Verdict::Redirect, "UDP's header ends there");
}

/// The attack of RFC 3128 §2: a first fragment that may pass, and another one with other ports over it.
fn a_second_first_fragment_with_other_ports_is_refused() {
    let mut rig = Rig::standard();
    let packet = |port| tcp(HOST, 5000, REMOTE, port, SYN).payload(&[7; 100]);
    let decoy = fragments(&packet(80), &[4, 8]);
    let attack = fragments(&packet(23), &[4, 8]);
    assert_eq!(rig.send(Internal, &decoy[0]).verdict, Verdict::Redirect);
    let sessions = rig.sessions().len();
    rig.expect(Internal, &attack[0], dropped(Reason::FragmentOverlap));
    assert_eq!(rig.sessions().len(), sessions, "a refused fragment opens nothing");
    assert_eq!(rig.send(Internal, &decoy[0]).verdict, Verdict::Redirect, "the same once more is no attack");
    let other = fragments(&packet(23).with(|packet| packet.ip.identification = 1), &[4, 8]);
    assert_eq!(rig.send(Internal, &other[0]).verdict, Verdict::Redirect, "nor is another datagram");
    // All of the first datagram has passed: its identification is free again.
    for piece in &decoy[1..] {
        assert_eq!(rig.send(Internal, piece).verdict, Verdict::Redirect);
    }
    assert_eq!(rig.send(Internal, &attack[0]).verdict, Verdict::Redirect);
}

fn a_fragment_that_ends_beyond_any_packet_is_refused() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    assert_eq!(rig.send(Internal, &fragments(&packet, &[4])[0]).verdict, Verdict::Redirect);
    rig.expect(Internal, &fragment(&packet, 0x1fff, false, &[7; 8]), dropped(Reason::FragmentMalformed));
    rig.expect(Internal, &fragment(&packet, 0x1fff, true, &[7; 800]), dropped(Reason::FragmentMalformed));
    // 65,535 bytes in all with the header: 65,515 of content.
    let last = fragment(&packet, 0x1ffd, false, &[7; 3]);
    assert_eq!(rig.send(Internal, &last).verdict, Verdict::Redirect);
    rig.expect(Internal, &fragment(&packet, 0x1ffd, false, &[7; 4]), dropped(Reason::FragmentMalformed));
}

fn a_fragment_of_odd_length_that_is_not_the_last_is_refused() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    let bytes = packet.bytes()[20..].to_vec();
    rig.expect(Internal, &fragment(&packet, 0, true, &bytes[..23]), dropped(Reason::FragmentMalformed));
    rig.expect(Internal, &fragment(&packet, 4, true, &bytes[..23]), dropped(Reason::FragmentMalformed));
}

fn a_fragmented_icmp_error_is_refused() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    rig.open(&packet);
    let quote = packet.translated(ELASTIC_IP, PORT).quote(64);
    let error = icmp_error(REMOTE, ELASTIC_IP, 3, 3, quote);
    rig.expect(External, &fragments(&error, &[5])[0], dropped(Reason::FragmentIcmpError));
}

fn a_fragment_of_anothers_datagram_does_not_pass() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    let pieces = fragments(&packet, &[4]);
    assert_eq!(rig.send(Internal, &pieces[0]).verdict, Verdict::Redirect);
    type Change = fn(&mut Packet);
    let changes: [(&str, Change); 4] = [
        ("identification", |packet| packet.ip.identification ^= 1),
        ("destination", |packet| packet.ip.destination = REMOTE_2.octets()),
        ("source", |packet| packet.ip.source = SECOND_HOST.octets()),
        ("protocol", |packet| packet.body = Body::Raw(6, vec![7; 76])),
    ];
    for (name, change) in changes {
        rig.case(name);
        rig.expect(Internal, &pieces[1].clone().with(change), held());
    }
}

fn a_fragment_that_could_never_pass_is_refused_and_not_held() {
    let mut rig = Rig::standard();
    let later = |packet: &Packet| fragment(packet, 9, true, &[7; 16]);
    let cases = [
        (External, udp(REMOTE, 53, STRANGER, 80), Reason::NotForGateway),
        (Internal, udp(HOST, 5000, ELASTIC_IP, 80), Reason::FragmentHairpin),
        (Internal, udp(STRANGER, 5000, REMOTE, 80), Reason::SourceNotInSubnet),
        (
            Internal,
            udp(HOST, 1, REMOTE, 1).with(|packet| packet.body = Body::Raw(47, vec![1])),
            Reason::Protocol,
        ),
    ];
    for (side, packet, reason) in cases {
        let frame = later(&packet).with(|piece| piece.macs = [side.mac(), mac_of(HOST)]);
        rig.case(reason.name());
        rig.expect(side, &frame, dropped(reason));
    }
    assert_eq!(rig.slow().len(), 0);
}

fn a_fragment_whose_ttl_runs_out_is_refused_without_an_answer() {
    let mut rig = Rig::standard();
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]);
    let pieces = fragments(&packet, &[4]);
    let first = pieces[0].clone().ttl(1);
    rig.open(&packet);
    rig.expect(Internal, &first, replied(&first.answered(INTERNAL_ADDRESS, 11, 0, 0)));
    assert_eq!(rig.send(Internal, &pieces[0]).verdict, Verdict::Redirect);
    for ttl in [0, 1] {
        rig.expect(Internal, &pieces[1].clone().ttl(ttl), dropped(Reason::TtlExpired));
    }
}

fn fragments_stop_with_their_generation() {
    let mut rig = Rig::standard();
    let pieces = fragments(&udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]), &[4]);
    assert_eq!(rig.send(Internal, &pieces[0]).verdict, Verdict::Redirect);
    rig.renew_generation();
    rig.expect(Internal, &pieces[1], dropped(Reason::FragmentUnknown));
}

fn fragments_stop_with_their_lifetime() {
    let mut rig = Rig::with(&Layout::with_limits("[timeouts]\nfragments = 1\n"));
    let pieces = fragments(&udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]), &[4]);
    assert_eq!(rig.send(Internal, &pieces[0]).verdict, Verdict::Redirect);
    // A second is within one tick, which is 1.07 s long; two of these and the clock's 160 ms are past it.
    std::thread::sleep(std::time::Duration::from_millis(2_400));
    rig.expect(Internal, &pieces[1], held());
}

fn as_aws_does_it_only_udp_passes_in_fragments() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nfragments = \"aws\"\n"));
    for (name, packet) in datagrams() {
        let pieces = both(&packet, &packet.translated(ELASTIC_IP, PORT), &[4]);
        for (number, (came, left)) in pieces.iter().enumerate() {
            rig.case(format!("{name}, fragment {number}"));
            rig.expect(
                Internal,
                came,
                match (name, number) {
                    ("udp", 0) => outbound(left).numbered().opening(),
                    ("udp", _) => following(outbound(left)).numbered_alike(),
                    _ => dropped(Reason::FragmentsOff),
                },
            );
        }
    }
}

fn fragments_for_the_host_itself_go_to_its_stack() {
    let mut rig = Rig::standard();
    for (side, packet) in [
        (Internal, udp(HOST, 5000, INTERNAL_ADDRESS, 53).payload(&[7; 100])),
        (External, udp(REMOTE, 53, EXTERNAL_ADDRESS, 5000).payload(&[7; 100])),
    ] {
        for piece in fragments(&packet, &[4, 8]).iter().rev() {
            rig.expect(side, piece, stack());
        }
    }
}

fn a_flood_of_unknown_fragments_neither_costs_memory_nor_harms_others() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nmax_fragmented_datagrams = 64\n"));
    let whole = udp(HOST, 5000, REMOTE, 53);
    rig.open(&whole);
    let packet =
        |id: u16| udp(HOST, 5000, REMOTE, 53).payload(&[7; 100]).with(|packet| packet.ip.identification = id);
    let under_way = fragments(&packet(0xffff), &[4, 8]);
    let leaving = fragments(&packet(0xffff).translated(ELASTIC_IP, PORT), &[4, 8]);
    rig.expect(Internal, &under_way[0], outbound(&leaving[0]).numbered());
    for id in 0..4_000 {
        let stray = fragment(&packet(id), 9, id % 2 == 0, &[7; 16]);
        assert_eq!(rig.send(Internal, &stray).verdict, Verdict::Drop);
        rig.slow();
    }
    for number in [1, 2] {
        rig.expect(Internal, &under_way[number], following(outbound(&leaving[number])).numbered_alike());
    }
    rig.expect(Internal, &whole, outbound(&whole.translated(ELASTIC_IP, PORT)));
}

fn a_flood_of_first_fragments_displaces_no_other_sources() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nmax_fragmented_datagrams = 64\n"));
    let packet = |host, id: u16| {
        udp(host, 5000, REMOTE, 53).payload(&[7; 100]).with(|packet| packet.ip.identification = id)
    };
    rig.open(&packet(HOST, 1));
    let victim = fragments(&udp(SECOND_HOST, 5000, REMOTE_2, 53).payload(&[7; 100]), &[4]);
    assert_eq!(rig.send(Internal, &victim[0]).verdict, Verdict::Redirect);
    for id in 0..20_000 {
        let first = &fragments(&packet(HOST, id), &[4])[0];
        assert_eq!(rig.send(Internal, first).verdict, Verdict::Redirect, "it displaces its own at worst");
    }
    assert_eq!(rig.send(Internal, &victim[1]).verdict, Verdict::Redirect);
}
