//! Blocks of ports: whose they are, when there is another, and when they come back.

use std::{collections::BTreeSet, net::Ipv4Addr};

use DropReason as Reason;
use nat_userspace::datapath::{Block, Session};
use natgw_tests::datapath::{
    Side::{External, Internal},
    *,
};

use super::random::Random;

super::tests![
    sessions_of_a_host_stay_in_its_block,
    a_host_is_lent_its_next_block_before_it_needs_it,
    a_host_is_lent_no_block_while_its_newest_has_room,
    a_host_uses_every_port_of_all_its_blocks_and_no_other,
    all_blocks_of_a_host_are_on_one_elastic_ip_while_it_has_any,
    a_host_moves_to_the_next_elastic_ip_when_its_own_has_no_block_left,
    no_two_hosts_share_a_block,
    without_a_free_block_a_new_host_is_refused,
    a_block_comes_back_when_no_session_has_stood_in_it_for_a_while,
    a_session_in_time_keeps_the_block,
    a_block_of_an_elastic_ip_that_is_withdrawn_is_nobodys,
    a_computed_block_is_a_function_of_the_address,
    computed_blocks_go_on_at_the_next_elastic_ip,
    within_a_block_ports_are_drawn_at_random,
];

fn layout(addresses: &[&str], ports: &str, fields: &str) -> Layout {
    let layout = Layout::with_elastic_ips(addresses, ports);
    Layout { nat_gateways: format!("{}{fields}\n", layout.nat_gateways), ..layout }
}

fn one(ports: &str, fields: &str) -> Layout {
    layout(&["203.0.113.10"], ports, fields)
}

fn two(ports: &str, fields: &str) -> Layout {
    layout(&["203.0.113.10", "203.0.113.11"], ports, fields)
}

/// Opens a session; it is the one that is new.
#[track_caller]
fn open(rig: &mut Rig, host: Ipv4Addr, port: u16, remote: Ipv4Addr, remote_port: u16) {
    let outcome = rig.send(Internal, &udp(host, port, remote, remote_port));
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
}

#[track_caller]
fn refuse(rig: &mut Rig, host: Ipv4Addr, port: u16, remote: Ipv4Addr, reason: Reason) {
    let before = rig.state();
    let outcome = rig.send(Internal, &udp(host, port, remote, 53));
    assert_eq!(outcome.verdict, Verdict::Tx.at_this_hook());
    assert_eq!(rig.state().since(&before).drops, [(reason.name(), 1)].into());
}

fn blocks(rig: &Rig) -> Vec<Block> {
    rig.maps().blocks().unwrap()
}

fn holds(block: &Block, session: &Session) -> bool {
    block.host == *session.internal.ip()
        && block.elastic_ip == *session.external.ip()
        && (block.first_port..=block.last_port).contains(&session.external.port())
}

/// Every session stands in a block of its host, and no port is in two blocks.
#[track_caller]
fn assert_confined(rig: &Rig) {
    let blocks = blocks(rig);
    for session in rig.sessions() {
        assert!(blocks.iter().any(|block| holds(block, &session)), "{session:?} {blocks:?}");
    }
    let places: BTreeSet<_> = blocks.iter().map(|block| (block.elastic_ip, block.first_port)).collect();
    assert_eq!(places.len(), blocks.len());
}

fn sessions_of_a_host_stay_in_its_block() {
    let mut rig = Rig::with(&one("1024-65535", "block_size = 64"));
    for remote_port in 1..=200 {
        open(&mut rig, HOST, 5_000, REMOTE, remote_port);
        open(&mut rig, SECOND_HOST, 5_000, REMOTE, remote_port);
    }
    assert_eq!(blocks(&rig).len(), 2);
    assert_confined(&rig);
    let mut told = rig.lent_blocks();
    told.sort_unstable();
    assert_eq!(told, blocks(&rig));
    // Answers find their way.
    let session = rig.sessions()[0];
    let host = *session.internal.ip();
    let known = udp(host, 5_000, REMOTE, session.remote.port());
    let answer = known.translated(*session.external.ip(), session.external.port()).answer();
    rig.expect(External, &answer, inbound(&answer.delivered(host, 5_000)).judged());
}

fn a_host_is_lent_its_next_block_before_it_needs_it() {
    let mut rig = Rig::with(&one("1024-65535", "block_size = 64\nmax_blocks = 2"));
    let mut sessions = 0;
    while blocks(&rig).len() < 2 {
        sessions += 1;
        open(&mut rig, HOST, sessions, REMOTE, 53);
        assert!(sessions <= 64);
    }
    // Sixteen ports found taken, one after the other: unlikely where few are taken, and certain where all are.
    assert!((17..=64).contains(&sessions), "after {sessions} sessions");
    assert_confined(&rig);
}

