//! Ports whose answers come in on the queue of the packet that opened the session, as this file's own Toeplitz hash
//! finds them.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use nat_userspace::host::HostRss;
use natgw_tests::datapath::{Side::Internal, flags::SYN, *};

use crate::random::Random;

super::tests![
    answers_come_in_on_the_queue_of_the_packet_that_opened_the_session,
    answers_follow_any_table_of_queues,
    with_preferred_ports_taken_sessions_open_to_the_last_port,
    ports_of_one_queue_are_spread_evenly_over_the_range,
    without_same_queue_answers_are_spread_over_all_queues,
    a_protocol_whose_ports_are_not_hashed_has_no_preference,
    a_queue_that_the_external_device_lacks_is_no_obstacle,
    where_the_queue_is_not_known_answers_are_spread_over_all_queues,
];

/// A key as Linux makes it up at boot.
fn key() -> Vec<u8> {
    let mut random = Random::new(4);
    (0..52).map(|_| random.next() as u8).collect()
}

/// A device with these queues, by turns, that hashes the ports of TCP and UDP.
fn device(queues: u32) -> HostRss {
    let table = (0..128).map(|entry| entry % queues).collect();
    HostRss { toeplitz: true, symmetric: false, key: key(), table, tcp_ports: true, udp_ports: true }
}

/// The queue on which `device` delivers what comes from `source` to `destination`. Each bit of the hash is the parity of
/// the input under the key, shifted by the bit's place.
fn queue(device: &HostRss, source: SocketAddrV4, destination: SocketAddrV4) -> u32 {
    let bits = |bytes: &[u8]| -> Vec<u32> {
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place & 1))).collect()
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let input = bits(&[&source.ip().octets()[..], &destination.ip().octets(), &ports].concat());
    let key = bits(&device.key);
    let hash = (0..32).fold(0, |hash: u32, place| {
        let parity: u32 = input.iter().zip(&key[place..]).map(|(input, key)| input & key).sum();
        hash << 1 | parity & 1
    });
    device.table[hash as usize % device.table.len()]
}

/// A gateway with the option in force, if `ext0` is such a device.
fn gateway(layout: Layout, device: &HostRss) -> Rig {
    let layout = Layout { limits: "[gateway]\nsame_queue = true\n".into(), ..layout };
    let mut rig = Rig::with(&layout);
    rig.set_rss("ext0", device.clone());
    rig.apply(&layout);
    rig
}

/// Opens a session by a packet that comes in on a queue, and returns the endpoint that it was lent.
fn lend(rig: &mut Rig, queue: u32, packet: &Packet) -> SocketAddrV4 {
    let outcome = rig.send_on(queue, Internal, packet);
    lent(rig, packet, &outcome)
}

fn lent(rig: &Rig, packet: &Packet, outcome: &Outcome) -> SocketAddrV4 {
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    let leaving = &outcome.frame;
    let address = Ipv4Addr::new(leaving[26], leaving[27], leaving[28], leaving[29]);
    let lent = SocketAddrV4::new(address, u16::from_be_bytes([leaving[34], leaving[35]]));
    assert_eq!(outcome.frame, packet.translated(address, lent.port()).frame());
    lent
}

/// A remote endpoint at random.
fn remote(random: &mut Random) -> SocketAddrV4 {
    let address = Ipv4Addr::new(192, 0, random.next() as u8, random.next() as u8);
    SocketAddrV4::new(address, 1 + random.below(60_000) as u16)
}

/// How many of `sessions` sessions from `HOST`, opened on a queue, are answered on each queue of `device`.
fn answers(rig: &mut Rig, device: &HostRss, on: u32, sessions: usize) -> Vec<usize> {
    let mut random = Random::new(9);
    let mut answers = vec![0; QUEUES as usize];
    for _ in 0..sessions {
        let remote = remote(&mut random);
        let lent = lend(rig, on, &udp(HOST, 5000, *remote.ip(), remote.port()));
        answers[queue(device, remote, lent) as usize] += 1;
    }
    answers
}

fn assert_spread(answers: &[usize]) {
    let mean = answers.iter().sum::<usize>() / answers.len();
    assert!(answers.iter().all(|count| *count > mean * 3 / 5), "{answers:?}");
}

fn assert_answered_on_their_queue(rig: &mut Rig, device: &HostRss) {
    let mut random = Random::new(7);
    for on in 0..QUEUES {
        for number in 0..300_u16 {
            let remote = remote(&mut random);
            let host = if number % 3 == 0 { SECOND_HOST } else { HOST };
            let port = 1_000 + 300 * on as u16 + number;
            let packet = match number % 2 {
                0 => udp(host, port, *remote.ip(), remote.port()),
                _ => tcp(host, port, *remote.ip(), remote.port(), SYN),
            };
            let lent = lend(rig, on, &packet);
            assert_eq!(queue(device, remote, lent), on, "{host}:{port} as {lent} to {remote}");
        }
    }
    assert_eq!(rig.state().half_open(), []);
}

