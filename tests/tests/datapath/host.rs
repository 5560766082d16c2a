//! Limits of one internal host: exact to the last session, and without drift.

use std::{collections::BTreeMap, net::Ipv4Addr, thread::sleep, time::Duration};

use DropReason as Reason;
use nat_common::host::Record;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{RST, SYN},
    *,
};

use super::random::Random;

super::tests![
    a_host_opens_as_many_sessions_as_it_may_and_no_more,
    a_host_opens_as_many_sessions_toward_one_remote_as_it_may,
    a_host_opens_as_many_sessions_in_a_second_as_it_may,
    a_released_session_makes_room_for_another,
    a_session_that_finds_no_port_is_not_counted,
    sessions_that_were_open_before_count_once_limits_are_switched_on,
    sessions_go_on_counting_right_when_limits_are_switched_off_and_on_again,
    counts_follow_their_nat_gateway_when_its_number_changes,
    an_icmp_error_about_a_counted_session_finds_its_way,
    counts_do_not_drift,
];

/// The standard layout with these ports and these fields of the NAT gateway.
fn layout(ports: &str, fields: &str) -> Layout {
    let layout = Layout::with_ports(ports);
    Layout { nat_gateways: format!("{}{fields}\n", layout.nat_gateways), ..layout }
}

/// Lets a packet come whose sender gets communication administratively prohibited.
#[track_caller]
fn refuse(rig: &mut Rig, packet: &Packet, reason: Reason) {
    let answer = packet.answered(INTERNAL_ADDRESS, 3, 13, 0);
    rig.expect(Internal, packet, refused(reason, &answer).moves("hop_lookups", 1));
}

