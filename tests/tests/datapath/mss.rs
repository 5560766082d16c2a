//! MSS clamping: only of a SYN, only lowered, only where a NAT gateway says so.

use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, SYN},
    *,
};

super::tests![
    the_mss_of_a_syn_is_lowered_to_the_limit_in_both_directions,
    an_mss_below_the_limit_or_none_at_all_is_left_alone,
    without_a_limit_the_mss_is_left_alone,
    only_a_syn_has_its_mss_lowered,
    an_mss_at_an_odd_place_is_lowered_with_the_checksum_right,
    options_of_impossible_lengths_are_left_alone,
    a_syn_that_is_sent_again_is_lowered_again,
    the_limit_follows_the_mtu_of_the_external_link,
    the_limit_follows_the_mtu_of_the_internal_link,
    the_limit_follows_the_mtu_of_the_route,
    a_syn_that_may_be_fragmented_is_lowered_and_numbered,
];

fn clamping(limit: &str) -> Layout {
    Layout::default().gateway_option(&format!("mss_clamp = {limit}"))
}

fn with_options(packet: Packet, options: &[u8]) -> Packet {
    packet.with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            header.set_options_raw(options).expect("40 bytes at most");
        }
    })
}

fn with_mss(packet: Packet, mss: u16) -> Packet {
    let [high, low] = mss.to_be_bytes();
    // As Linux sends them: MSS, SACK permitted, timestamps, NOP, window scale.
    let rest = [4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    with_options(packet, &[&[2, 4, high, low][..], &rest].concat())
}

fn syn() -> Packet {
    tcp(HOST, 5000, REMOTE, 443, SYN)
}

/// The first SYN announces `sent` and leaves with `left`, and so does the answer.
fn announce(rig: &mut Rig, sent: u16, left: u16) {
    rig.case(format!("{sent} becomes {left}"));
    let leaving = with_mss(syn(), left).translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &with_mss(syn(), sent), outbound(&leaving).connecting());
    let answer = tcp(REMOTE, 443, ELASTIC_IP, PORT, SYN | ACK);
    let told = with_mss(answer.delivered(HOST, 5000), left);
    rig.expect(External, &with_mss(answer, sent), inbound(&told).judged());
    assert_eq!(rig.age(8_000).0, 1);
}

fn the_mss_of_a_syn_is_lowered_to_the_limit_in_both_directions() {
    let mut rig = Rig::with(&clamping("1260"));
    for sent in [1_261, 1_460, 8_960, 65_535] {
        announce(&mut rig, sent, 1_260);
    }
}

fn an_mss_below_the_limit_or_none_at_all_is_left_alone() {
    let mut rig = Rig::with(&clamping("1260"));
    for sent in [1_260, 1_200, 536, 0] {
        announce(&mut rig, sent, sent);
    }
    rig.open(&syn());
    rig.age(8_000);
    rig.open(&with_options(syn(), &[1, 1, 1, 1]));
}

fn without_a_limit_the_mss_is_left_alone() {
    for layout in [Layout::default(), clamping("\"off\"")] {
        let mut rig = Rig::with(&layout);
        announce(&mut rig, 65_535, 65_535);
        announce(&mut rig, 1_460, 1_460);
    }
}

fn only_a_syn_has_its_mss_lowered() {
    let mut rig = Rig::with(&clamping("1260"));
    rig.connect(HOST, 5000, REMOTE, 443);
    let segment = with_mss(tcp(HOST, 5000, REMOTE, 443, ACK), 1_460);
    rig.expect(Internal, &segment, outbound(&segment.translated(ELASTIC_IP, PORT)));
    // Nor does a datagram that looks like one.
    let Body::Tcp(header, _) = with_mss(syn(), 1_460).body else { panic!("a SYN is TCP") };
    rig.open(&udp(HOST, 5000, REMOTE, 443).payload(&header.to_bytes()));
}

