//! `status`: the gateway at a glance.

use std::net::Ipv4Addr;

use nat_common::{counter::Counters, slow};
use serde::{Serialize, Serializer};

use super::{DestinationReport, ElasticIpReport, ElasticIpState, busiest, elastic_ips};
use crate::datapath::{Applied, AppliedInterface, BurstState, Session};
use crate::plan::SameQueue;

/// What was read off the data plane, all at about the same time.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The generation in force.
    pub generation: u32,
    /// The millisecond of the monotonic clock.
    pub now: u64,
    /// Whether a controller lives.
    pub controller_runs: bool,
    /// Every session.
    pub sessions: &'a [Session],
    /// Sessions there is room for.
    pub max_sessions: u32,
    /// Entries in the flow table.
    pub flows: u64,
    /// What the data plane counted.
    pub counters: Counters,
    /// What the controller has made of packets left to it.
    pub slow: slow::Counts,
    /// Packets dropped, for whatever reason.
    pub drops: u64,
}

/// The gateway at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusReport<'a> {
    /// The number stamped by each applied configuration.
    pub generation: u32,
    /// Who keeps the data plane.
    pub controller: Controller,
    /// Sessions that are open.
    pub sessions: u64,
    /// Sessions there is room for.
    pub max_sessions: u32,
    /// Whether packets are translated in bursts, and why.
    pub bursts: &'a BurstState,
    /// The interfaces with a part in the gateway.
    pub interfaces: Vec<InterfaceReport<'a>>,
    /// The NAT gateways.
    pub nat_gateways: Vec<GatewayReport<'a>>,
    /// Every counter by its name; they only ever grow.
    #[serde(serialize_with = "as_object")]
    pub counters: Vec<(&'static str, u64)>,
    /// Packets dropped, for whatever reason.
    pub drops_total: u64,
    /// The destinations that use most ports of an Elastic IP, five at most.
    pub busiest_destinations: Vec<DestinationReport>,
    /// How full the flow table is.
    pub flow_table: FlowTable,
}

/// Who keeps the data plane. Without a controller packets are still translated, but no idle session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// Whether it runs.
    pub running: bool,
    /// Its process; null if it does not run.
    pub pid: Option<u32>,
}

/// An interface with a part in the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceReport<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index.
    pub index: u32,
    /// `internal`, `external` or both.
    pub roles: &'a [String],
    /// `xdp-native`, `xdp-generic` or `tc`.
    pub mode: &'a str,
    /// Why this mode.
    pub why: &'a str,
    /// Whether answers come in on the queue of their session's packets; null if nobody asks for it, or not here.
    pub same_queue: Option<&'a SameQueue>,
}

impl<'a> InterfaceReport<'a> {
    fn of(applied: &'a AppliedInterface) -> Self {
        let AppliedInterface { name, index, device: _, roles, mode, why, same_queue } = applied;
        Self { name, index: *index, roles, mode, why, same_queue: same_queue.as_ref() }
    }
}

/// A NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayReport<'a> {
    /// Its name.
    pub name: &'a str,
    /// The public subnet it lives in.
    pub subnet: &'a str,
    /// Its Elastic IPs, and then those that drain.
    pub elastic_ips: Vec<ElasticIpUse>,
}

/// How much of an Elastic IP is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ElasticIpUse {
    /// The address.
    pub address: Ipv4Addr,
    /// Whether new sessions get it.
    pub state: ElasticIpState,
    /// Seconds until it is withdrawn at the latest; null unless it drains.
    pub seconds_left: Option<u64>,
    /// Sessions that it carries.
    pub sessions: u64,
    /// Different external ports in use, counted per protocol.
    pub ports_used: u64,
}

/// How full the flow table is. A session takes two entries, one per direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowTable {
    /// Entries in use.
    pub used: u64,
    /// Entries there are.
    pub capacity: u64,
}

/// Destinations reported.
const BUSIEST: usize = 5;

/// Reports on a gateway with the configuration `applied`.
#[must_use]
pub fn status<'a>(applied: &'a Applied, seen: &Observation<'_>) -> StatusReport<'a> {
    let elastic_ips = elastic_ips(applied, seen.sessions, seen.now);
    let gateways = applied.config.nat_gateways.iter().map(|gateway| GatewayReport {
        name: &gateway.name,
        subnet: &gateway.subnet,
        elastic_ips: elastic_ips
            .iter()
            .filter(|of| of.nat_gateway == Some(&gateway.name))
            .map(in_use)
            .collect(),
    });
    StatusReport {
        generation: seen.generation,
        controller: Controller {
            running: seen.controller_runs,
            pid: seen.controller_runs.then_some(applied.pid),
        },
        sessions: seen.sessions.len() as u64,
        max_sessions: seen.max_sessions,
        bursts: &applied.bursts,
        interfaces: applied.interfaces.iter().map(InterfaceReport::of).collect(),
        nat_gateways: gateways.collect(),
        counters: counters(seen),
        drops_total: seen.drops,
        busiest_destinations: busiest(applied, seen.sessions).into_iter().take(BUSIEST).collect(),
        flow_table: FlowTable { used: seen.flows, capacity: 2 * u64::from(seen.max_sessions) },
    }
}

