//! Ports of new sessions: within their range, never twice toward one remote, exact to the last one, and random.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal, InternalB},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    ports_stay_within_the_range_of_the_elastic_ip,
    two_hosts_with_one_port_get_different_ports_toward_one_remote,
    one_port_serves_many_remotes,
    one_port_serves_every_protocol_toward_one_remote,
    a_range_of_four_ports_opens_four_sessions_toward_one_remote,
    a_range_is_used_to_its_last_port,
    elastic_ips_in_a_row_and_far_apart_are_one_pool,
    all_64512_ports_of_an_elastic_ip_are_lent_toward_one_remote_and_a_freed_one_again,
    four_elastic_ips_open_258048_sessions_toward_one_remote,
    a_port_whose_session_is_over_is_lent_before_it_is_aged,
    the_port_of_a_closed_session_goes_to_a_syn_that_is_provably_newer_and_to_no_other,
    the_port_of_a_session_that_was_reset_goes_to_no_syn_before_its_time,
    a_host_keeps_its_elastic_ip_whatever_it_talks_to,
    a_host_moves_to_the_next_elastic_ip_when_its_own_has_no_port_left,
    hosts_are_spread_over_the_elastic_ips,
    a_full_table_opens_no_session_and_leaves_nothing_half_open,
    a_released_port_is_used_again,
    ports_are_spread_evenly_over_the_range,
    ports_do_not_follow_one_another,
];

/// Opens a session and returns the endpoint that it was lent.
fn lend(rig: &mut Rig, packet: &Packet) -> SocketAddrV4 {
    let outcome = rig.send(Side::of(packet.ip.source.into()).0, packet);
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    let mut lent = source(&outcome.frame);
    if matches!(packet.body, Body::Icmp { .. }) {
        // The identifier of a query stands behind its type, code and checksum.
        lent.set_port(u16::from_be_bytes([outcome.frame[38], outcome.frame[39]]));
    }
    assert_eq!(outcome.frame, packet.translated(*lent.ip(), lent.port()).frame());
    lent
}

/// The packet finds no port after so many tries, and its sender gets communication administratively prohibited.
fn exhausted(packet: &Packet, tries: u64) -> Expected {
    let answer = packet.answered(INTERNAL_ADDRESS, 3, 13, 0);
    let refused = refused(Reason::ErrorPortAllocation, &answer).moves("hop_lookups", 1);
    if tries == 0 { refused } else { refused.moves("port_tries", tries) }
}

/// Lets a packet come that finds no port.
#[track_caller]
fn find_exhausted(rig: &mut Rig, packet: &Packet, tries: u64) {
    rig.expect(Internal, packet, exhausted(packet, tries));
}

fn ports_stay_within_the_range_of_the_elastic_ip() {
    let mut rig = Rig::with(&Layout::with_ports("65500-65535"));
    let lent: BTreeSet<_> =
        (1..=36).map(|port| lend(&mut rig, &udp(HOST, port, REMOTE, 53)).port()).collect();
    assert_eq!(lent, (65_500..=65_535).collect());
    let mut rig = Rig::with(&Layout::default());
    assert_eq!(lend(&mut rig, &udp(HOST, 1, REMOTE, 53)), SocketAddrV4::new(ELASTIC_IP, PORT));
}

fn two_hosts_with_one_port_get_different_ports_toward_one_remote() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40001"));
    let packets = [udp(HOST, 5000, REMOTE, 53), udp(SECOND_HOST, 5000, REMOTE, 53)];
    let lent = packets.each_ref().map(|packet| lend(&mut rig, packet));
    assert_ne!(lent[0], lent[1]);
    for (packet, endpoint) in packets.iter().zip(lent) {
        let answer = packet.translated(*endpoint.ip(), endpoint.port()).answer();
        let delivered = answer.delivered(packet.ip.source.into(), 5000);
        rig.expect(External, &answer, inbound(&delivered).judged());
    }
}