fn answers_come_in_on_the_queue_of_the_packet_that_opened_the_session() {
    let device = device(QUEUES);
    let mut rig = gateway(Layout::with_two_elastic_ips("1024-65535"), &device);
    assert_answered_on_their_queue(&mut rig, &device);
    // A query has no ports to be hashed.
    assert_eq!(rig.send_on(3, Internal, &echo_request(HOST, 1, REMOTE)).verdict, Verdict::Redirect);
}

fn answers_follow_any_table_of_queues() {
    let mut random = Random::new(2);
    let table: Vec<_> =
        (0..512).map(|entry| if entry < 64 { entry / 8 } else { random.below(8) as u32 }).collect();
    let device = HostRss { table, ..device(QUEUES) };
    let mut rig = gateway(Layout::with_ports("1024-65535"), &device);
    assert_answered_on_their_queue(&mut rig, &device);
}

fn with_preferred_ports_taken_sessions_open_to_the_last_port() {
    let device = device(QUEUES);
    let mut rig = gateway(Layout::with_ports("20000-20511"), &device);
    let to = SocketAddrV4::new(REMOTE, 53);
    let lent: Vec<_> = (1..=512).map(|port| lend(&mut rig, 3, &udp(HOST, port, REMOTE, 53))).collect();
    assert!(lent[..20].iter().all(|lent| queue(&device, to, *lent) == 3), "preferred ports come first");
    let ports: BTreeSet<_> = lent.iter().map(SocketAddrV4::port).collect();
    assert_eq!(ports, (20_000..=20_511).collect());
    let refused = rig.send_on(3, Internal, &udp(HOST, 600, REMOTE, 53)).verdict;
    assert_eq!(refused, Verdict::Tx.at_this_hook());
    assert_eq!(rig.state().drops().get("error_port_allocation"), Some(&1));
    assert_eq!(rig.state().half_open(), []);
}

fn ports_of_one_queue_are_spread_evenly_over_the_range() {
    const BUCKETS: usize = 32;
    let device = device(QUEUES);
    let mut rig = gateway(Layout::with_ports("1024-65535"), &device);
    let mut buckets = [0.0_f64; BUCKETS];
    for port in 1..=4_000 {
        let lent = lend(&mut rig, 6, &udp(HOST, 5000, REMOTE, port));
        buckets[usize::from(lent.port() - 1_024) * BUCKETS / 64_512] += 1.0;
    }
    let mean = 4_000.0 / BUCKETS as f64;
    let chi_square: f64 = buckets.iter().map(|count| (count - mean).powi(2) / mean).sum();
    // With 31 degrees of freedom, chance exceeds 90 once in ten million runs.
    assert!(chi_square < 90.0, "chi-square {chi_square}: {buckets:?}");
}

fn without_same_queue_answers_are_spread_over_all_queues() {
    let device = device(QUEUES);
    let layout = Layout::with_ports("1024-65535");
    let mut rig = Rig::with(&layout);
    rig.set_rss("ext0", device.clone());
    rig.apply(&layout);
    assert_spread(&answers(&mut rig, &device, 5, 2_000));
}

fn a_protocol_whose_ports_are_not_hashed_has_no_preference() {
    let device = HostRss { udp_ports: false, ..device(QUEUES) };
    let mut rig = gateway(Layout::with_ports("1024-65535"), &device);
    assert_spread(&answers(&mut rig, &device, 5, 2_000));
    let lent = lend(&mut rig, 5, &tcp(HOST, 1, REMOTE, 443, SYN));
    assert_eq!(queue(&device, SocketAddrV4::new(REMOTE, 443), lent), 5);
}

fn a_queue_that_the_external_device_lacks_is_no_obstacle() {
    let device = device(4);
    let mut rig = gateway(Layout::with_ports("1024-65535"), &device);
    assert_spread(&answers(&mut rig, &device, 7, 1_000)[..4]);
}

fn where_the_queue_is_not_known_answers_are_spread_over_all_queues() {
    let device = device(QUEUES);
    let mut rig = gateway(Layout::with_ports("1024-65535"), &device);
    let mut answers = vec![0; QUEUES as usize];
    for remote_port in 1..=2_000 {
        let packet = udp(HOST, 5000, REMOTE, remote_port);
        let outcome = rig.send(Internal, &packet);
        let lent = lent(&rig, &packet, &outcome);
        answers[queue(&device, SocketAddrV4::new(REMOTE, remote_port), lent) as usize] += 1;
    }
    assert_spread(&answers);
}
