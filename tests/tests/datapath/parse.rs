//! Frames that are not what they should be: each refused for the right reason, on both sides, changing nothing.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::SYN,
    *,
};

super::tests![
    a_frame_that_ends_within_its_headers_is_too_short,
    a_frame_shorter_than_its_packet_is_refused,
    an_ip_header_that_contradicts_itself_is_refused,
    a_wrong_ip_checksum_is_refused,
    a_transport_header_that_does_not_fit_its_packet_is_refused,
    a_tcp_header_length_that_does_not_fit_is_refused,
    a_udp_length_that_does_not_fit_is_refused,
    a_udp_length_below_the_packets_end_is_passed,
    icmp_messages_that_are_neither_query_nor_error_are_refused,
    an_unknown_ethertype_is_refused,
    more_than_one_vlan_tag_is_refused,
    a_truncated_vlan_tag_is_refused,
    a_vlan_that_nobody_configured_is_refused,
    a_group_address_of_the_link_with_a_unicast_destination_is_refused,
];

const SIDES: [Side; 2] = [Internal, External];

/// A packet that would be translated on `side`, if it were not for what is changed in it.
fn sound(side: Side) -> Packet {
    if side == Internal { udp(HOST, 5000, REMOTE, 53) } else { udp(REMOTE, 53, ELASTIC_IP, PORT) }
}

/// Expects every frame to be refused for its reason.
fn refuse(cases: impl Fn(Side) -> Vec<(String, Vec<u8>, Reason)>) {
    let mut rig = Rig::standard();
    rig.open(&sound(Internal));
    for side in SIDES {
        for (name, frame, reason) in cases(side) {
            rig.case(format!("{name}, on {}", side.device()));
            rig.expect(side, frame, dropped(reason));
        }
    }
}

/// The frame of `packet` after a change of its IP header, whose checksum is right again.
fn header(packet: &Packet, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = packet.frame();
    change(&mut frame[packet.l3()..]);
    let end = packet.l3() + usize::from(frame[packet.l3()] & 0x0f) * 4;
    if end <= frame.len() {
        fix_ip_checksum(&mut frame, packet.l3());
    }
    frame
}

fn a_frame_that_ends_within_its_headers_is_too_short() {
    refuse(|side| {
        let frame = sound(side).frame();
        let runt =
            |length: usize| (format!("{length} bytes"), frame[..length].to_vec(), Reason::FrameTooShort);
        (14..34).map(runt).collect()
    });
}

fn a_frame_shorter_than_its_packet_is_refused() {
    refuse(|side| {
        let frame = sound(side).frame();
        let cut =
            |length: usize| (format!("{length} bytes"), frame[..length].to_vec(), Reason::IpTotalLength);
        (34..frame.len()).map(cut).collect()
    });
}

fn an_ip_header_that_contradicts_itself_is_refused() {
    refuse(|side| {
        let packet = sound(side);
        let version = |version: u8| header(&packet, |ip| ip[0] = version << 4 | 5);
        let words = |words: u8| header(&packet, |ip| ip[0] = 0x40 | words);
        let total = |total: u16| header(&packet, |ip| ip[2..4].copy_from_slice(&total.to_be_bytes()));
        let length = packet.bytes().len() as u16;
        let mut cases = vec![];
        cases.extend([0, 1, 5, 6, 15].map(|of| (format!("version {of}"), version(of), Reason::IpVersion)));
        cases.extend((0..5).map(|of| (format!("header of {of} words"), words(of), Reason::IpHeaderLength)));
        cases.extend([15].map(|of| (format!("header of {of} words"), words(of), Reason::IpTotalLength)));
        let lengths = [0, 1, 19, length + 1, 1_500, 65_535];
        cases.extend(lengths.map(|of| (format!("total length {of}"), total(of), Reason::IpTotalLength)));
        cases
    });
}

fn a_wrong_ip_checksum_is_refused() {
    refuse(|side| {
        let packet = sound(side);
        let options = packet.clone().with(|packet| packet.ip.options = [1; 4].into());
        let flipped = |packet: &Packet, place: usize| {
            let mut frame = packet.frame();
            frame[packet.l3() + place] ^= 0x01;
            (format!("byte {place} flipped"), frame, Reason::IpChecksum)
        };
        let mut cases: Vec<_> = [1, 4, 8, 9, 10, 11, 12, 19].map(|place| flipped(&packet, place)).into();
        cases.extend([1, 10, 12, 20, 23].map(|place| flipped(&options, place)));
        cases
    });
}

