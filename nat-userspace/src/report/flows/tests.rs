use nat_common::clock::ticks_from_seconds;
use serde_json::json;

use super::*;
use crate::datapath::Flow;
use crate::report::sample::{ELASTIC_IP, applied, session};

fn udp(internal_port: u16) -> Session {
    Session { protocol: protocol::UDP, phase: None, ..session(internal_port, internal_port) }
}

#[test]
fn a_session_is_reported_with_the_documented_fields() {
    let applied = applied();
    let reports = flows(&applied, &[session(40_000, 1_024)], 210);
    assert_eq!(
        serde_json::to_value(&reports).unwrap(),
        json!([{
            "protocol": "tcp", "vpc": "main",
            "source": "10.0.1.5", "source_port": 40_000,
            "elastic_ip": "203.0.113.10", "elastic_port": 1_024,
            "destination": "192.0.2.80", "destination_port": 443,
            "nat_gateway": "nat-a", "state": "established",
            "age_seconds": 118, "idle_seconds": 11, "expires_seconds": 339,
            "packets_out": 10, "bytes_out": 1_000, "packets_in": 20, "bytes_in": 30_000,
        }])
    );
}

#[test]
fn every_phase_has_its_state_and_its_timeout() {
    let applied = applied();
    let report = |protocol, phase| {
        let session = Session { protocol, phase, ..session(1, 1) };
        let flow = flows(&applied, &[session], 200).remove(0);
        (flow.state.name(), flow.expires_seconds)
    };
    assert_eq!(report(protocol::TCP, Some(Phase::Opening)), ("opening", 241));
    assert_eq!(report(protocol::TCP, Some(Phase::Established)), ("established", 350));
    assert_eq!(report(protocol::TCP, Some(Phase::HalfClosed)), ("half_closed", 350));
    assert_eq!(report(protocol::TCP, Some(Phase::Closing)), ("closing", 241));
    assert_eq!(report(protocol::UDP, None), ("active", 350));
    assert_eq!(report(protocol::ICMP, None), ("active", 60));
}

#[test]
fn names_of_states_and_protocols_are_the_same_in_json() {
    for state in FlowState::value_variants() {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
    for protocol in FlowProtocol::value_variants() {
        assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.name());
    }
}

#[test]
fn an_overdue_session_expires_in_no_time_and_never_before() {
    let applied = applied();
    let flow = flows(&applied, &[session(1, 1)], 200 + ticks_from_seconds(10_000)).remove(0);
    assert_eq!((flow.expires_seconds, flow.idle_seconds), (0, 10_001));
}

#[test]
fn a_packet_seen_after_the_clock_was_read_leaves_the_session_idle_for_no_time() {
    let applied = applied();
    let flow = flows(&applied, &[session(1, 1)], 99).remove(0);
    assert_eq!((flow.age_seconds, flow.idle_seconds, flow.expires_seconds), (0, 0, 350));
}

#[test]
fn what_is_no_longer_configured_is_reported_without_its_name() {
    let applied = applied();
    let external = "203.0.113.99:5000".parse().unwrap();
    let flow = flows(&applied, &[Session { zone: 7, external, ..session(1, 1) }], 200).remove(0);
    assert_eq!((flow.nat_gateway, flow.vpc.as_ref()), (None, "zone 7"));
}

/// Ports of the sources that pass `filter`.
fn passing(filter: &FlowFilter) -> Vec<u16> {
    let applied = applied();
    let dns = Session { remote: "198.51.100.53:53".parse().unwrap(), ..udp(2) };
    let other_host = Session { internal: "10.0.2.9:3".parse().unwrap(), ..udp(3) };
    let opening = Session { phase: Some(Phase::Opening), ..session(4, 4) };
    let stray = Session { zone: 2, external: "203.0.113.99:5".parse().unwrap(), ..session(5, 5) };
    let sessions = [session(1, 1), dns, other_host, opening, stray];
    let reports = flows(&applied, &sessions, 200);
    reports.iter().filter(|flow| filter.matches(flow)).map(|flow| flow.source_port).collect()
}