fn a_host_is_lent_no_block_while_its_newest_has_room() {
    let mut rig = Rig::with(&one("1024-65535", "block_size = 512\nmax_blocks = 8"));
    for port in 1..=532 {
        open(&mut rig, HOST, port, REMOTE, 53);
    }
    assert_eq!(blocks(&rig).len(), 2);
    assert_confined(&rig);
}

fn a_host_uses_every_port_of_all_its_blocks_and_no_other() {
    for max in 1..=3 {
        let mut rig = Rig::with(&one("1024-65535", &format!("block_size = 64\nmax_blocks = {max}")));
        for port in 1..=64 * max {
            open(&mut rig, HOST, port, REMOTE, 53);
        }
        refuse(&mut rig, HOST, 1_000, REMOTE, Reason::HostPortLimit);
        assert_eq!(blocks(&rig).len(), usize::from(max));
        open(&mut rig, HOST, 1_000, REMOTE_2, 53);
        open(&mut rig, SECOND_HOST, 1, REMOTE, 53);
        assert_confined(&rig);
    }
}

fn all_blocks_of_a_host_are_on_one_elastic_ip_while_it_has_any() {
    let mut rig = Rig::with(&two("1024-65535", "block_size = 64\nmax_blocks = 8"));
    for host in [HOST, SECOND_HOST] {
        for port in 1..=512 {
            open(&mut rig, host, port, REMOTE, 53);
        }
        let addresses: BTreeSet<_> =
            blocks(&rig).iter().filter(|block| block.host == host).map(|block| block.elastic_ip).collect();
        assert_eq!(addresses.len(), 1);
    }
    assert_eq!(blocks(&rig).len(), 16);
    assert_confined(&rig);
}

fn a_host_moves_to_the_next_elastic_ip_when_its_own_has_no_block_left() {
    let mut rig = Rig::with(&two("1024-1151", "block_size = 64\nmax_blocks = 8"));
    for port in 1..=256 {
        open(&mut rig, HOST, port, REMOTE, 53);
    }
    assert_eq!(blocks(&rig).len(), 4);
    assert_confined(&rig);
    refuse(&mut rig, HOST, 300, REMOTE, Reason::ErrorPortAllocation);
    refuse(&mut rig, SECOND_HOST, 1, REMOTE, Reason::ErrorPortAllocation);
}

fn no_two_hosts_share_a_block() {
    let mut rig = Rig::with(&two("1024-9215", "block_size = 128\nmax_blocks = 2"));
    let mut random = Random::new(3);
    for _ in 0..6_000 {
        let host = Ipv4Addr::new(10, 0, 1, 2 + random.below(100) as u8);
        let remote = Ipv4Addr::new(192, 0, 2, 10 + random.below(2) as u8);
        rig.send(Internal, &udp(host, 1 + random.below(500) as u16, remote, 53));
        if random.below(500) == 0 {
            rig.age(random.below(500) as u64);
            rig.maps_mut().return_blocks().unwrap();
            assert_confined(&rig);
        }
    }
    assert_confined(&rig);
    assert!(blocks(&rig).len() > 20);
}

fn without_a_free_block_a_new_host_is_refused() {
    let mut rig = Rig::with(&one("1024-1279", "block_size = 64\nmax_blocks = 1"));
    for last in 2..=5 {
        open(&mut rig, [10, 0, 1, last].into(), 1, REMOTE, 53);
    }
    for _ in 0..3 {
        refuse(&mut rig, [10, 0, 1, 6].into(), 1, REMOTE, Reason::ErrorPortAllocation);
    }
    open(&mut rig, [10, 0, 1, 2].into(), 2, REMOTE, 53);
    rig.age(400);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    assert_eq!(rig.maps_mut().return_blocks().unwrap().len(), 4);
    open(&mut rig, [10, 0, 1, 6].into(), 1, REMOTE, 53);
    assert_confined(&rig);
}

fn a_block_comes_back_when_no_session_has_stood_in_it_for_a_while() {
    let mut rig = Rig::with(&one("1024-65535", "block_size = 64"));
    open(&mut rig, HOST, 1, REMOTE, 53);
    let held = blocks(&rig);
    for _ in 0..3 {
        assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    }
    rig.age(400);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    assert_eq!(blocks(&rig), held);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), held);
    assert_eq!(blocks(&rig), []);
}

fn a_session_in_time_keeps_the_block() {
    let mut rig = Rig::with(&one("1024-65535", "block_size = 64"));
    open(&mut rig, HOST, 1, REMOTE, 53);
    let held = blocks(&rig);
    rig.age(400);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    open(&mut rig, HOST, 2, REMOTE, 53);
    assert_eq!(blocks(&rig), held);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    assert_eq!(rig.maps_mut().return_blocks().unwrap(), []);
    assert_confined(&rig);
}