fn one_port_serves_many_remotes() {
    let mut rig = Rig::standard();
    for port in 1..200 {
        rig.open(&udp(HOST, 5000, REMOTE, port));
        rig.open(&udp(HOST, 5000, REMOTE_2, port));
    }
    assert_eq!(rig.sessions().len(), 398);
}

fn one_port_serves_every_protocol_toward_one_remote() {
    let mut rig = Rig::standard();
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.open(&tcp(HOST, 5000, REMOTE, 53, SYN));
    rig.open(&echo_request(HOST, 5000, REMOTE));
}

fn a_range_of_four_ports_opens_four_sessions_toward_one_remote() {
    let mut rig = Rig::with(&Layout::with_ports("40000-40003"));
    let lent: BTreeSet<_> =
        (1..=4).map(|port| lend(&mut rig, &tcp(HOST, port, REMOTE, 443, SYN)).port()).collect();
    assert_eq!(lent, (40_000..=40_003).collect());
    find_exhausted(&mut rig, &tcp(HOST, 5, REMOTE, 443, SYN), 4);
    find_exhausted(&mut rig, &tcp(SECOND_HOST, 1, REMOTE, 443, SYN), 4);
    lend(&mut rig, &tcp(HOST, 5, REMOTE_2, 443, SYN));
    lend(&mut rig, &tcp(HOST, 5, REMOTE, 444, SYN));
    lend(&mut rig, &udp(HOST, 5, REMOTE, 443));
    assert_eq!(rig.state().counter("sessions_opened"), 7);
}

fn a_range_is_used_to_its_last_port() {
    let mut rig = Rig::with(&Layout::with_ports("20000-22047"));
    let lent: BTreeSet<_> =
        (1..=2_048).map(|port| lend(&mut rig, &udp(HOST, port, REMOTE, 53)).port()).collect();
    assert_eq!(lent, (20_000..=22_047).collect());
    let one_more = udp(HOST, 2_049, REMOTE, 53);
    assert_eq!(rig.send(Internal, &one_more).verdict, Verdict::Tx.at_this_hook());
    find_exhausted(&mut rig, &one_more, 0);
}

fn elastic_ips_in_a_row_and_far_apart_are_one_pool() {
    let addresses = ["203.0.113.3", "203.0.113.4", "203.0.113.9", "198.18.7.1", "192.88.99.200"];
    let mut rig = Rig::with(&Layout::with_elastic_ips(&addresses, "40000"));
    let all: BTreeSet<_> = addresses
        .iter()
        .map(|address| SocketAddrV4::new(address.parse().expect("an address"), PORT))
        .collect();
    let mut lent = BTreeSet::new();
    for port in 1..=5 {
        let packet = udp(HOST, port, REMOTE, 53);
        let endpoint = lend(&mut rig, &packet);
        let answer = packet.translated(*endpoint.ip(), endpoint.port()).answer();
        rig.expect(External, &answer, inbound(&answer.delivered(HOST, port)).judged());
        lent.insert(endpoint);
    }
    assert_eq!(lent, all);
    find_exhausted(&mut rig, &udp(HOST, 6, REMOTE, 53), 5);
    find_exhausted(&mut rig, &udp(SECOND_HOST, 1, REMOTE, 53), 5);
}

/// Opens `count` TCP sessions toward one remote, each at its first packet; the endpoints that they were lent.
fn fill(rig: &mut Rig, count: u32) -> BTreeSet<SocketAddrV4> {
    let hosts = (2..=251).map(|last| Ipv4Addr::new(10, 0, 1, last));
    let sources = hosts.flat_map(|host| (1_024..=u16::MAX).map(move |port| (host, port)));
    let lent = sources.take(count as usize).map(|(host, port)| {
        let outcome = rig.send(Internal, &tcp(host, port, REMOTE, 443, SYN));
        assert_eq!(outcome.verdict, Verdict::Redirect, "{host}:{port}: {:?}", rig.state().drops());
        source(&outcome.frame)
    });
    lent.collect()
}

fn source(frame: &[u8]) -> SocketAddrV4 {
    let address: [u8; 4] = frame[26..30].try_into().expect("four bytes");
    SocketAddrV4::new(address.into(), u16::from_be_bytes([frame[34], frame[35]]))
}

