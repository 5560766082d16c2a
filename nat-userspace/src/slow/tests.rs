//! The slow path on packets made by hand. What must come of them is computed by code that it does not use.

use std::{cell::RefCell, io, rc::Rc};

use nat_common::flow::{FlowKey4, raw};

use super::{packet::sum, *};

const HOST: [u8; 4] = [10, 0, 1, 10];
const ELASTIC_IP: [u8; 4] = [203, 0, 113, 10];
const REMOTE: [u8; 4] = [192, 0, 2, 10];
const HOP: Hop = Hop { destination: [6; 6], source: [2; 6], device: 100 << 20 | 7 };

/// An IP packet with a right header checksum.
fn packet(protocol: u8, source: [u8; 4], destination: [u8; 4], bits: u16, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0xbe, 0xef, 0, 0, 64, protocol, 0, 0];
    packet.extend([source, destination].concat());
    packet.extend(content);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6..8].copy_from_slice(&bits.to_be_bytes());
    fix(&mut packet);
    packet
}

/// The Internet checksum, added up byte by byte.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for (place, byte) in bytes.iter().enumerate() {
        sum += u32::from(*byte) << (8 * (1 - place % 2));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn fix(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let right = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&right.to_be_bytes());
}

/// UDP content with a right checksum between these addresses.
fn datagram(source: [u8; 4], destination: [u8; 4], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 8) as u16;
    let mut content: Vec<u8> =
        [ports[0], ports[1], length, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    content.extend(payload);
    let pseudo = [&source[..], &destination, &[0, 17], &length.to_be_bytes(), &content].concat();
    let right = match checksum(&pseudo) {
        0 => 0xffff,
        right => right,
    };
    content[6..8].copy_from_slice(&right.to_be_bytes());
    content
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn outbound() -> Rewrite {
    Rewrite {
        direction: Direction::Outbound,
        address: raw(ELASTIC_IP.into()),
        port: 40_000_u16.to_be(),
        identification: 0x1234_u16.to_be(),
        pending: false,
    }
}

/// The packet after `rewrite`.
fn translated(mut packet: Vec<u8>, rewrite: &Rewrite) -> Vec<u8> {
    assert!(translate(&mut packet, rewrite));
    packet
}

/// One hop on, with another identification.
fn on(mut packet: Vec<u8>) -> Vec<u8> {
    packet[8] -= 1;
    packet[4..6].copy_from_slice(&[0x12, 0x34]);
    fix(&mut packet);
    packet
}

#[test]
fn a_datagram_is_translated_with_both_checksums_right() {
    for length in [0, 1, 7, 1_000] {
        let payload = pattern(length);
        let came = packet(17, HOST, REMOTE, 0, &datagram(HOST, REMOTE, [5_000, 53], &payload));
        let wanted =
            on(packet(17, ELASTIC_IP, REMOTE, 0, &datagram(ELASTIC_IP, REMOTE, [40_000, 53], &payload)));
        assert_eq!(translated(came, &outbound()), wanted);
        let inbound = Rewrite {
            direction: Direction::Inbound,
            address: raw(HOST.into()),
            port: 5_000_u16.to_be(),
            ..outbound()
        };
        let came = packet(17, REMOTE, ELASTIC_IP, 0, &datagram(REMOTE, ELASTIC_IP, [53, 40_000], &payload));
        let wanted = on(packet(17, REMOTE, HOST, 0, &datagram(REMOTE, HOST, [53, 5_000], &payload)));
        assert_eq!(translated(came, &inbound), wanted);
    }
}

#[test]
fn a_checksum_that_a_device_was_to_complete_is_completed() {
    let content = datagram(HOST, REMOTE, [5_000, 53], &pattern(501));
    let mut unfinished = content.clone();
    unfinished[6..8].copy_from_slice(&[0xab, 0xcd]);
    let came = packet(17, HOST, REMOTE, 0, &unfinished);
    let wanted = translated(packet(17, HOST, REMOTE, 0, &content), &outbound());
    assert_eq!(translated(came, &Rewrite { pending: true, ..outbound() }), wanted);
}

#[test]
fn of_a_later_fragment_the_content_is_untouched() {
    let content = pattern(64);
    for bits in [0x2001, 0x0001, 0x1fff] {
        let came = packet(6, HOST, REMOTE, bits, &content);
        assert_eq!(translated(came, &outbound()), on(packet(6, ELASTIC_IP, REMOTE, bits, &content)));
    }
}

#[test]
fn an_echos_identifier_is_replaced_where_icmp_has_it() {
    let echo = |identifier: u16| {
        let mut content = [&[8, 0, 0, 0][..], &identifier.to_be_bytes(), &[0, 1], &pattern(33)].concat();
        let right = checksum(&content);
        content[2..4].copy_from_slice(&right.to_be_bytes());
        content
    };
    let wanted = on(packet(1, ELASTIC_IP, REMOTE, 0, &echo(40_000)));
    assert_eq!(translated(packet(1, HOST, REMOTE, 0, &echo(77)), &outbound()), wanted);
}

#[test]
fn what_cannot_go_on_stays_as_it_is() {
    let mut expired = packet(17, HOST, REMOTE, 1, &pattern(16));
    expired[8] = 1;
    for mut refused in [
        expired,
        packet(6, HOST, REMOTE, 0, &pattern(19)),
        packet(17, HOST, REMOTE, 0, &[0; 7]),
        vec![0x45; 19],
        vec![],
    ] {
        let before = refused.clone();
        assert!(!translate(&mut refused, &outbound()));
        assert_eq!(refused, before);
    }
}

/// Puts fragments together again, which must lie side by side in order and end the datagram only at the end.
fn reassembled(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut content = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        assert_eq!(usize::from(u16::from_be_bytes([piece[2], piece[3]])), piece.len());
        let header = usize::from(piece[0] & 15) * 4;
        assert_eq!(sum(&[&piece[..header]]), 0xffff, "the header checksum of piece {number}");
        let place = Place::of(piece).unwrap();
        assert_eq!(place.offset, content.len());
        assert_eq!(place.more, number + 1 < pieces.len());
        content.extend(&piece[header..]);
    }
    content
}

