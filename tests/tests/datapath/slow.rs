//! What the data plane leaves to the controller: fragments before their first one, and what is too big for the next link.

use DropReason as Reason;
use natgw_tests::datapath::{Side::Internal, *};

use super::fragment::{both, datagrams, following};

super::tests![
    a_fragment_before_its_first_one_is_held,
    what_is_held_is_bounded_in_a_tick,
    a_packet_too_big_for_the_next_link_is_left_to_be_fragmented,
    a_fragment_too_big_for_the_next_link_is_left_to_be_fragmented,
];

fn a_fragment_before_its_first_one_is_held() {
    for (name, packet) in datagrams() {
        let mut rig = Rig::standard();
        let leaving = packet.translated(ELASTIC_IP, PORT);
        let pieces = both(&packet, &leaving, &[4, 8]);
        rig.case(name);
        rig.expect(Internal, &pieces[2].0, held());
        let (head, bytes) = rig.slow().pop().expect("it is handed to the controller");
        assert_eq!(bytes, pieces[2].0.bytes(), "as it came");
        assert_eq!((head.mtu, head.key.source_address()), (0, HOST));
        assert_eq!(rig.slow_record(&head, &bytes), None);
        let first = outbound(&pieces[0].1).numbered();
        rig.expect(Internal, &pieces[0].0, if name == "tcp" { first.connecting() } else { first.opening() });
        let record = rig.slow_record(&head, &bytes).expect("the first fragment has left a record");
        assert_eq!(address(record.address), ELASTIC_IP);
        rig.expect(Internal, &pieces[1].0, following(outbound(&pieces[1].1)).numbered_alike());
    }
}

fn what_is_held_is_bounded_in_a_tick() {
    let mut rig = Rig::standard();
    let before = rig.state();
    for id in 0..6_000 {
        let packet = udp(HOST, 5000, REMOTE, 53).with(|packet| packet.ip.identification = id);
        assert_eq!(rig.send(Internal, &fragment(&packet, 9, true, &[7; 16])).verdict, Verdict::Drop);
        rig.slow();
    }
    let change = rig.state().since(&before);
    let (held, refused) = (change.counters["held_packets"], change.drops["fragment_unknown"]);
    assert_eq!(held + refused, 6_000);
    // Four ticks are more than this takes.
    assert!(held % 1_024 == 0 && held <= 4 * 1_024, "{held} fragments were held");
}

fn a_packet_too_big_for_the_next_link_is_left_to_be_fragmented() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &Layout::default());
    for (name, packet) in datagrams() {
        let big = packet.payload(&[7; 1_400]).with(|packet| packet.ip.dont_fragment = false);
        let expected = divided(outbound(&big));
        rig.case(name);
        rig.expect(Internal, &big, if name == "tcp" { expected.connecting() } else { expected.opening() });
        let (head, bytes) = rig.slow().pop().expect("it is handed to the controller");
        assert_eq!(bytes, big.bytes(), "as it came");
        assert_eq!((head.mtu, address(head.address), u16::from_be(head.port)), (1_300, ELASTIC_IP, PORT));
        assert_eq!((head.hop.destination, head.hop.ifindex()), (mac_of(ROUTER), rig.index("ext0")));
        rig.case(format!("{name}, of a session that is there"));
        rig.expect(Internal, &big, divided(outbound(&big)).judged());
        assert_eq!(rig.slow().len(), 1);
    }
}

fn a_fragment_too_big_for_the_next_link_is_left_to_be_fragmented() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &Layout::default());
    let packet = udp(HOST, 5000, REMOTE, 53).payload(&[7; 2_900]);
    let pieces = fragments(&packet, &[184, 350]);
    rig.expect(Internal, &pieces[0], divided(outbound(&pieces[0])).opening());
    // The last one would fit, and yet must not overtake the others.
    for piece in &pieces[1..] {
        rig.expect(Internal, piece, following(divided(outbound(piece))));
    }
    let handed: Vec<_> = rig.slow().into_iter().map(|(head, bytes)| (head.mtu, bytes)).collect();
    assert_eq!(handed, pieces.iter().map(|piece| (1_300, piece.bytes())).collect::<Vec<_>>());
    let packet = packet.with(|packet| packet.ip.identification = 7);
    let pieces = both(&packet, &packet.translated(ELASTIC_IP, PORT), &[100]);
    rig.expect(Internal, &pieces[0].0, outbound(&pieces[0].1).numbered());
    let big = following(divided(outbound(&pieces[1].0))).moves("hop_lookups", 1);
    rig.case("the first fits and the second does not");
    rig.expect(Internal, &pieces[1].0, big);
    let atomic = pieces[1].0.clone().with(|piece| piece.ip.dont_fragment = true);
    rig.case("the second must not be fragmented");
    rig.expect(Internal, &atomic, dropped(Reason::TooBig).moves("hop_lookups", 1));
}