/// A SYN of a host of the second subnet finds no port, and once that is known, without trying any.
#[track_caller]
fn find_another_exhausted(rig: &mut Rig, port: u16) {
    let packet = tcp(HOST_B, port, REMOTE, 443, SYN);
    assert_eq!(rig.send(InternalB, &packet).verdict, Verdict::Tx.at_this_hook());
    let answer = packet.answered(INTERNAL_B_ADDRESS, 3, 13, 0);
    rig.expect(InternalB, &packet, refused(Reason::ErrorPortAllocation, &answer).moves("hop_lookups", 1));
}

fn all_64512_ports_of_an_elastic_ip_are_lent_toward_one_remote_and_a_freed_one_again() {
    let limits = "[gateway]\nmax_sessions = 80000\n[timeouts]\ntcp_closing = 5\n".to_owned();
    let mut rig = Rig::with(&Layout { limits, ..Layout::with_ports("1024-65535") });
    let lent = fill(&mut rig, 64_512);
    assert_eq!(lent.len(), 64_512);
    assert!(lent.iter().all(|lent| *lent.ip() == ELASTIC_IP && lent.port() >= 1_024));
    for port in 1..=3 {
        find_another_exhausted(&mut rig, port);
    }
    // Toward another remote, and by another protocol, everything is free.
    lend(&mut rig, &tcp(HOST_B, 1, REMOTE_2, 443, SYN));
    lend(&mut rig, &udp(HOST_B, 1, REMOTE, 443));
    // One ends, and its port is the next session's.
    let reset = rig.send(Internal, &tcp([10, 0, 1, 2].into(), 5_000, REMOTE, 443, RST));
    assert_eq!(rig.age(10), (1, 0));
    assert_eq!(lend(&mut rig, &tcp(HOST_B, 1, REMOTE, 443, SYN)), source(&reset.frame));
    for port in 2..=4 {
        find_another_exhausted(&mut rig, port);
    }
}

fn four_elastic_ips_open_258048_sessions_toward_one_remote() {
    let limits = "[gateway]\nmax_sessions = 300000\n".to_owned();
    let addresses = ["203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.13"];
    let mut rig = Rig::with(&Layout { limits, ..Layout::with_elastic_ips(&addresses, "1024-65535") });
    assert_eq!(fill(&mut rig, 258_048).len(), 258_048);
    find_another_exhausted(&mut rig, 1);
}

fn a_port_whose_session_is_over_is_lent_before_it_is_aged() {
    let limits = "[timeouts]\nudp = 1\n".to_owned();
    let mut rig = Rig::with(&Layout { limits, ..Layout::with_ports("40000-40003") });
    for port in 1..=4 {
        lend(&mut rig, &udp(HOST, port, REMOTE, 53));
    }
    find_exhausted(&mut rig, &udp(HOST, 5, REMOTE, 53), 4);
    std::thread::sleep(std::time::Duration::from_millis(3_600));
    // One is seen once more, and is not over.
    rig.send(Internal, &udp(HOST, 1, REMOTE, 53));
    for port in 5..=7 {
        lend(&mut rig, &udp(HOST, port, REMOTE, 53));
    }
    find_exhausted(&mut rig, &udp(HOST, 8, REMOTE, 53), 4);
    assert_eq!((rig.state().counter("sessions_released"), rig.sessions().len()), (3, 4));
    assert_eq!(rig.state().half_open(), []);
}

/// A TCP segment of `host` with this sequence number.
fn segment(host: Ipv4Addr, port: u16, flags: u8, sequence: u32) -> Packet {
    tcp(host, port, REMOTE, 443, flags).with(|packet| {
        let Body::Tcp(header, _) = &mut packet.body else { panic!("it is TCP") };
        header.sequence_number = sequence;
    })
}