#[test]
fn a_packet_is_divided_into_the_fewest_pieces_in_order() {
    for (length, mtu, pieces) in
        [(1_408, 1_300, 2), (1_281, 1_300, 2), (1_280, 1_300, 1), (4_000, 68, 84), (65_000, 1_500, 44)]
    {
        let content = pattern(length);
        let divided = divide(&packet(17, HOST, REMOTE, 0, &content), mtu);
        assert_eq!(divided.len(), pieces, "{length} bytes for {mtu}");
        assert!(divided.iter().all(|piece| piece.len() <= mtu));
        assert_eq!(reassembled(&divided), content);
    }
}

#[test]
fn a_fragment_is_divided_where_it_lies() {
    let divided = divide(&packet(17, HOST, REMOTE, 0x2000 | 100, &pattern(1_480)), 576);
    let places: Vec<_> = divided.iter().map(|piece| Place::of(piece).unwrap()).collect();
    assert_eq!(places.iter().map(|place| place.offset).collect::<Vec<_>>(), [800, 1_352, 1_904]);
    assert!(places.iter().all(|place| place.more), "the datagram goes on after it");
}

#[test]
fn what_must_not_be_divided_is_not() {
    assert!(divide(&packet(17, HOST, REMOTE, 0x4000, &pattern(1_400)), 1_300).is_empty());
    assert!(divide(&packet(17, HOST, REMOTE, 0, &pattern(1_400)), 27).is_empty());
    assert_eq!(divide(&packet(17, HOST, REMOTE, 0x4000, &pattern(1_280)), 1_300).len(), 1);
}

#[test]
fn later_fragments_carry_the_options_alone_that_ask_for_it() {
    let mut came = packet(17, HOST, REMOTE, 0, &pattern(400));
    // No-operation, an option of 3 bytes that stays in front, one of 4 bytes that is copied.
    let options = [1, 0x14, 3, 9, 0x94, 4, 1, 2];
    came.splice(20..20, options);
    came[0] = 0x47;
    let divided = divide(&came, 128);
    assert_eq!((divided[0][0], &divided[0][20..28]), (0x47, &options[..]));
    for piece in &divided[1..] {
        assert_eq!((piece[0], &piece[20..24]), (0x46, &options[4..]));
    }
    assert_eq!(reassembled(&divided), pattern(400));
}

