//! ICMP errors on their way through: outer and quoted headers translated, all checksums right (RFC 5508 §4).

use DropReason as Reason;
use etherparse::IpFragOffset;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::SYN,
    *,
};

super::tests![
    every_translatable_error_from_outside_reaches_the_private_host,
    every_translatable_error_from_inside_reaches_the_remote,
    a_quote_of_any_length_is_translated,
    half_a_quoted_checksum_is_left_as_it_is,
    a_quoted_udp_packet_without_checksum_stays_without,
    quoted_ip_options_are_skipped,
    errors_about_echo_replies_go_out_and_about_echo_requests_come_in,
    the_mtu_of_fragmentation_needed_is_untouched,
    an_error_of_another_internal_router_leaves_with_the_elastic_ip,
    an_error_about_a_session_of_a_vlan_is_tagged,
    a_quote_that_cannot_be_read_is_refused,
    an_error_about_no_session_is_refused,
    an_error_that_goes_elsewhere_than_its_quote_came_from_is_refused,
    an_error_about_an_error_is_refused,
    an_error_whose_ttl_runs_out_is_not_answered,
    an_error_too_big_for_the_next_link_is_refused,
    an_error_about_a_session_whose_elastic_ip_was_withdrawn_is_refused,
    an_error_ends_no_session,
];

/// What the private host sent, as the router that complains about it saw it, and as it must see it quoted itself.
pub fn seen(packet: &Packet) -> (Packet, Packet) {
    (packet.translated(ELASTIC_IP, PORT).ttl(9), packet.clone().ttl(9))
}

/// What the remote sent, as the private host saw it, and as the remote must see it quoted.
pub fn seen_inside(answer: &Packet) -> (Packet, Packet) {
    (answer.delivered(HOST, 5000).ttl(9), answer.clone().ttl(9))
}

pub fn requests() -> [Packet; 4] {
    [
        udp(HOST, 5000, REMOTE, 53),
        tcp(HOST, 5000, REMOTE, 443, SYN),
        echo_request(HOST, 5000, REMOTE),
        timestamp_request(HOST, 5000, REMOTE_2),
    ]
}

/// An error from inside about a packet of the session, and how the remote gets it.
pub fn from_inside(
    answer: &Packet,
    (quoted, original): (&[u8], &[u8]),
    kind: u8,
    code: u8,
) -> (Packet, Packet) {
    let error = icmp_error(HOST, answer.ip.source.into(), kind, code, quoted.to_vec());
    let told = error.clone().payload(original).translated(ELASTIC_IP, 0);
    (error, told)
}

/// An error from outside about a packet of the session, and how the private host gets it.
pub fn from_outside(quoted: &[u8], original: &[u8], kind: u8, code: u8) -> (Packet, Packet) {
    let error = icmp_error(STRANGER, ELASTIC_IP, kind, code, quoted.to_vec());
    let told = error.clone().payload(original).delivered(HOST, 0);
    (error, told)
}

pub fn expect_in(rig: &mut Rig, error: &Packet, told: &Packet) {
    rig.expect(External, error, inbound(told).judged().refreshing_nothing());
}

pub fn expect_out(rig: &mut Rig, error: &Packet, told: &Packet) {
    rig.expect(Internal, error, outbound(told).judged().refreshing_nothing());
}

/// Every type and code that IANA's registry has for what is translated.
fn kinds() -> impl Iterator<Item = (u8, u8)> {
    let of = |kind: u8, last: u8| (0..=last).map(move |code| (kind, code));
    of(3, 15).chain(of(11, 1)).chain(of(12, 2))
}

fn every_translatable_error_from_outside_reaches_the_private_host() {
    let mut rig = Rig::standard();
    for request in requests() {
        rig.open(&request);
        let (quoted, original) = seen(&request);
        for (kind, code) in kinds() {
            rig.case(format!("type {kind} code {code}"));
            let (error, told) = from_outside(&quoted.quote(8), &original.quote(8), kind, code);
            expect_in(&mut rig, &error, &told);
        }
    }
}

fn every_translatable_error_from_inside_reaches_the_remote() {
    let mut rig = Rig::standard();
    for request in requests() {
        let (_, answer) = rig.establish(&request);
        let (quoted, original) = seen_inside(&answer);
        for (kind, code) in kinds() {
            rig.case(format!("type {kind} code {code}"));
            let (error, told) = from_inside(&answer, (&quoted.quote(8), &original.quote(8)), kind, code);
            expect_out(&mut rig, &error, &told);
        }
    }
}