/// Opens a session of `host` on the only port, and has both sides send these flags; their last sequence number.
fn end_by(rig: &mut Rig, host: Ipv4Addr, flags: u8) -> u32 {
    let first = 0xffff_ff00;
    let (_, answer) = rig.establish(&segment(host, 5_000, SYN, first));
    let last = segment(host, 5_000, flags, first.wrapping_add(0x200));
    rig.send(Internal, &last);
    rig.send(
        External,
        &answer.with(|packet| {
            let Body::Tcp(header, _) = &mut packet.body else { panic!("it is TCP") };
            (header.fin, header.rst, header.ack, header.syn) =
                (flags & FIN != 0, flags & RST != 0, true, false);
        }),
    );
    // Its five bytes, and the FIN.
    first.wrapping_add(0x206)
}

fn the_port_of_a_closed_session_goes_to_a_syn_that_is_provably_newer_and_to_no_other() {
    let mut rig = Rig::standard();
    let end = end_by(&mut rig, HOST, FIN | ACK);
    let verdict =
        |rig: &mut Rig, sequence| rig.send(Internal, &segment(SECOND_HOST, 6_000, SYN, sequence)).verdict;
    let refused = Verdict::Tx.at_this_hook();
    let opened = |rig: &Rig| rig.state().counter("sessions_opened");
    verdict(&mut rig, end.wrapping_add(1));
    assert_eq!(opened(&rig), 1, "the last segments are still on their way");
    std::thread::sleep(std::time::Duration::from_millis(3_600));
    for older in [end, end.wrapping_sub(1), end.wrapping_add(1 << 31)] {
        assert_eq!(
            (verdict(&mut rig, older), opened(&rig)),
            (refused, 1),
            "{older:#x} is not after {end:#x}"
        );
    }
    rig.send(Internal, &udp(SECOND_HOST, 6_000, REMOTE, 53));
    assert_eq!(verdict(&mut rig, end.wrapping_add(1)), Verdict::Redirect);
    assert_eq!((opened(&rig), rig.state().counter("sessions_released")), (3, 1));
    assert_eq!(rig.state().half_open(), []);
    assert_eq!(verdict(&mut rig, end.wrapping_add(1)), Verdict::Redirect, "it is its own by now");
}

fn the_port_of_a_session_that_was_reset_goes_to_no_syn_before_its_time() {
    let mut rig = Rig::standard();
    let end = end_by(&mut rig, HOST, RST);
    std::thread::sleep(std::time::Duration::from_millis(3_600));
    rig.send(Internal, &segment(SECOND_HOST, 6_000, SYN, end.wrapping_add(1)));
    assert_eq!(rig.state().counter("sessions_opened"), 1);
    assert_eq!(rig.age(250).0, 1);
    rig.open(&segment(SECOND_HOST, 6_000, SYN, end.wrapping_add(1)));
}

fn a_host_keeps_its_elastic_ip_whatever_it_talks_to() {
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("40000-40003"));
    for host in (1..=20).map(|last| Ipv4Addr::new(10, 0, 1, 100 + last)) {
        let first = *lend(&mut rig, &udp(host, 1, [192, 0, 2, 200].into(), u16::from(host.octets()[3]))).ip();
        for last in 1..=20 {
            let (remote, remote_port) = (Ipv4Addr::new(192, 0, 3, last), u16::from(host.octets()[3]));
            assert_eq!(*lend(&mut rig, &udp(host, 2, remote, remote_port)).ip(), first);
            assert_eq!(*lend(&mut rig, &tcp(host, 3, remote, remote_port, SYN)).ip(), first);
            // Queries have no remote port: toward one remote there are as many as identifiers are lent.
            let remote = Ipv4Addr::new(198, 18, host.octets()[3], last);
            assert_eq!(*lend(&mut rig, &echo_request(host, 4, remote)).ip(), first);
        }
    }
}

fn a_host_moves_to_the_next_elastic_ip_when_its_own_has_no_port_left() {
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("40000-40001"));
    let lent: Vec<_> = (1..=4).map(|port| lend(&mut rig, &udp(HOST, port, REMOTE, 53))).collect();
    assert_eq!(lent[0].ip(), lent[1].ip());
    assert_eq!(lent[2].ip(), lent[3].ip());
    assert_eq!(lent.iter().collect::<BTreeSet<_>>().len(), 4);
    find_exhausted(&mut rig, &udp(HOST, 5, REMOTE, 53), 4);
    assert_eq!(lend(&mut rig, &udp(HOST, 5, REMOTE_2, 53)).ip(), lent[0].ip(), "its own comes first");
}