/// A device that keeps what it is given.
#[derive(Clone, Default)]
struct Device(Rc<RefCell<Sent>>);

/// Frames by the index of the device that they left by.
type Sent = Vec<(u32, Vec<u8>)>;

impl Send for Device {
    fn mtu(&self, ifindex: u32) -> io::Result<usize> {
        if ifindex == 7 { Ok(1_500) } else { Err(io::Error::other("no such device")) }
    }

    fn send(&mut self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        self.mtu(ifindex)?;
        self.0.borrow_mut().push((ifindex, frame.to_vec()));
        Ok(())
    }
}

/// First fragments that have passed: whatever is asked for.
struct Passed(Option<Record>);

impl Records for Passed {
    fn record(&self, _key: &Key) -> Option<Record> {
        self.0
    }

    fn generation(&self) -> u32 {
        4
    }

    fn lifetime(&self) -> u32 {
        2
    }
}

fn record() -> Record {
    Record {
        address: raw(ELASTIC_IP.into()),
        identification: 0x1234_u16.to_be(),
        hop: HOP,
        ..Record::default()
    }
}

fn head(packet: &[u8], mtu: u16) -> Head {
    let key = FlowKey4 {
        source: raw(HOST.into()),
        destination: raw(REMOTE.into()),
        protocol: 17,
        zone: 1,
        ..FlowKey4::default()
    };
    let (address, port) = if mtu == 0 { (0, 0) } else { (raw(ELASTIC_IP.into()), 40_000_u16.to_be()) };
    let identification = u16::from_ne_bytes([packet[4], packet[5]]);
    Head {
        key,
        mtu,
        hop: HOP,
        address,
        port,
        length: packet.len() as u16,
        generation: 4,
        identification,
        ..Head::default()
    }
}

/// The VLAN frame that carries a packet to [`HOP`].
fn framed(packet: Vec<u8>) -> (u32, Vec<u8>) {
    (7, [&[6; 6][..], &[2; 6], &[0x81, 0, 0, 100, 8, 0], &packet].concat())
}

#[test]
fn held_fragments_leave_in_order_and_translated_once_the_first_one_has_passed() {
    let device = Device::default();
    let mut slow = Slow::new(device.clone(), Counts::default());
    let begin = Instant::now();
    let pieces: Vec<_> =
        [3, 1, 2].map(|eighths| packet(17, HOST, REMOTE, 0x2000 | eighths, &pattern(8))).into();
    for piece in &pieces {
        slow.take(&head(piece, 0), piece, &Passed(None), begin);
    }
    slow.look(&Passed(None), begin + Duration::from_millis(100));
    assert!(device.0.borrow().is_empty(), "nothing leaves before its first fragment");
    slow.look(&Passed(Some(record())), begin + Duration::from_millis(200));
    let wanted =
        [1, 2, 3].map(|eighths| framed(on(packet(17, ELASTIC_IP, REMOTE, 0x2000 | eighths, &pattern(8)))));
    assert_eq!(*device.0.borrow(), wanted);
    assert_eq!(slow.counts(), Counts { released: 3, ..Counts::default() });
    assert_eq!(slow.next(), None);
}

#[test]
fn a_fragment_whose_first_one_has_passed_meanwhile_leaves_at_once() {
    let device = Device::default();
    let mut slow = Slow::new(device.clone(), Counts::default());
    let piece = packet(17, HOST, REMOTE, 1, &pattern(8));
    slow.take(&head(&piece, 0), &piece, &Passed(Some(record())), Instant::now());
    assert_eq!((device.0.borrow().len(), slow.counts().released), (1, 1));
}

#[test]
fn a_fragment_whose_first_one_never_comes_ends_with_its_lifetime() {
    let mut slow = Slow::new(Device::default(), Counts::default());
    let (begin, piece) = (Instant::now(), packet(17, HOST, REMOTE, 1, &pattern(8)));
    slow.take(&head(&piece, 0), &piece, &Passed(None), begin);
    slow.look(&Passed(None), begin + Duration::from_secs(2));
    assert_eq!(slow.counts().expired, 0);
    slow.look(&Passed(None), begin + Duration::from_millis(2_200));
    assert_eq!((slow.counts().expired, slow.next()), (1, None));
}