/// Lets a packet come that opens a session.
#[track_caller]
fn open(rig: &mut Rig, packet: &Packet) {
    let before = rig.state();
    assert_eq!(rig.send(Internal, packet).verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    assert_eq!(rig.state().since(&before).opened, 2);
}

/// The counts of hosts, and of hosts and remotes, as the sessions have them.
#[track_caller]
fn assert_exact(rig: &Rig, per_host: bool, per_remote: bool) {
    let mut wanted: BTreeMap<(Ipv4Addr, Ipv4Addr, u16, u8), u64> = BTreeMap::new();
    for session in rig.sessions() {
        let (host, remote) = (*session.internal.ip(), session.remote);
        if per_host {
            *wanted.entry((host, Ipv4Addr::UNSPECIFIED, 0, 0)).or_default() += 1;
        }
        if per_remote {
            *wanted.entry((host, *remote.ip(), remote.port(), session.protocol)).or_default() += 1;
        }
    }
    let found = rig.maps().hosts().unwrap().into_iter().map(|Record { key, sessions, .. }| {
        let remote_port = u16::from_be(key.destination_port);
        ((key.source_address(), key.destination_address(), remote_port, key.protocol), sessions)
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted);
}

fn a_host_opens_as_many_sessions_as_it_may_and_no_more() {
    let mut rig = Rig::with(&layout("1024-65535", "max_sessions_per_host = 100"));
    for port in 1..=100 {
        open(&mut rig, &udp(HOST, port, REMOTE, 53 + port % 7));
    }
    for port in 101..=110 {
        refuse(&mut rig, &udp(HOST, port, REMOTE_2, 53), Reason::HostSessionLimit);
    }
    for port in 1..=100 {
        open(&mut rig, &udp(SECOND_HOST, port, REMOTE, 53));
    }
    refuse(&mut rig, &tcp(SECOND_HOST, 101, REMOTE, 53, SYN), Reason::HostSessionLimit);
    // What is open goes on.
    assert_eq!(rig.send(Internal, &udp(HOST, 7, REMOTE, 53)).verdict, Verdict::Redirect);
    assert_exact(&rig, true, false);
}

fn a_host_opens_as_many_sessions_toward_one_remote_as_it_may() {
    let mut rig = Rig::with(&layout("1024-65535", "max_ports_per_destination = 5"));
    for remote in [REMOTE, REMOTE_2] {
        for port in 1..=5 {
            open(&mut rig, &udp(HOST, port, remote, 53));
            open(&mut rig, &udp(HOST, port, remote, 54));
            open(&mut rig, &tcp(HOST, port, remote, 53, SYN));
            open(&mut rig, &udp(SECOND_HOST, port, remote, 53));
        }
        refuse(&mut rig, &udp(HOST, 6, remote, 53), Reason::HostPortLimit);
        refuse(&mut rig, &udp(HOST, 6, remote, 54), Reason::HostPortLimit);
        refuse(&mut rig, &tcp(HOST, 6, remote, 53, SYN), Reason::HostPortLimit);
        refuse(&mut rig, &udp(SECOND_HOST, 6, remote, 53), Reason::HostPortLimit);
    }
    assert_exact(&rig, false, true);
    rig.age(1_000);
    assert_eq!(rig.maps().hosts().unwrap(), []);
}

fn a_host_opens_as_many_sessions_in_a_second_as_it_may() {
    let mut rig = Rig::with(&layout("1024-65535", "new_sessions_per_second_per_host = 4"));
    for port in 1..=4 {
        open(&mut rig, &udp(HOST, port, REMOTE, 53));
    }
    refuse(&mut rig, &udp(HOST, 5, REMOTE, 53), Reason::HostRateLimit);
    open(&mut rig, &udp(SECOND_HOST, 1, REMOTE, 53));
    // A quarter of a second each; this test may be held up, and then there are more.
    sleep(Duration::from_millis(600));
    open(&mut rig, &udp(HOST, 5, REMOTE, 53));
    open(&mut rig, &udp(HOST, 6, REMOTE, 53));
    sleep(Duration::from_millis(3_000));
    for port in 7..=10 {
        open(&mut rig, &udp(HOST, port, REMOTE, 53));
    }
    refuse(&mut rig, &udp(HOST, 11, REMOTE, 53), Reason::HostRateLimit);
    assert_exact(&rig, true, false);
}

fn a_released_session_makes_room_for_another() {
    let mut rig =
        Rig::with(&layout("1024-65535", "max_sessions_per_host = 3\nmax_ports_per_destination = 2"));
    open(&mut rig, &tcp(HOST, 1, REMOTE, 443, SYN));
    open(&mut rig, &tcp(HOST, 2, REMOTE, 443, SYN));
    refuse(&mut rig, &tcp(HOST, 3, REMOTE, 443, SYN), Reason::HostPortLimit);
    open(&mut rig, &tcp(HOST, 3, REMOTE_2, 443, SYN));
    refuse(&mut rig, &tcp(HOST, 4, REMOTE_2, 443, SYN), Reason::HostSessionLimit);
    rig.send(Internal, &tcp(HOST, 1, REMOTE, 443, RST));
    assert_eq!(rig.age(240), (3, 2));
    assert_exact(&rig, true, true);
    open(&mut rig, &tcp(HOST, 4, REMOTE, 443, SYN));
    open(&mut rig, &tcp(HOST, 5, REMOTE, 443, SYN));
    refuse(&mut rig, &tcp(HOST, 6, REMOTE, 443, SYN), Reason::HostPortLimit);
}

fn a_session_that_finds_no_port_is_not_counted() {
    let mut rig =
        Rig::with(&layout("40000-40001", "max_sessions_per_host = 10\nmax_ports_per_destination = 9"));
    open(&mut rig, &udp(HOST, 1, REMOTE, 53));
    open(&mut rig, &udp(SECOND_HOST, 2, REMOTE, 53));
    for port in 10..50 {
        assert_eq!(rig.send(Internal, &udp(HOST, port, REMOTE, 53)).verdict, Verdict::Tx.at_this_hook());
    }
    assert_eq!(rig.state().drops(), [("error_port_allocation", 40)].into());
    assert_exact(&rig, true, true);
}

fn sessions_that_were_open_before_count_once_limits_are_switched_on() {
    let mut rig = Rig::with(&layout("1024-65535", ""));
    for port in 1..=8 {
        open(&mut rig, &udp(HOST, port, REMOTE, 53));
    }
    assert_eq!(rig.maps().hosts().unwrap(), []);
    rig.apply(&layout("1024-65535", "max_sessions_per_host = 10"));
    assert_exact(&rig, true, false);
    open(&mut rig, &udp(HOST, 9, REMOTE, 53));
    open(&mut rig, &udp(HOST, 10, REMOTE, 53));
    refuse(&mut rig, &udp(HOST, 11, REMOTE, 53), Reason::HostSessionLimit);
    rig.apply(&layout("1024-65535", "max_sessions_per_host = 20\nmax_ports_per_destination = 11"));
    assert_exact(&rig, true, true);
    open(&mut rig, &udp(HOST, 11, REMOTE, 53));
    refuse(&mut rig, &udp(HOST, 12, REMOTE, 53), Reason::HostPortLimit);
    rig.apply(&layout("1024-65535", "max_ports_per_destination = 11"));
    assert_exact(&rig, false, true);
}

fn sessions_go_on_counting_right_when_limits_are_switched_off_and_on_again() {
    let limited = layout("1024-65535", "max_sessions_per_host = 4");
    let mut rig = Rig::with(&limited);
    open(&mut rig, &udp(HOST, 1, REMOTE, 53));
    open(&mut rig, &udp(HOST, 2, REMOTE, 53));
    rig.apply(&layout("1024-65535", ""));
    open(&mut rig, &udp(HOST, 3, REMOTE, 53));
    rig.apply(&limited);
    assert_exact(&rig, true, false);
    open(&mut rig, &udp(HOST, 4, REMOTE, 53));
    refuse(&mut rig, &udp(HOST, 5, REMOTE, 53), Reason::HostSessionLimit);
    rig.age(400);
    assert_eq!(rig.maps().hosts().unwrap(), []);
}

fn counts_follow_their_nat_gateway_when_its_number_changes() {
    let limited = layout("1024-65535", "max_sessions_per_host = 3");
    let mut rig = Rig::with(&limited);
    open(&mut rig, &udp(HOST, 1, REMOTE, 53));
    open(&mut rig, &udp(HOST, 2, REMOTE, 53));
    let other = "[[nat_gateway]]\nname = \"nat-0\"\nsubnet = \"public\"\nelastic_ips = [\"203.0.113.99\"]\n";
    let elastic_ip = "[[elastic_ip]]\naddress = \"203.0.113.99\"\n";
    rig.apply(&Layout {
        nat_gateways: format!("{other}{}", limited.nat_gateways),
        elastic_ips: format!("{}{elastic_ip}", limited.elastic_ips),
        ..limited
    });
    assert_exact(&rig, true, false);
    open(&mut rig, &udp(HOST, 3, REMOTE, 53));
    refuse(&mut rig, &udp(HOST, 4, REMOTE, 53), Reason::HostSessionLimit);
    rig.age(400);
    assert_eq!(rig.maps().hosts().unwrap(), []);
}

fn an_icmp_error_about_a_counted_session_finds_its_way() {
    for fields in ["", "max_sessions_per_host = 3"] {
        let mut rig = Rig::with(&layout("40000", fields));
        let (leaving, answer) = rig.establish(&udp(HOST, 5_000, REMOTE, 53));
        let outside = icmp_error(REMOTE, ELASTIC_IP, 3, 3, leaving.quote(8));
        assert_eq!(rig.send(External, &outside).verdict, Verdict::Redirect);
        let inside = icmp_error(HOST, REMOTE, 3, 3, answer.delivered(HOST, 5_000).quote(8));
        assert_eq!(rig.send(Internal, &inside).verdict, Verdict::Redirect);
    }
}

fn counts_do_not_drift() {
    let limits = "[timeouts]\nudp = 20\nicmp = 10\n".to_owned();
    let fields = "max_sessions_per_host = 30\nmax_ports_per_destination = 6";
    let mut rig = Rig::with(&Layout { limits, ..layout("40000-40015", fields) });
    let mut random = Random::new(7);
    for round in 0..60 {
        for _ in 0..100 {
            let host = Ipv4Addr::new(10, 0, 1, 10 + random.below(4) as u8);
            let remote = Ipv4Addr::new(192, 0, 2, 10 + random.below(3) as u8);
            let port = 1 + random.below(200) as u16;
            let packet = match random.below(3) {
                0 => udp(host, port, remote, 53),
                1 => tcp(host, port, remote, 443, if random.below(4) == 0 { RST } else { SYN }),
                _ => echo_request(host, port, remote),
            };
            rig.send(Internal, &packet);
        }
        assert_exact(&rig, true, true);
        rig.age(random.below(if round % 8 == 7 { 400 } else { 22 }) as u64);
        assert_exact(&rig, true, true);
    }
    let drops = rig.state().drops();
    for reason in [Reason::HostSessionLimit, Reason::HostPortLimit, Reason::ErrorPortAllocation] {
        assert!(drops.contains_key(reason.name()), "{drops:?}");
    }
    rig.age(1_000);
    assert_eq!(rig.maps().hosts().unwrap(), []);
}