#[test]
fn each_filter_lets_pass_what_it_names() {
    let all = FlowFilter::default();
    let net = |text: &str| vec![text.parse().unwrap()];
    assert_eq!(passing(&all), [1, 2, 3, 4, 5]);
    assert_eq!(passing(&FlowFilter { source: net("10.0.2.0/24"), ..all.clone() }), [3]);
    assert_eq!(passing(&FlowFilter { destination: net("198.51.100.53/32"), ..all.clone() }), [2]);
    assert_eq!(passing(&FlowFilter { source_port: vec![4], ..all.clone() }), [4]);
    assert_eq!(passing(&FlowFilter { destination_port: vec![53], ..all.clone() }), [2]);
    assert_eq!(passing(&FlowFilter { port: vec![53, 1], ..all.clone() }), [1, 2]);
    assert_eq!(passing(&FlowFilter { protocol: vec![FlowProtocol::Udp], ..all.clone() }), [2, 3]);
    assert_eq!(passing(&FlowFilter { elastic_ip: vec![ELASTIC_IP], ..all.clone() }), [1, 2, 3, 4]);
    assert_eq!(passing(&FlowFilter { state: vec![FlowState::Opening], ..all.clone() }), [4]);
    assert_eq!(passing(&FlowFilter { nat_gateway: vec!["nat-a".into()], ..all.clone() }), [1, 2, 3, 4]);
    assert_eq!(passing(&FlowFilter { vpc: vec!["main".into()], ..all }), [1, 2, 3, 4]);
}

#[test]
fn filters_are_joined_by_and_and_their_values_by_or() {
    let states = vec![FlowState::Opening, FlowState::Established];
    let filter = FlowFilter { state: states, vpc: vec!["main".into()], ..FlowFilter::default() };
    assert_eq!(passing(&filter), [1, 4]);
}

#[test]
fn a_filter_for_what_does_not_exist_is_refused_with_what_does() {
    let applied = applied();
    let refusal = |filter: FlowFilter| filter.check(&applied.config, &[]).unwrap_err().to_string();
    assert_eq!(
        refusal(FlowFilter { vpc: vec!["main".into(), "lab".into()], ..FlowFilter::default() }),
        "vpc lab does not exist; the configuration in force has main"
    );
    assert_eq!(
        refusal(FlowFilter { nat_gateway: vec!["nat-z".into()], ..FlowFilter::default() }),
        "nat gateway nat-z does not exist; the configuration in force has nat-a"
    );
    assert_eq!(
        refusal(FlowFilter { elastic_ip: vec![[192, 0, 2, 1].into()], ..FlowFilter::default() }),
        "elastic ip 192.0.2.1 does not exist; the configuration in force has 203.0.113.10"
    );
}

#[test]
fn an_elastic_ip_taken_from_the_configuration_can_be_asked_for_while_it_has_sessions() {
    let applied = applied();
    let external = "203.0.113.99:5".parse().unwrap();
    let sessions = [Session { external, ..session(5, 5) }];
    let filter =
        FlowFilter { elastic_ip: vec![[203, 0, 113, 99].into(), ELASTIC_IP], ..FlowFilter::default() };
    assert_eq!(filter.check(&applied.config, &flows(&applied, &sessions, 200)), Ok(()));
}

/// Ports of the sources in the order of `sort`.
fn sorted(sort: FlowSort, reverse: bool) -> Vec<u16> {
    let applied = applied();
    let young = Session { opened: 150, ..session(3, 1) };
    let busy = Session {
        outbound: Flow { packets: 99, bytes: 100, last_seen: 205 },
        remote: "10.9.9.9:1".parse().unwrap(),
        ..session(2, 1)
    };
    let large = Session { inbound: Flow { packets: 1, bytes: 1 << 40, last_seen: 190 }, ..session(1, 1) };
    let mut reports = flows(&applied, &[young, busy, large], 220);
    sort.sort(&mut reports, reverse);
    reports.iter().map(|flow| flow.source_port).collect()
}

#[test]
fn every_order_is_lowest_first_and_reversed_highest_first() {
    assert_eq!(sorted(FlowSort::Source, false), [1, 2, 3]);
    assert_eq!(sorted(FlowSort::Source, true), [3, 2, 1]);
    assert_eq!(sorted(FlowSort::Destination, false), [2, 1, 3]);
    assert_eq!(sorted(FlowSort::Age, false), [3, 1, 2]);
    assert_eq!(sorted(FlowSort::Idle, false), [2, 1, 3]);
    assert_eq!(sorted(FlowSort::Packets, true), [2, 3, 1]);
    assert_eq!(sorted(FlowSort::Bytes, true), [1, 3, 2]);
}
