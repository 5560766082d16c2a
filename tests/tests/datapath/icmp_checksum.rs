//! ICMP errors that are damaged, long or extended (RFC 5508 REQ-3, RFC 4884).

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    *,
};

use crate::icmp::{expect_in, expect_out, from_inside, from_outside, requests, seen, seen_inside};

super::tests![
    an_error_with_a_wrong_checksum_is_refused,
    an_error_that_quotes_an_ip_header_with_a_wrong_checksum_is_refused,
    a_wrong_transport_checksum_in_a_quote_stays_wrong,
    an_error_of_more_than_1500_bytes_is_refused,
    extensions_behind_a_padded_quote_are_carried_unchanged,
];

/// An error about a packet of a session, from either side.
fn from_both_sides(rig: &mut Rig, request: &Packet, length: usize) -> [(Side, Packet); 2] {
    let (leaving, answer) = rig.establish(request);
    let options = request.ip.options.clone();
    let received = answer.delivered(HOST, 5000).with(|packet| packet.ip.options = options);
    let from_inside = icmp_error(HOST, REMOTE, 3, 3, received.quote(length));
    [(External, icmp_error(STRANGER, ELASTIC_IP, 3, 3, leaving.quote(length))), (Internal, from_inside)]
}

fn an_error_with_a_wrong_checksum_is_refused() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53).payload(&[0x5a; 900]);
    for length in [8, 15, 16, 99, 700, 908] {
        for (side, error) in from_both_sides(&mut rig, &request, length) {
            let frame = error.frame();
            for place in [error.l4() + 1, error.l4() + 2, error.l4() + 6, error.l4() + 9, frame.len() - 1] {
                rig.case(format!("{length} bytes quoted, byte {place} flipped, on {}", side.device()));
                let mut damaged = frame.clone();
                damaged[place] ^= 0x10;
                rig.expect(side, damaged, dropped(Reason::IcmpChecksum));
            }
        }
        rig.age(400);
    }
}

fn an_error_that_quotes_an_ip_header_with_a_wrong_checksum_is_refused() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let options = request.clone().with(|packet| packet.ip.options = [1; 8].into());
    for (request, places) in [(request, vec![1, 5, 8, 10, 11]), (options, vec![5, 11, 20, 27])] {
        for (side, error) in from_both_sides(&mut rig, &request, 8) {
            let Body::Icmp { payload, .. } = error.body.clone() else { panic!("an error is ICMP") };
            for place in &places {
                rig.case(format!("byte {place} of the quote flipped, on {}", side.device()));
                let mut quote = payload.clone();
                quote[*place] ^= 0x01;
                let damaged = error.clone().payload(&quote);
                rig.expect(side, &damaged, dropped(Reason::IcmpQuoteChecksum));
            }
        }
        rig.age(400);
    }
}

/// It was wrong already when the packet left (RFC 5508 REQ-3c).
fn a_wrong_transport_checksum_in_a_quote_stays_wrong() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.open(&request);
    let (quoted, original) = seen(&request);
    let flip = |mut quote: Vec<u8>| {
        *quote.last_mut().expect("a quote has bytes") ^= 0x40;
        quote
    };
    let (error, told) = from_outside(&flip(quoted.quote(15)), &flip(original.quote(15)), 3, 3);
    expect_in(&mut rig, &error, &told);
}

fn an_error_of_more_than_1500_bytes_is_refused() {
    let mut rig = Rig::standard();
    rig.ip("link set ext0 mtu 2000\nlink set int0 mtu 2000\nlink set int1 mtu 2000\nlink set int0.100 mtu 2000\n");
    rig.apply(&Layout::default());
    let request = udp(HOST, 5000, REMOTE, 53).payload(&[7; 1_600]);
    rig.open(&request);
    let (quoted, original) = seen(&request);
    for (length, passes) in [(1_451, true), (1_452, true), (1_473, false), (1_600, false)] {
        rig.case(format!("{length} bytes of transport quoted"));
        let (error, told) = from_outside(&quoted.quote(length), &original.quote(length), 3, 3);
        if passes {
            expect_in(&mut rig, &error, &told);
        } else {
            rig.expect(External, &error, dropped(Reason::IcmpQuote));
        }
    }
}

/// Errors with the length of the quote (RFC 4884 §4.1), which is padded to 128 bytes, and an MPLS label stack (RFC 4950)
/// behind it; and those of routers older than RFC 4884, which give no length.
fn extensions_behind_a_padded_quote_are_carried_unchanged() {
    let mut rig = Rig::standard();
    let object = [0, 8, 1, 1, 0x01, 0x86, 0xa1, 0x40];
    let mut extension = [&[0x20, 0, 0, 0][..], &object].concat();
    let sum = checksum(&extension);
    extension[2..4].copy_from_slice(&sum.to_be_bytes());
    let padded = |quote: &[u8]| {
        let mut quote = quote.to_vec();
        quote.resize(128, 0);
        [quote, extension.clone()].concat()
    };
    let with_length = |packet: Packet, words: u8| {
        packet.with(|packet| {
            if let Body::Icmp { rest, .. } = &mut packet.body {
                rest[1] = words;
            }
        })
    };
    for request in requests() {
        let (_, answer) = rig.establish(&request);
        let (quoted, original) = seen(&request);
        let (quoted_in, original_in) = seen_inside(&answer);
        for (kind, words) in [(3, 32), (11, 32), (12, 32), (11, 0), (3, 0)] {
            rig.case(format!("type {kind}, length {words}"));
            let quotes = (padded(&quoted.bytes()), padded(&original.bytes()));
            let (error, told) = from_outside(&quotes.0, &quotes.1, kind, 0);
            expect_in(&mut rig, &with_length(error, words), &with_length(told, words));
            let quotes = (padded(&quoted_in.bytes()), padded(&original_in.bytes()));
            let (error, told) = from_inside(&answer, (&quotes.0, &quotes.1), kind, 0);
            expect_out(&mut rig, &with_length(error, words), &with_length(told, words));
        }
    }
}