#[test]
fn a_packet_too_big_for_the_next_link_leaves_in_translated_fragments() {
    let device = Device::default();
    let mut slow = Slow::new(device.clone(), Counts::default());
    let came = packet(17, HOST, REMOTE, 0, &datagram(HOST, REMOTE, [5_000, 53], &pattern(1_400)));
    slow.take(&head(&came, 1_300), &came, &Passed(None), Instant::now());
    let sent: Vec<_> = device.0.borrow().iter().map(|(_, frame)| frame[18..].to_vec()).collect();
    assert_eq!(sent.len(), 2);
    assert_eq!(reassembled(&sent), datagram(ELASTIC_IP, REMOTE, [40_000, 53], &pattern(1_400)));
    assert_eq!(slow.counts(), Counts { divided: 1, ..Counts::default() });
}

#[test]
fn what_was_judged_under_another_configuration_does_not_leave() {
    let device = Device::default();
    let mut slow = Slow::new(device.clone(), Counts::default());
    let came = packet(17, HOST, REMOTE, 0, &datagram(HOST, REMOTE, [5_000, 53], &pattern(1_400)));
    let piece = packet(17, HOST, REMOTE, 1, &pattern(8));
    for (packet, mtu) in [(&came, 1_300), (&piece, 0)] {
        let old = Head { generation: 3, ..head(packet, mtu) };
        slow.take(&old, packet, &Passed(Some(record())), Instant::now());
    }
    assert!(device.0.borrow().is_empty());
    assert_eq!(slow.counts(), Counts { failed: 2, ..Counts::default() });
}

#[test]
fn a_frame_that_is_ready_leaves_as_it_is() {
    let device = Device::default();
    let mut slow = Slow::new(device.clone(), Counts::default());
    let frame = pattern(60);
    let ready = |device| Head {
        flags: Head::FRAME,
        length: 60,
        generation: 4,
        hop: Hop { device, ..Hop::default() },
        ..Head::default()
    };
    slow.take(&ready(7), &frame, &Passed(None), Instant::now());
    assert_eq!(*device.0.borrow(), [(7, frame.clone())]);
    assert_eq!(slow.counts(), Counts::default());
    slow.take(&ready(8), &frame, &Passed(None), Instant::now());
    let stale = Head { generation: 3, ..ready(7) };
    slow.take(&stale, &frame, &Passed(None), Instant::now());
    assert_eq!(slow.counts(), Counts { failed: 2, ..Counts::default() });
    assert_eq!(device.0.borrow().len(), 1, "what was judged under another configuration is not sent");
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut slow = Slow::new(Device::default(), Counts::default());
    let piece = packet(17, HOST, REMOTE, 1, &pattern(8));
    let nowhere = Record { hop: Hop { device: 8, ..HOP }, ..record() };
    slow.take(&head(&piece, 0), &piece, &Passed(Some(nowhere)), Instant::now());
    assert_eq!(slow.counts(), Counts { failed: 1, ..Counts::default() });
}

#[test]
fn a_flood_displaces_the_oldest_and_memory_stays_bounded() {
    let mut held = Held::default();
    let begin = Instant::now();
    let key = |source, identification| Key { source, identification, ..Key::default() };
    let mut gone = 0;
    for number in 0..100_000_u32 {
        let when = begin + Duration::from_micros(number.into());
        gone += held.hold(key(number % 5_000, (number / 5_000) as u16), pattern(1_500), when);
    }
    let left = held.expire(begin + Duration::from_secs(60), Duration::from_secs(2));
    assert_eq!(gone + left, 100_000, "each is held or counted");
    assert!((1_000..=2_048).contains(&left), "{left} were held at the end");
    let gone: usize = (0..1_000).map(|number| held.hold(key(1, number), pattern(8), begin)).sum();
    assert_eq!(gone, 1_000 - 512, "one source holds so many");
    let gone: usize = (0..100).map(|_| held.hold(key(2, 1), pattern(8), begin)).sum();
    assert_eq!(gone, 100 - 64, "and one datagram");
}
