//! IPv4 identifications: one numbering for all that leaves from an Elastic IP and may be fragmented (RFC 6864 §5.3.1).

use std::collections::BTreeSet;

use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, SYN},
    *,
};

super::tests![
    datagrams_of_two_hosts_with_one_identification_leave_with_different_ones,
    every_protocol_is_numbered_and_every_checksum_is_right,
    what_is_never_fragmented_keeps_its_identification,
    what_comes_in_or_stays_inside_keeps_its_identification,
    five_thousand_datagrams_toward_one_remote_have_as_many_identifications,
    an_error_from_inside_is_numbered_and_its_quote_is_not,
    an_error_about_a_numbered_packet_finds_its_session,
];

fn divisible(packet: Packet) -> Packet {
    packet.with(|packet| packet.ip.dont_fragment = false)
}

fn identification(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[18], frame[19]])
}

/// Lets an outbound packet arrive that is to leave like `leaving` but for its identification, which it returns.
fn send(rig: &mut Rig, packet: &Packet, leaving: &Packet) -> u16 {
    let Outcome { verdict, frame } = rig.send(Internal, packet);
    assert_eq!(verdict, Verdict::Redirect);
    let number = identification(&frame);
    let leaving = leaving.clone().with(|packet| packet.ip.identification = number);
    assert_eq!(frame, leaving.frame());
    number
}

fn datagrams_of_two_hosts_with_one_identification_leave_with_different_ones() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40001"));
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        for host in [HOST, SECOND_HOST] {
            let packet = divisible(udp(host, 5000, REMOTE, 53)).with(|packet| packet.ip.identification = 777);
            let frame = rig.send(Internal, &packet).frame;
            let port = u16::from_be_bytes([frame[34], frame[35]]);
            let number = identification(&frame);
            let leaving =
                packet.translated(ELASTIC_IP, port).with(|packet| packet.ip.identification = number);
            assert_eq!(frame, leaving.frame());
            assert!(seen.insert(number), "{number} comes twice");
        }
    }
    assert_eq!(seen.len(), 100);
}

fn every_protocol_is_numbered_and_every_checksum_is_right() {
    let mut rig = Rig::standard();
    let segment = |flags| divisible(tcp(HOST, 5000, REMOTE, 443, flags));
    for packet in [
        divisible(udp(HOST, 5000, REMOTE, 53)),
        segment(SYN),
        segment(ACK),
        divisible(echo_request(HOST, 5000, REMOTE)),
        divisible(udp(HOST, 5000, REMOTE_2, 54)).with(|packet| packet.ip.options = [1; 8].into()),
    ] {
        let leaving = packet.translated(ELASTIC_IP, PORT);
        let numbers: BTreeSet<_> = (0..20).map(|_| send(&mut rig, &packet, &leaving)).collect();
        assert_eq!(numbers.len(), 20);
    }
}

fn what_is_never_fragmented_keeps_its_identification() {
    let mut rig = Rig::standard();
    for number in [0, 1, 777, 0xffff] {
        let packet = udp(HOST, 5000, REMOTE, 53).with(|packet| packet.ip.identification = number);
        let leaving = packet.translated(ELASTIC_IP, PORT);
        assert_eq!(send(&mut rig, &packet, &leaving), number);
    }
}

fn what_comes_in_or_stays_inside_keeps_its_identification() {
    let mut rig = Rig::standard();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let answer = divisible(answer);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
    let between = divisible(udp(HOST, 5000, HOST_B, 53));
    rig.expect(Internal, &between, local(&between.forwarded()));
}

fn five_thousand_datagrams_toward_one_remote_have_as_many_identifications() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40007"));
    let mut seen = BTreeSet::new();
    for number in 0..5_000_u16 {
        let packet = divisible(udp(HOST, 5000 + number % 8, REMOTE, 53)).frame();
        assert!(seen.insert(identification(&rig.send(Internal, &packet[..]).frame)), "at {number}");
        // Others draw from the same counts.
        let other = std::net::Ipv4Addr::new(192, 0, 2, (number % 200) as u8);
        rig.send(Internal, &divisible(udp(HOST, 5000, other, 54)));
    }
}

fn an_error_from_inside_is_numbered_and_its_quote_is_not() {
    let mut rig = Rig::standard();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let error = divisible(icmp_error(HOST, REMOTE, 3, 3, answer.delivered(HOST, 5000).quote(8)));
    let told = error.clone().payload(&answer.ttl(63).quote(8)).translated(ELASTIC_IP, 0);
    let numbers: BTreeSet<_> = (0..20).map(|_| send(&mut rig, &error, &told)).collect();
    assert_eq!(numbers.len(), 20);
}

/// Nobody knows any more which identification it came with: the quote keeps the one that it left with.
fn an_error_about_a_numbered_packet_finds_its_session() {
    let mut rig = Rig::standard();
    let request = divisible(udp(HOST, 5000, REMOTE, 53));
    let number = send(&mut rig, &request, &request.translated(ELASTIC_IP, PORT));
    let numbered = |packet: Packet| packet.with(|packet| packet.ip.identification = number);
    let error =
        icmp_error(STRANGER, ELASTIC_IP, 3, 3, numbered(request.translated(ELASTIC_IP, PORT)).quote(8));
    let told = error.clone().payload(&numbered(request.ttl(63)).quote(8)).delivered(HOST, 0);
    rig.expect(External, &error, inbound(&told).judged().refreshing_nothing());
}