fn an_mss_at_an_odd_place_is_lowered_with_the_checksum_right() {
    let mut rig = Rig::with(&clamping("1260"));
    for options in [[1, 2, 4, 0xff, 0xfe, 1, 1, 0], [1, 1, 1, 2, 4, 0x05, 0xb4, 0]] {
        let at = options.iter().position(|kind| *kind == 2).expect("there is one");
        let mut lowered = options;
        lowered[at + 2..at + 4].copy_from_slice(&1_260_u16.to_be_bytes());
        let leaving = with_options(syn(), &lowered).translated(ELASTIC_IP, PORT);
        rig.expect(Internal, &with_options(syn(), &options), outbound(&leaving).connecting());
        rig.age(8_000);
    }
    // At the very end of forty bytes.
    let mut options = [1; 40];
    options[36..].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    let mut lowered = options;
    lowered[38..].copy_from_slice(&1_260_u16.to_be_bytes());
    let leaving = with_options(syn(), &lowered).translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &with_options(syn(), &options), outbound(&leaving).connecting());
}

fn options_of_impossible_lengths_are_left_alone() {
    let mut rig = Rig::with(&clamping("1260"));
    let cases: [&[u8]; 11] = [
        &[0, 2, 4, 0x05, 0xb4, 0, 0, 0],
        &[2, 3, 0x05, 0xb4],
        &[2, 5, 0x05, 0xb4, 0, 0, 0, 0],
        &[2, 0, 0x05, 0xb4],
        &[2, 1, 0x05, 0xb4],
        &[2, 255, 0x05, 0xb4],
        &[3, 0, 2, 4, 0x05, 0xb4, 0, 0],
        &[8, 1, 2, 4, 0x05, 0xb4, 0, 0],
        &[8, 9, 2, 4, 0x05, 0xb4, 0, 0],
        &[1, 1, 1, 2],
        &[1, 1, 2, 4],
    ];
    for options in cases {
        rig.case(format!("options {options:02x?}"));
        rig.open(&with_options(syn(), options));
        assert_eq!(rig.age(8_000).0, 1);
    }
}

fn a_syn_that_is_sent_again_is_lowered_again() {
    let mut rig = Rig::with(&clamping("1260"));
    let leaving = with_mss(syn(), 1_260).translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &with_mss(syn(), 1_460), outbound(&leaving).connecting());
    rig.expect(Internal, &with_mss(syn(), 1_460), outbound(&leaving));
    let answer = tcp(REMOTE, 443, ELASTIC_IP, PORT, SYN | ACK);
    let told = with_mss(answer.delivered(HOST, 5000), 1_260);
    rig.expect(External, &with_mss(answer.clone(), 1_460), inbound(&told).judged());
    rig.expect(External, &with_mss(answer, 1_460), inbound(&told));
}

fn the_limit_follows_the_mtu_of_the_external_link() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &clamping("\"auto\""));
    announce(&mut rig, 1_460, 1_260);
    announce(&mut rig, 1_200, 1_200);
}

fn the_limit_follows_the_mtu_of_the_internal_link() {
    let mut rig = Rig::standard();
    rig.ip("link set int0 mtu 1400\nlink set int1 mtu 1200\n");
    rig.apply(&clamping("\"auto\""));
    announce(&mut rig, 1_460, 1_360);
}

fn the_limit_follows_the_mtu_of_the_route() {
    let mut rig = Rig::standard();
    rig.ip(&format!("route add {REMOTE} via {ROUTER} mtu lock 1100\n"));
    rig.apply(&clamping("\"auto\""));
    announce(&mut rig, 1_460, 1_060);
}

fn a_syn_that_may_be_fragmented_is_lowered_and_numbered() {
    let mut rig = Rig::with(&clamping("1260"));
    let divisible = |packet: Packet| packet.with(|packet| packet.ip.dont_fragment = false);
    let Outcome { verdict, frame } = rig.send(Internal, &divisible(with_mss(syn(), 1_460)));
    assert_eq!(verdict, Verdict::Redirect);
    let number = u16::from_be_bytes([frame[18], frame[19]]);
    let leaving = divisible(with_mss(syn(), 1_260)).translated(ELASTIC_IP, PORT);
    assert_eq!(frame, leaving.with(|packet| packet.ip.identification = number).frame());
}
