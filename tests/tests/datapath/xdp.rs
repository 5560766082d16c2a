//! Frames in several buffers, as drivers hand out jumbo frames: the kernel splits what is given to the XDP hook here
//! in parts of about 3,500 and 4,096 bytes, or where a test says.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::ACK,
    *,
};
use std::net::Ipv4Addr;

super::tests![
    frames_in_several_buffers_are_translated_both_ways,
    a_frame_in_several_buffers_is_as_long_as_all_of_them,
    a_frame_in_several_buffers_for_the_host_is_counted_whole,
    a_frame_in_several_buffers_too_big_for_the_next_link_is_answered,
    an_answer_quotes_across_buffers,
    a_header_beyond_the_first_buffer_is_refused,
    an_error_whose_quote_is_beyond_the_first_buffer_is_refused_or_translated_right,
];

/// Content that repeats at no power of two.
fn content(length: u16) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A gateway whose links carry the largest packets, but `ext0` only `external_mtu` bytes.
fn jumbo(external_mtu: u32) -> Rig {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu }, &Layout::default());
    rig.ip("link set int0 mtu 65535\nlink set int1 mtu 65535\nlink set int0.100 mtu 65535\n");
    rig.apply(&Layout::default());
    rig
}

/// A TCP segment and a UDP datagram of a private host in IP packets of this length.
fn packets(host: Ipv4Addr, port: u16, length: u16) -> [Packet; 2] {
    [
        tcp(host, port, REMOTE, port, ACK).payload(&content(length - 40)),
        udp(host, port, REMOTE, port).payload(&content(length - 28)),
    ]
}

fn frames_in_several_buffers_are_translated_both_ways() {
    let mut rig = jumbo(65_535);
    for host in [HOST, HOST_VLAN] {
        for length in [3_600, 9_000, 20_000, 60_000] {
            // The only port of the Elastic IP is free toward each port of the remote.
            let port = length + u16::from(host == HOST);
            rig.connect(host, port, REMOTE, port);
            rig.establish(&udp(host, port, REMOTE, port));
            for packet in packets(host, port, length) {
                rig.case(format!("{length} bytes from {host}"));
                let leaving = packet.translated(ELASTIC_IP, PORT);
                rig.expect(Internal, &packet, outbound(&leaving));
                let answer = leaving.answer();
                rig.expect(External, &answer, inbound(&answer.delivered(host, port)));
            }
        }
    }
}

fn a_frame_in_several_buffers_is_as_long_as_all_of_them() {
    let mut rig = jumbo(65_535);
    let [_, request] = packets(HOST, 5000, 9_000);
    let leaving = rig.open(&request);
    for missing in [1, 100, 5_000] {
        let mut frame = request.frame();
        frame.truncate(frame.len() - missing);
        rig.expect(Internal, frame, dropped(Reason::IpTotalLength));
    }
    let padded = |packet: Packet| packet.with(|packet| packet.padding = 7);
    rig.expect(Internal, &padded(request), outbound(&padded(leaving)));
}

fn a_frame_in_several_buffers_for_the_host_is_counted_whole() {
    let mut rig = jumbo(65_535);
    rig.expect(Internal, &udp(HOST, 5000, INTERNAL_ADDRESS, 53).payload(&content(9_000)), stack());
}

fn a_frame_in_several_buffers_too_big_for_the_next_link_is_answered() {
    let mut rig = jumbo(1_500);
    rig.connect(HOST, 9_000, REMOTE, 9_000);
    rig.open(&udp(HOST, 9_000, REMOTE, 9_000));
    for length in [9_000, 20_000, 65_535] {
        for packet in packets(HOST, 9_000, length) {
            rig.case(format!("{length} bytes"));
            let answer = replied(&packet.answered(INTERNAL_ADDRESS, 3, 4, 1_500));
            rig.expect(Internal, &packet, answer.moves("hop_lookups", 1));
            let divisible = packet.with(|packet| packet.ip.dont_fragment = false);
            // What is longer than the largest jumbo frame is left to nobody.
            let expected =
                if length > 16_384 { dropped(Reason::TooBig) } else { divided(outbound(&divisible)) };
            rig.expect(Internal, &divisible, expected.moves("hop_lookups", 1));
        }
    }
    let mut rig = jumbo(65_535);
    rig.ip("link set int0 mtu 1400\n");
    rig.apply(&Layout::default());
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let exceeds = answer.payload(&content(20_000));
    let told = replied(&exceeds.answered(EXTERNAL_ADDRESS, 3, 4, 1_400));
    rig.expect(External, &exceeds, told.moves("hop_lookups", 1));
}