fn a_quote_of_any_length_is_translated() {
    let mut rig = Rig::standard();
    for request in requests() {
        let long = request.clone().payload(&[0x6b; 600]);
        let (leaving, answer) = rig.establish(&long);
        assert_eq!(leaving.l4(), 34);
        let (quoted, original) = seen(&long);
        let (quoted_in, original_in) = seen_inside(&answer);
        for length in (8..17).chain(18..32).chain([127, 128, 500, 548, 620]) {
            rig.case(format!("{length} bytes of transport quoted"));
            let (error, told) = from_outside(&quoted.quote(length), &original.quote(length), 3, 3);
            expect_in(&mut rig, &error, &told);
            let quotes = (&quoted_in.quote(length)[..], &original_in.quote(length)[..]);
            let (error, told) = from_inside(&answer, quotes, 3, 3);
            expect_out(&mut rig, &error, &told);
        }
    }
}

fn half_a_quoted_checksum_is_left_as_it_is() {
    let mut rig = Rig::standard();
    let request = tcp(HOST, 5000, REMOTE, 443, SYN);
    rig.open(&request);
    let (quoted, original) = seen(&request);
    let half = [original.quote(16), vec![quoted.bytes()[36]]].concat();
    let (error, told) = from_outside(&quoted.quote(17), &half, 3, 3);
    expect_in(&mut rig, &error, &told);
}

fn a_quoted_udp_packet_without_checksum_stays_without() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53).with(|packet| {
        if let Body::Udp { checksum, .. } = &mut packet.body {
            *checksum = false;
        }
    });
    rig.open(&request);
    let (quoted, original) = seen(&request);
    assert_eq!(original.quote(8)[26..28], [0, 0]);
    let (error, told) = from_outside(&quoted.quote(8), &original.quote(8), 3, 3);
    expect_in(&mut rig, &error, &told);
}

fn quoted_ip_options_are_skipped() {
    let mut rig = Rig::standard();
    for request in requests() {
        let request = request
            .with(|packet| packet.ip.options = [[1; 4]; 3].concat().as_slice().try_into().expect("words"));
        rig.open(&request);
        let (quoted, original) = seen(&request);
        for length in [8, 20, 25] {
            let (error, told) = from_outside(&quoted.quote(length), &original.quote(length), 11, 0);
            expect_in(&mut rig, &error, &told);
        }
        let with_options = |packet: Packet| packet.with(|packet| packet.ip.options = [1; 8].into());
        let (error, told) = from_outside(&quoted.quote(8), &original.quote(8), 11, 0);
        expect_in(&mut rig, &with_options(error), &with_options(told));
    }
}

fn errors_about_echo_replies_go_out_and_about_echo_requests_come_in() {
    let mut rig = Rig::standard();
    let request = echo_request(HOST, 5000, REMOTE);
    let (leaving, reply) = rig.establish(&request);
    // A quote the wrong way round belongs to no session.
    let (wrong, _) = from_outside(&reply.quote(8), &[], 3, 1);
    rig.expect(External, &wrong, dropped(Reason::IcmpNoSession));
    let wrong = icmp_error(HOST, REMOTE, 3, 1, leaving.quote(8));
    rig.expect(Internal, &wrong, dropped(Reason::IcmpNoSession));
}

fn the_mtu_of_fragmentation_needed_is_untouched() {
    let with_mtu = |packet: &Packet, mtu: u16| {
        packet.clone().with(|packet| {
            if let Body::Icmp { rest, .. } = &mut packet.body {
                rest[2..].copy_from_slice(&mtu.to_be_bytes());
            }
        })
    };
    let mut rig = Rig::standard();
    for request in requests() {
        let (leaving, answer) = rig.establish(&request);
        let ((quoted, original), (quoted_in, original_in)) = (seen(&request), seen_inside(&answer));
        let (error, told) = from_outside(&quoted.quote(20), &original.quote(20), 3, 4);
        let quotes = (&quoted_in.quote(20)[..], &original_in.quote(20)[..]);
        let (error_in, told_in) = from_inside(&answer, quotes, 3, 4);
        // None given, as by routers older than RFC 1191; less than any link has; two that may be; more than any has.
        for mtu in [0, 20, 68, 1_300, u16::MAX] {
            rig.case(format!("MTU {mtu}"));
            expect_in(&mut rig, &with_mtu(&error, mtu), &with_mtu(&told, mtu));
            expect_out(&mut rig, &with_mtu(&error_in, mtu), &with_mtu(&told_in, mtu));
            // The gateway itself learns nothing from it.
            rig.expect(Internal, &request, outbound(&leaving));
        }
    }
}

