//! Which of a NAT gateway's Elastic IPs a session gets.

use std::{collections::BTreeMap, net::Ipv4Addr};

use DropReason as Reason;
use natgw_tests::datapath::{Side::Internal, *};

super::tests![
    by_hash_a_host_uses_every_elastic_ip_and_always_the_same_toward_one_destination,
    by_round_robin_sessions_take_one_elastic_ip_after_the_other,
    by_least_used_sessions_go_to_the_elastic_ip_with_the_fewest,
    by_least_used_sessions_that_are_open_when_it_begins_count,
    every_strategy_turns_to_another_elastic_ip_when_its_choice_has_no_port_left,
    a_source_with_elastic_ips_of_its_own_gets_those_and_nobody_else_does,
    a_source_whose_own_elastic_ips_have_no_port_left_gets_no_other,
    the_longest_source_decides,
];

const THREE: [&str; 3] = ["203.0.113.10", "203.0.113.11", "203.0.113.12"];

fn rig(strategy: &str, ports: &str) -> Rig {
    Rig::with(&Layout::with_elastic_ips(&THREE, ports).gateway_option(&format!("strategy = \"{strategy}\"")))
}

/// Opens a session; the last byte of its Elastic IP.
#[track_caller]
fn open(rig: &mut Rig, host: Ipv4Addr, port: u16, remote: Ipv4Addr, remote_port: u16) -> u8 {
    let outcome = rig.send(Internal, &udp(host, port, remote, remote_port));
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    outcome.frame[29]
}

fn counts(elastic_ips: impl IntoIterator<Item = u8>) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for last in elastic_ips {
        *counts.entry(last).or_insert(0) += 1;
    }
    counts
}

fn by_hash_a_host_uses_every_elastic_ip_and_always_the_same_toward_one_destination() {
    let mut rig = rig("hash", "1024-65535");
    let mut all = Vec::new();
    for remote_port in 1..=90 {
        let first = open(&mut rig, HOST, 1, REMOTE, remote_port);
        assert_eq!(open(&mut rig, HOST, 2, REMOTE, remote_port), first);
        all.push(first);
    }
    let counts = counts(all);
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 15), "{counts:?}");
}

fn by_round_robin_sessions_take_one_elastic_ip_after_the_other() {
    let mut rig = rig("round-robin", "1024-65535");
    let all: Vec<_> = (1..=9).map(|port| open(&mut rig, HOST, port, REMOTE, 53)).collect();
    for three in all.windows(3) {
        assert_eq!(counts(three.iter().copied()).len(), 3, "{all:?}");
    }
}

fn by_least_used_sessions_go_to_the_elastic_ip_with_the_fewest() {
    let limits = "[timeouts]\ntcp_closing = 5\n".to_owned();
    let layout = Layout { limits, ..Layout::with_elastic_ips(&THREE, "1024-65535") };
    let mut rig = Rig::with(&layout.gateway_option("strategy = \"least-used\""));
    let tcp_of = |port| tcp(HOST, port, REMOTE, 443, flags::SYN);
    let all = (1..=30).map(|port| rig.send(Internal, &tcp_of(port)).frame[29]).collect::<Vec<_>>();
    assert_eq!(counts(all.iter().copied()).into_values().collect::<Vec<_>>(), [10, 10, 10]);
    // The sessions of one Elastic IP end: it gets all until it has caught up.
    for (port, _) in (1..).zip(&all).filter(|(_, last)| **last == 11) {
        rig.send(Internal, &tcp(HOST, port, REMOTE, 443, flags::RST));
    }
    assert_eq!(rig.age(10), (10, 0));
    let next: Vec<_> = (1..=10).map(|port| open(&mut rig, HOST, port, REMOTE, 53)).collect();
    assert_eq!(counts(next), [(11, 10)].into());
}

fn by_least_used_sessions_that_are_open_when_it_begins_count() {
    let paired = Layout::with_elastic_ips(&THREE, "1024-65535");
    let mut rig = Rig::with(&paired);
    let own = open(&mut rig, HOST, 1, REMOTE, 53);
    for port in 2..=6 {
        assert_eq!(open(&mut rig, HOST, port, REMOTE, 53), own);
    }
    rig.apply(&paired.gateway_option("strategy = \"least-used\""));
    let next: Vec<_> = (7..=18).map(|port| open(&mut rig, HOST, port, REMOTE, 53)).collect();
    assert!(!next.contains(&own), "{next:?}");
}

fn every_strategy_turns_to_another_elastic_ip_when_its_choice_has_no_port_left() {
    for strategy in ["paired", "hash", "round-robin", "least-used"] {
        let mut rig = rig(strategy, "40000-40003");
        let all: Vec<_> = (1..=12).map(|port| open(&mut rig, HOST, port, REMOTE, 53)).collect();
        assert_eq!(counts(all), [(10, 4), (11, 4), (12, 4)].into(), "{strategy}");
        rig.send(Internal, &udp(HOST, 13, REMOTE, 53));
        assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into(), "{strategy}");
    }
}

/// 203.0.113.11 is for 10.0.1.0/28 alone, 203.0.113.12 for 10.0.1.10 alone.
fn with_sources(ports: &str) -> Rig {
    let sources = r#"sources = [
        { cidr = "10.0.1.0/28", elastic_ips = ["203.0.113.11"] },
        { cidr = "10.0.1.10/32", elastic_ips = ["203.0.113.12"] },
    ]"#;
    Rig::with(&Layout::with_elastic_ips(&THREE, ports).gateway_option(sources))
}

fn a_source_with_elastic_ips_of_its_own_gets_those_and_nobody_else_does() {
    let mut rig = with_sources("1024-65535");
    for last in 2..=60 {
        let expected = match last {
            10 => 12,
            0..=15 => 11,
            _ => 10,
        };
        assert_eq!(open(&mut rig, [10, 0, 1, last].into(), 1, REMOTE, 53), expected, "10.0.1.{last}");
    }
}

fn a_source_whose_own_elastic_ips_have_no_port_left_gets_no_other() {
    let mut rig = with_sources("40000-40001");
    assert_eq!([1, 2].map(|port| open(&mut rig, HOST, port, REMOTE, 53)), [12, 12]);
    let packet = udp(HOST, 3, REMOTE, 53);
    let answer = packet.answered(INTERNAL_ADDRESS, 3, 13, 0);
    let expected = refused(Reason::ErrorPortAllocation, &answer);
    rig.expect(Internal, &packet, expected.moves("port_tries", 2).moves("hop_lookups", 1));
    assert_eq!(open(&mut rig, [10, 0, 1, 99].into(), 1, REMOTE, 53), 10);
}

fn the_longest_source_decides() {
    let mut rig = with_sources("1024-65535");
    assert_eq!(open(&mut rig, HOST, 1, REMOTE, 53), 12);
    assert_eq!(open(&mut rig, SECOND_HOST, 1, REMOTE, 53), 11);
}
