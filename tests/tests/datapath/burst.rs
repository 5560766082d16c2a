//! Which packets are sent ahead, to be translated in bursts. The program that translates them runs where frames leave a
//! device, and the kernel lets nobody test it alone: the lab shows what it does.

use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, SYN},
    *,
};

super::tests![
    plain_packets_are_sent_ahead_with_nothing_but_their_mark_changed,
    what_is_not_plain_is_translated_at_once,
    what_does_not_leave_where_nearly_all_do_is_translated_at_once,
    with_several_private_interfaces_what_comes_in_is_translated_at_once,
];

/// The ethertype of what was sent ahead.
const MARK: [u8; 2] = [0x88, 0xb5];

/// One private subnet, whose packets go in bursts.
fn one_subnet() -> Rig {
    Rig::with(&Layout::one_private_subnet("[gateway]\nbursts = \"always\"\n"))
}

#[track_caller]
fn is_sent_ahead(rig: &mut Rig, side: Side, packet: &Packet) {
    let (frame, before) = (addressed(side, packet.frame()), rig.state());
    let outcome = rig.send_ahead(side, &frame[..]);
    let mut marked = frame;
    marked[12..14].copy_from_slice(&MARK);
    assert_eq!((outcome.verdict, outcome.frame), (Verdict::Redirect, marked));
    assert_eq!(rig.state().since(&before), before.since(&before), "something was counted or remembered");
}

/// The frame fares as it does with the program that translates one by one.
#[track_caller]
fn is_translated_at_once(rig: &mut Rig, side: Side, name: &str, frame: &[u8]) {
    let one_by_one = rig.send(side, frame);
    let outcome = rig.send_ahead(side, frame);
    assert_eq!((outcome.verdict, &outcome.frame), (one_by_one.verdict, &one_by_one.frame), "{name}");
    assert_ne!(outcome.frame.get(12..14), Some(&MARK[..]), "{name} is sent ahead");
}

fn plain_packets_are_sent_ahead_with_nothing_but_their_mark_changed() {
    let mut rig = one_subnet();
    for packet in [
        udp(HOST, 5_000, REMOTE, 53),
        tcp(HOST, 5_000, REMOTE, 443, SYN),
        tcp(HOST, 5_000, REMOTE, 443, ACK).payload(&[7; 1_460]),
        udp(HOST, 5_000, REMOTE_2, 53).ttl(2),
    ] {
        is_sent_ahead(&mut rig, Internal, &packet);
    }
    for packet in [udp(REMOTE, 53, ELASTIC_IP, PORT), tcp(REMOTE, 443, ELASTIC_IP, PORT, ACK)] {
        is_sent_ahead(&mut rig, External, &packet);
    }
}

fn what_is_not_plain_is_translated_at_once() {
    let mut rig = one_subnet();
    // The answer to one that has expired would else have another identification each time.
    let plain = || udp(HOST, 5_000, REMOTE, 53).with(|packet| packet.ip.dont_fragment = true);
    let frames: [(&str, Vec<u8>); 9] = [
        ("a ping", echo_request(HOST, 9, REMOTE).frame()),
        ("an expiring packet", plain().ttl(1).frame()),
        ("a first fragment", plain().with(|packet| packet.ip.more_fragments = true).frame()),
        ("options", plain().with(|packet| packet.ip.options = [1; 4].into()).frame()),
        ("a tag", plain().with(|packet| packet.tag = Some(100)).frame()),
        ("more than the MTU", plain().payload(&[0; 1_473]).frame()),
        ("less than its length", plain().frame()[..40].to_vec()),
        ("to a group of hosts", {
            let mut frame = addressed(Internal, plain().frame());
            frame[0] |= 1;
            frame
        }),
        ("another ethertype", {
            let mut frame = plain().frame();
            frame[12..14].copy_from_slice(&[0x88, 0xb6]);
            frame
        }),
    ];
    for (name, frame) in frames {
        is_translated_at_once(&mut rig, Internal, name, &frame);
    }
    let mut forged = addressed(Internal, plain().frame());
    forged[12..14].copy_from_slice(&MARK);
    assert_eq!(rig.send_ahead(Internal, forged).verdict, Verdict::Drop, "a host writes the mark itself");
}

fn what_does_not_leave_where_nearly_all_do_is_translated_at_once() {
    let mut rig = one_subnet();
    for (name, destination) in [
        ("the gateway's internal address", INTERNAL_ADDRESS),
        ("the gateway's external address", EXTERNAL_ADDRESS),
        ("the Elastic IP", ELASTIC_IP),
        ("another private host", SECOND_HOST),
        ("a group of hosts", [224, 0, 0, 251].into()),
    ] {
        let packet = udp(HOST, 5_000, destination, 53).with(|packet| packet.ip.dont_fragment = true);
        is_translated_at_once(&mut rig, Internal, name, &packet.frame());
    }
    let packet = tcp(REMOTE, 443, EXTERNAL_ADDRESS, 22, SYN);
    is_translated_at_once(&mut rig, External, "the gateway's external address", &packet.frame());
}

fn with_several_private_interfaces_what_comes_in_is_translated_at_once() {
    let mut rig = Rig::with(&Layout::with_limits("[gateway]\nbursts = \"always\"\n"));
    is_sent_ahead(&mut rig, Internal, &udp(HOST, 5_000, REMOTE, 53));
    let packet = udp(REMOTE, 53, ELASTIC_IP, PORT);
    is_translated_at_once(&mut rig, External, "an answer", &packet.frame());
}