fn an_error_of_another_internal_router_leaves_with_the_elastic_ip() {
    let mut rig = Rig::standard();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let (quoted, original) = seen_inside(&answer);
    let error = icmp_error(SECOND_HOST, REMOTE, 3, 1, quoted.quote(8));
    let told = error.clone().payload(&original.quote(8)).translated(ELASTIC_IP, 0);
    expect_out(&mut rig, &error, &told);
}

fn an_error_about_a_session_of_a_vlan_is_tagged() {
    let mut rig = Rig::standard();
    let request = tcp(HOST_VLAN, 5000, REMOTE, 443, SYN);
    let (_, answer) = rig.establish(&request);
    let (quoted, original) = seen(&request);
    let error = icmp_error(STRANGER, ELASTIC_IP, 11, 0, quoted.quote(28));
    let told = error.clone().payload(&original.quote(28)).delivered(HOST_VLAN, 0);
    expect_in(&mut rig, &error, &told);
    let error = icmp_error(HOST_VLAN, REMOTE, 3, 3, answer.delivered(HOST_VLAN, 5000).quote(20));
    let told = error.clone().payload(&answer.clone().ttl(63).quote(20)).translated(ELASTIC_IP, 0);
    expect_out(&mut rig, &error, &told);
}

fn a_quote_that_cannot_be_read_is_refused() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, answer) = rig.establish(&request);
    let changed = |packet: &Packet, change: fn(&mut [u8])| {
        let mut quote = packet.quote(8);
        change(&mut quote);
        quote
    };
    for (side, source, destination, packet) in
        [(External, STRANGER, ELASTIC_IP, &leaving), (Internal, HOST, REMOTE, &answer.delivered(HOST, 5000))]
    {
        let mut quotes: Vec<Vec<u8>> = (0..28).map(|length| packet.bytes()[..length].to_vec()).collect();
        quotes.push(changed(packet, |ip| ip[0] = 0x65));
        quotes.push(changed(packet, |ip| ip[0] = 0x44));
        quotes.push(changed(packet, |ip| ip[0] = 0x46));
        quotes.push(changed(packet, |ip| ip[0] = 0x4f));
        quotes.push(changed(packet, |ip| ip[9] = 132));
        let second = packet
            .clone()
            .with(|packet| packet.ip.fragment_offset = IpFragOffset::try_new(1).expect("13 bits"));
        quotes.push(second.quote(8));
        for quote in quotes {
            rig.case(format!("quote {quote:02x?}"));
            let error = icmp_error(source, destination, 3, 3, quote);
            // Padding of the link is no part of the quote.
            rig.expect(side, &error.clone().with(|packet| packet.padding = 30), dropped(Reason::IcmpQuote));
            rig.expect(side, &error, dropped(Reason::IcmpQuote));
        }
    }
}

fn an_error_about_no_session_is_refused() {
    let mut rig = Rig::standard();
    let (leaving, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let other = leaving.clone().source(ELASTIC_IP, PORT + 1);
    rig.expect(
        External,
        &icmp_error(STRANGER, ELASTIC_IP, 3, 3, other.quote(8)),
        dropped(Reason::IcmpNoSession),
    );
    let inside = udp(HOST, 5000, REMOTE, 53);
    rig.expect(
        External,
        &icmp_error(STRANGER, ELASTIC_IP, 3, 3, inside.quote(8)),
        dropped(Reason::IcmpNoSession),
    );
    let other = answer.delivered(HOST, 5001);
    rig.expect(Internal, &icmp_error(HOST, REMOTE, 3, 3, other.quote(8)), dropped(Reason::IcmpNoSession));
    rig.expect(Internal, &icmp_error(HOST, REMOTE, 3, 3, answer.quote(8)), dropped(Reason::IcmpNoSession));
}

fn an_error_that_goes_elsewhere_than_its_quote_came_from_is_refused() {
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("40000"));
    let request = udp(HOST, 5000, REMOTE, 53);
    let sent = rig.send(Internal, &request);
    let elastic_ip = std::net::Ipv4Addr::new(203, 0, 113, sent.frame[29]);
    let other = if elastic_ip == ELASTIC_IP { SECOND_ELASTIC_IP } else { ELASTIC_IP };
    let quote = request.translated(elastic_ip, PORT).quote(8);
    rig.expect(External, &icmp_error(STRANGER, other, 3, 3, quote), dropped(Reason::IcmpQuote));
    let quote = request.translated(elastic_ip, PORT).answer().delivered(HOST, 5000).quote(8);
    rig.expect(Internal, &icmp_error(HOST, REMOTE_2, 3, 3, quote), dropped(Reason::IcmpQuote));
}