fn a_block_of_an_elastic_ip_that_is_withdrawn_is_nobodys() {
    let fields = "block_size = 64";
    let mut rig = Rig::with(&one("1024-65535", fields));
    open(&mut rig, HOST, 1, REMOTE, 53);
    rig.apply(&layout(&["203.0.113.11"], "1024-65535", fields));
    assert_eq!(blocks(&rig), []);
    open(&mut rig, HOST, 2, REMOTE, 53);
    let [block] = blocks(&rig)[..] else { panic!("{:?}", blocks(&rig)) };
    assert_eq!(block.elastic_ip, Ipv4Addr::new(203, 0, 113, 11));
    // Without blocks ports are anybody's again.
    rig.apply(&layout(&["203.0.113.11"], "1024-65535", ""));
    assert_eq!(blocks(&rig), []);
    open(&mut rig, HOST, 3, REMOTE, 53);
}

fn a_computed_block_is_a_function_of_the_address() {
    // Of the subnets, 10.0.1.0/24 comes first, and each Elastic IP has 504 blocks of 128.
    let mut rig = Rig::with(&two("1024-65535", "block_size = 128\ndeterministic = true"));
    for (host, side, place) in
        [(HOST, Internal, 10), (SECOND_HOST, Internal, 11), (HOST_B, Side::InternalB, 266)]
    {
        for port in 1..=128 {
            assert_eq!(rig.send(side, &udp(host, port, REMOTE, 53)).verdict, Verdict::Redirect);
        }
        assert_eq!(rig.send(side, &udp(host, 129, REMOTE, 53)).verdict, Verdict::Tx.at_this_hook());
        let sessions = rig.sessions().into_iter().filter(|session| *session.internal.ip() == host);
        let ports: BTreeSet<_> = sessions.map(|session| session.external).collect();
        assert!(ports.iter().all(|external| *external.ip() == ELASTIC_IP));
        let ports: Vec<_> = ports.iter().map(|external| external.port()).collect();
        let first = 1_024 + place * 128;
        assert_eq!(ports, (first..first + 128).collect::<Vec<_>>());
    }
    assert_eq!(blocks(&rig), [], "there is no state");
}

fn computed_blocks_go_on_at_the_next_elastic_ip() {
    // 256 hosts of the first subnet and 248 of the second fill the first Elastic IP's 504 blocks.
    let mut rig = Rig::with(&two("1024-65535", "block_size = 128\ndeterministic = true"));
    for (last, elastic_ip, first) in
        [(247, ELASTIC_IP, 1_024_u16 + 503 * 128), (248, SECOND_ELASTIC_IP, 1_024)]
    {
        let packet = udp([10, 0, 2, last].into(), 1, REMOTE, 53);
        assert_eq!(rig.send(Side::InternalB, &packet).verdict, Verdict::Redirect);
        let [session] = rig.sessions()[..] else { panic!("{:?}", rig.sessions()) };
        assert_eq!(*session.external.ip(), elastic_ip);
        assert!((first..=first + 127).contains(&session.external.port()), "{session:?}");
        rig.age(400);
    }
}

fn within_a_block_ports_are_drawn_at_random() {
    const SIZE: u16 = 128;
    for mode in ["deterministic = true", "deterministic = false"] {
        let mut rig = Rig::with(&two("1024-65535", &format!("block_size = {SIZE}\n{mode}")));
        // Each toward a remote endpoint of its own, so that all ports are free.
        let drawn = (1..=4_000).map(|remote_port| {
            let outcome = rig.send(Internal, &udp(HOST, 5_000, REMOTE, remote_port));
            assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
            u16::from_be_bytes([outcome.frame[34], outcome.frame[35]])
        });
        let drawn: Vec<_> = drawn.collect();
        let block = (drawn[0] - 1_024) / SIZE;
        let mut counts = [0.0_f64; SIZE as usize];
        for port in &drawn {
            assert_eq!((port - 1_024) / SIZE, block, "{mode}: {port} is in another block than {}", drawn[0]);
            counts[usize::from(port % SIZE)] += 1.0;
        }
        let mean = drawn.len() as f64 / f64::from(SIZE);
        let chi_square: f64 = counts.iter().map(|count| (count - mean).powi(2) / mean).sum();
        // With 127 degrees of freedom, chance exceeds 230 once in ten million runs.
        assert!(chi_square < 230.0, "{mode}: chi-square {chi_square}: {counts:?}");
        let near = drawn.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 2).count();
        // Chance makes about 93 of 4,000 pairs neighbours or equal.
        assert!(near < 180, "{mode}: {near} ports are their predecessor's neighbours");
    }
}