fn hosts_are_spread_over_the_elastic_ips() {
    let mut rig = Rig::with(&Layout::with_two_elastic_ips("1024-65535"));
    let mut hosts = BTreeMap::new();
    for last in 2..=251 {
        let lent = lend(&mut rig, &udp([10, 0, 1, last].into(), 1, REMOTE, 53));
        *hosts.entry(*lent.ip()).or_insert(0) += 1;
    }
    assert!(hosts.len() == 2 && hosts.values().all(|count| *count > 75), "{hosts:?}");
}

fn a_full_table_opens_no_session_and_leaves_nothing_half_open() {
    let limits = "[gateway]\nmax_sessions = 1024\n".to_owned();
    let mut rig = Rig::with(&Layout { limits, ..Layout::with_ports("1024-65535") });
    // There is room for 1,024 sessions in any case, and for twice as many with luck.
    let endpoints: Vec<_> = (1..=1_024).map(|port| lend(&mut rig, &udp(HOST, port, REMOTE, 53))).collect();
    let mut refused = 0;
    for port in 1_025..=4_096 {
        let before = rig.state();
        let outcome = rig.send(Internal, &udp(HOST, port, REMOTE, 53));
        let change = rig.state().since(&before);
        if change.opened == 0 {
            assert_eq!(change.drops, [("table_full", 1)].into());
            refused += 1;
        } else {
            assert_eq!((outcome.verdict, change.opened), (Verdict::Redirect, 2));
        }
    }
    assert!((2_048..3_072).contains(&refused), "{refused} of 3,072 sessions beyond the limit were refused");
    assert_eq!(rig.state().half_open(), []);
    // What is open goes on.
    let known = udp(HOST, 1, REMOTE, 53);
    let leaving = known.translated(*endpoints[0].ip(), endpoints[0].port());
    rig.expect(Internal, &known, outbound(&leaving));
    rig.expect(External, &leaving.answer(), inbound(&leaving.answer().delivered(HOST, 1)).judged());
    assert_eq!(rig.age(400), (4_096 - refused, 0));
    lend(&mut rig, &udp(HOST, 2_000, REMOTE_2, 53));
}

fn a_released_port_is_used_again() {
    let mut rig = Rig::standard();
    rig.open(&udp(HOST, 5000, REMOTE, 53));
    find_exhausted(&mut rig, &udp(SECOND_HOST, 5000, REMOTE, 53), 1);
    rig.age(350);
    let (_, answer) = rig.establish(&udp(SECOND_HOST, 5000, REMOTE, 53));
    rig.expect(External, &answer, inbound(&answer.delivered(SECOND_HOST, 5000)));
}

/// The ports of many sessions toward remotes of their own.
fn many_ports() -> Vec<u16> {
    let mut rig = Rig::with(&Layout::with_ports("1024-65535"));
    (1..=4_000).map(|port| lend(&mut rig, &udp(HOST, 5000, REMOTE, port)).port()).collect()
}

fn ports_are_spread_evenly_over_the_range() {
    const BUCKETS: usize = 32;
    let ports = many_ports();
    let mut buckets = [0.0_f64; BUCKETS];
    for port in &ports {
        buckets[usize::from(port - 1_024) * BUCKETS / 64_512] += 1.0;
    }
    let mean = ports.len() as f64 / BUCKETS as f64;
    let chi_square: f64 = buckets.iter().map(|count| (count - mean).powi(2) / mean).sum();
    // With 31 degrees of freedom, chance exceeds 90 once in ten million runs.
    assert!(chi_square < 90.0, "chi-square {chi_square}: {buckets:?}");
}

fn ports_do_not_follow_one_another() {
    let ports = many_ports();
    let near = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 64).count();
    // Chance makes about 8 of 4,000 pairs near.
    assert!(near < 40, "{near} ports are near their predecessor");
}