fn a_transport_header_that_does_not_fit_its_packet_is_refused() {
    refuse(|side| {
        let cut = |protocol: u8, length: usize, padding: usize| {
            let packet = sound(side).with(|packet| packet.body = Body::Raw(protocol, vec![0x11; length]));
            let frame = packet.with(|packet| packet.padding = padding).frame();
            let name = format!("{length} bytes of protocol {protocol}, {padding} bytes of padding");
            (name, frame, Reason::TransportTruncated)
        };
        let of = |protocol, header| {
            (0..header).flat_map(move |length| [(protocol, length, 0), (protocol, length, 40)])
        };
        of(6, 20)
            .chain(of(17, 8))
            .chain(of(1, 8))
            .map(|(protocol, length, padding)| cut(protocol, length, padding))
            .collect()
    });
}

fn a_tcp_header_length_that_does_not_fit_is_refused() {
    refuse(|side| {
        let packet = tcp(sound(side).ip.source.into(), 5000, sound(side).ip.destination.into(), 53, SYN);
        let offset = |words: u8| {
            let mut frame = packet.frame();
            frame[packet.l4() + 12] = words << 4;
            (format!("header of {words} words"), frame, Reason::TcpHeaderLength)
        };
        (0..5).chain(7..16).map(offset).collect()
    });
}

fn a_udp_length_that_does_not_fit_is_refused() {
    refuse(|side| {
        let packet = sound(side);
        let length = |length: u16| {
            let mut frame = packet.frame();
            frame[packet.l4() + 4..packet.l4() + 6].copy_from_slice(&length.to_be_bytes());
            (format!("length {length}"), frame, Reason::UdpLength)
        };
        [0, 1, 7, 16, 17, 1_500, 65_535].map(length).into()
    });
}

fn a_udp_length_below_the_packets_end_is_passed() {
    let mut rig = Rig::standard();
    let short = |packet: &Packet| {
        let mut frame = packet.clone().payload(b"abcd").frame();
        frame.extend(*b"rest");
        frame[packet.l3() + 3] += 4;
        fix_ip_checksum(&mut frame, packet.l3());
        frame
    };
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.expect(Internal, short(&request), outbound(short(&request.translated(ELASTIC_IP, PORT))).opening());
}

fn icmp_messages_that_are_neither_query_nor_error_are_refused() {
    refuse(|side| {
        let message = |kind: u8| {
            let body = Body::Icmp { kind, code: 0, rest: [0; 4], payload: vec![0; 40] };
            let frame = sound(side).with(|packet| packet.body = body).frame();
            (format!("type {kind}"), frame, Reason::IcmpType)
        };
        [1, 4, 5, 6, 9, 10, 15, 16, 17, 18, 30, 40, 42, 43, 255].map(message).into()
    });
}

fn an_unknown_ethertype_is_refused() {
    refuse(|side| {
        let typed = |kind: u16| {
            let mut frame = sound(side).frame();
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            (format!("ethertype {kind:04x}"), frame, Reason::EtherType)
        };
        // A length (IEEE 802.3), PPPoE, MPLS, LLDP to a unicast address, nothing at all.
        [0x0026, 0x8863, 0x8864, 0x8847, 0x88cc, 0xffff, 0x0000].map(typed).into()
    });
}

fn more_than_one_vlan_tag_is_refused() {
    refuse(|side| {
        let tagged = |outer: [u8; 2], inner: [u8; 2]| {
            let frame = sound(side).frame();
            let tags = [&outer[..], &[0, 100], &inner, &[0, 100]].concat();
            let frame = [&frame[..12], &tags, &frame[12..]].concat();
            (format!("tags {outer:02x?} and {inner:02x?}"), frame, Reason::VlanDepth)
        };
        let (customer, service) = ([0x81, 0x00], [0x88, 0xa8]);
        vec![tagged(customer, customer), tagged(customer, service), tagged(service, customer)]
    });
}

fn a_truncated_vlan_tag_is_refused() {
    refuse(|side| {
        let tagged = sound(side).with(|packet| packet.tag = Some(VLAN)).frame();
        let cut =
            |length: usize| (format!("{length} bytes"), tagged[..length].to_vec(), Reason::FrameTooShort);
        (14..38).map(cut).collect()
    });
}

fn a_vlan_that_nobody_configured_is_refused() {
    refuse(|side| {
        let tagged = |tag: u16| {
            let frame = sound(side).with(|packet| packet.tag = Some(tag)).frame();
            (format!("tag {tag}"), frame, Reason::UnknownVlan)
        };
        [1, 99, 101, 4_095].map(tagged).into()
    });
}

fn a_group_address_of_the_link_with_a_unicast_destination_is_refused() {
    refuse(|side| {
        let group = |mac: [u8; 6]| {
            let frame = sound(side).with(|packet| packet.macs[0] = mac).frame();
            (format!("to {mac:02x?}"), frame, Reason::LinkBroadcast)
        };
        vec![group([0xff; 6]), group([1, 0, 0x5e, 0, 0, 1]), group([0x33, 0x33, 0, 0, 0, 1])]
    });
}