/// Whatever of the packet the first buffer holds, and whether or not there is anything to cut off.
fn an_answer_quotes_across_buffers() {
    let mut rig = Rig::standard();
    for length in [0, 1, 100, 519, 520, 521, 1_400] {
        let probe = udp(HOST, 5000, REMOTE, 33_434).ttl(1).payload(&content(length));
        let padded = probe.clone().with(|packet| packet.padding = 3);
        for linear in [42, 43, 63, 100, 561, 562, 563, 1_000] {
            rig.case(format!("{length} bytes of data, {linear} in the first buffer"));
            rig.split_at(linear);
            let answer = replied(&probe.answered(INTERNAL_ADDRESS, 11, 0, 0));
            rig.expect(Internal, &probe, answer.clone());
            rig.expect(Internal, &padded, answer);
        }
    }
}

fn a_header_beyond_the_first_buffer_is_refused() {
    let mut rig = Rig::standard();
    let query = echo_request(HOST, 5000, REMOTE);
    let options = udp(HOST, 5000, REMOTE, 54).with(|packet| packet.ip.options = [1; 8].into());
    let segment = tcp(HOST, 5000, REMOTE, 443, ACK);
    rig.connect(HOST, 5000, REMOTE, 443);
    for (packet, headers) in [(udp(HOST, 5000, REMOTE, 53), 42), (query, 42), (options, 50), (segment, 54)] {
        let packet = packet.payload(&content(200));
        if headers != 54 {
            rig.open(&packet);
        }
        for linear in 14..=headers {
            rig.case(format!("{linear} of {headers} bytes of headers in the first buffer"));
            rig.split_at(linear);
            let expected = match linear {
                _ if linear == headers => outbound(&packet.translated(ELASTIC_IP, PORT)),
                14..34 => dropped(Reason::FrameTooShort),
                _ => dropped(Reason::TransportTruncated),
            };
            rig.expect(Internal, &packet, expected);
        }
        rig.split_at(usize::MAX);
    }
}

fn an_error_whose_quote_is_beyond_the_first_buffer_is_refused_or_translated_right() {
    let mut rig = Rig::standard();
    rig.connect(HOST, 5000, REMOTE, 443);
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.open(&echo_request(HOST, 5000, REMOTE));
    let segment = tcp(HOST, 5000, REMOTE, 443, ACK).payload(&content(200));
    // Bytes up to which the quote is read and written: those of TCP end with the checksum, where there is one.
    let quotes = [
        (segment.clone(), 100, 80),
        (segment, 8, 70),
        (udp(HOST, 5000, REMOTE, 53).payload(&content(200)), 100, 70),
        (echo_request(HOST, 5000, REMOTE).payload(&content(200)), 100, 70),
    ];
    for (packet, quoted, needed) in quotes {
        let seen = packet.translated(ELASTIC_IP, PORT).quote(quoted);
        let error = icmp_error(STRANGER, ELASTIC_IP, 3, 3, seen);
        let told = error.clone().payload(&packet.with(|packet| packet.ip.time_to_live -= 1).quote(quoted));
        let told = told.delivered(HOST, 0);
        for linear in 42..=needed {
            rig.case(format!("{linear} of {needed} bytes in the first buffer"));
            rig.split_at(linear);
            let expected = match linear {
                _ if linear == needed => inbound(&told).judged().refreshing_nothing(),
                _ => dropped(Reason::IcmpQuote),
            };
            rig.expect(External, &error, expected);
        }
    }
}