fn counters(seen: &Observation<'_>) -> Vec<(&'static str, u64)> {
    let of_data_plane = Counters::NAMES.iter().copied().zip(seen.counters.values());
    of_data_plane.chain(slow::Counts::NAMES.into_iter().zip(seen.slow.values())).collect()
}

/// One line for people for each of the counters, in their order.
pub fn counter_descriptions() -> impl Iterator<Item = &'static str> {
    Counters::DESCRIPTIONS.iter().copied().chain(slow::Counts::DESCRIPTIONS)
}

fn in_use(report: &ElasticIpReport<'_>) -> ElasticIpUse {
    let ElasticIpReport { address, state, seconds_left, sessions, ports_used, .. } = *report;
    ElasticIpUse { address, state, seconds_left, sessions, ports_used }
}

fn as_object<S: Serializer>(counters: &[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().copied())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::sample::{applied, session};

    fn observation(sessions: &[Session]) -> Observation<'_> {
        Observation {
            generation: 4,
            now: 1_000,
            controller_runs: true,
            sessions,
            max_sessions: 262_144,
            flows: 2 * sessions.len() as u64,
            counters: Counters { outbound_packets: 7, dropped_bytes: 60, ..Counters::default() },
            slow: slow::Counts { released: 5, ..slow::Counts::default() },
            drops: 1,
        }
    }

    #[test]
    fn the_status_has_the_documented_fields() {
        let mut applied = applied();
        let why_not = vec!["for udp not".to_owned()];
        applied.interfaces[1].same_queue =
            Some(SameQueue { protocols: vec!["tcp".to_owned()], queues: 8, why_not });
        let sessions = [session(1, 5_000), session(2, 5_001)];
        let mut value = serde_json::to_value(status(&applied, &observation(&sessions))).unwrap();
        let Value::Object(counters) = value["counters"].take() else { panic!("counters are an object") };
        assert_eq!(counters.len(), Counters::NAMES.len() + slow::Counts::NAMES.len());
        assert_eq!(counters["fragments_released"], 5);
        assert_eq!((&counters["outbound_packets"], &counters["dropped_bytes"]), (&json!(7), &json!(60)));
        assert_eq!(
            value,
            json!({
                "generation": 4, "controller": { "running": true, "pid": 4711 },
                "sessions": 2, "max_sessions": 262_144,
                "bursts": { "on": false, "why": "the processor's cache holds the sessions" },
                "interfaces": [
                    { "name": "eth1", "index": 2, "roles": ["internal"], "mode": "xdp-native",
                      "why": "the driver offers it", "same_queue": null },
                    { "name": "eth0", "index": 3, "roles": ["external"], "mode": "xdp-native",
                      "why": "the driver offers it",
                      "same_queue": { "protocols": ["tcp"], "queues": 8, "why_not": ["for udp not"] } },
                ],
                "nat_gateways": [{ "name": "nat-a", "subnet": "public-a", "elastic_ips": [
                    { "address": "203.0.113.10", "state": "in_use", "seconds_left": null, "sessions": 2,
                      "ports_used": 2 },
                ] }],
                "counters": null, "drops_total": 1,
                "busiest_destinations": [
                    { "elastic_ip": "203.0.113.10", "destination": "192.0.2.80:443", "protocol": "tcp",
                      "ports_used": 2, "ports_free": 64_510, "hosts": [{ "host": "10.0.1.5", "ports": 2 }] },
                ],
                "flow_table": { "used": 4, "capacity": 524_288 },
            })
        );
    }

    #[test]
    fn a_controller_that_has_ended_has_no_pid() {
        let applied = applied();
        let seen = Observation { controller_runs: false, ..observation(&[]) };
        assert_eq!(status(&applied, &seen).controller, Controller { running: false, pid: None });
    }

    #[test]
    fn an_elastic_ip_without_sessions_is_shown_unused() {
        let applied = applied();
        let report = status(&applied, &observation(&[]));
        let elastic_ip = report.nat_gateways[0].elastic_ips[0];
        assert_eq!((elastic_ip.sessions, elastic_ip.ports_used), (0, 0));
    }
}