fn an_error_about_an_error_is_refused() {
    let mut rig = Rig::standard();
    let (_, reply) = rig.establish(&echo_request(HOST, 5000, REMOTE));
    let session_of = |quoted: Packet, identifier: u16| {
        quoted.with(|packet| {
            if let Body::Icmp { rest, .. } = &mut packet.body {
                rest[..2].copy_from_slice(&identifier.to_be_bytes());
            }
        })
    };
    // The quoted error looks like a reply of the session where the identifier would stand, and quotes an internal
    // address itself.
    let nested = icmp_error(REMOTE, HOST, 3, 3, udp(HOST, 5000, REMOTE, 53).quote(8));
    let error = icmp_error(HOST, REMOTE, 3, 3, session_of(nested, 5000).bytes());
    rig.expect(Internal, &error, dropped(Reason::IcmpQuote));
    let nested = icmp_error(ELASTIC_IP, REMOTE, 3, 3, reply.quote(8));
    let error = icmp_error(STRANGER, ELASTIC_IP, 3, 3, session_of(nested, PORT).bytes());
    rig.expect(External, &error, dropped(Reason::IcmpQuote));
}

fn an_error_whose_ttl_runs_out_is_not_answered() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, answer) = rig.establish(&request);
    let error = icmp_error(STRANGER, ELASTIC_IP, 11, 0, leaving.quote(8)).ttl(1);
    rig.expect(External, &error, dropped(Reason::TtlExpired));
    let error = icmp_error(HOST, REMOTE, 3, 3, answer.delivered(HOST, 5000).quote(8)).ttl(1);
    rig.expect(Internal, &error, dropped(Reason::TtlExpired));
}

fn an_error_too_big_for_the_next_link_is_refused() {
    let mut rig = Rig::on(Network::TwoArmed { external_mtu: 1_300 }, &Layout::default());
    let request = udp(HOST, 5000, REMOTE, 53);
    let (_, answer) = rig.establish(&request);
    let quoted = answer.delivered(HOST, 5000).payload(&[3; 1_400]);
    let error = icmp_error(HOST, REMOTE, 3, 3, quoted.quote(1_300));
    assert!(error.ip.dont_fragment);
    rig.expect(Internal, &error, dropped(Reason::TooBig).moves("hop_lookups", 1));
}

fn an_error_about_a_session_whose_elastic_ip_was_withdrawn_is_refused() {
    let mut rig = Rig::standard();
    let (leaving, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let other = Layout::default();
    rig.apply(&Layout {
        elastic_ips: other.elastic_ips.replace("203.0.113.10", "203.0.113.11"),
        nat_gateways: other.nat_gateways.replace("203.0.113.10", "203.0.113.11"),
        ..other
    });
    let error = icmp_error(STRANGER, ELASTIC_IP, 3, 3, leaving.quote(8));
    rig.expect(External, &error, dropped(Reason::NoSession));
    let error = icmp_error(HOST, REMOTE, 3, 3, answer.delivered(HOST, 5000).quote(8));
    rig.expect(Internal, &error, dropped(Reason::NoRoute));
}

fn an_error_ends_no_session() {
    let mut rig = Rig::standard();
    rig.connect(HOST, 5000, REMOTE, 443);
    let segment = tcp(HOST, 5000, REMOTE, 443, flags::ACK);
    let (quoted, original) = seen(&segment);
    for (kind, code) in kinds() {
        let (error, told) = from_outside(&quoted.quote(8), &original.quote(8), kind, code);
        expect_in(&mut rig, &error, &told);
    }
    assert_eq!(rig.age(300), (0, 0), "the connection is established all the same");
    rig.expect(Internal, &segment, outbound(&segment.translated(ELASTIC_IP, PORT)));
}
