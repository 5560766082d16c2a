//! `eip list`: Elastic IPs, and how much of them is used.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use super::{DestinationReport, destinations};
use crate::{
    config::{Arp, ElasticIp},
    datapath::{Applied, Session},
};

/// Destinations looked at: the busiest of each Elastic IP is among them unless there are very many.
const BUSIEST: usize = 1_000;

/// One Elastic IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElasticIpReport<'a> {
    /// The address that the outside sees.
    pub address: Ipv4Addr,
    /// The NAT gateway that owns it; null if none does.
    pub nat_gateway: Option<&'a str>,
    /// How packets to it reach this host.
    pub arp: Arp,
    /// Whether new sessions get it.
    pub state: ElasticIpState,
    /// Seconds until it is withdrawn at the latest; null unless it drains.
    pub seconds_left: Option<u64>,
    /// Sessions that it carries.
    pub sessions: u64,
    /// Different external ports in use, counted per protocol. One port serves many destinations, so there are often
    /// fewer than `sessions`.
    pub ports_used: u64,
    /// The ports that sessions may use toward each destination: `first-last` or one port, separated by commas.
    pub ports: String,
    /// Whether it is an address of the host itself, whose own ports are not lent.
    pub shared: bool,
    /// The destination that uses most of its ports; null without sessions.
    pub busiest: Option<DestinationReport>,
}

/// What an Elastic IP is to new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElasticIpState {
    /// They get it.
    InUse,
    /// They do not; those it has go on until its time is up.
    Draining,
    /// The configuration names it, and no NAT gateway uses it.
    Unused,
    /// It is the gateway's no longer.
    Removed,
}

/// How much of an Elastic IP is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sessions.
    pub sessions: u64,
    /// Different pairs of protocol and external port (for ICMP, identifier).
    pub ports: u64,
}

/// Counts what `sessions` use of each Elastic IP.
#[must_use]
pub fn usage(sessions: &[Session]) -> HashMap<Ipv4Addr, Usage> {
    let mut usage: HashMap<_, Usage> = HashMap::new();
    let mut ports = HashSet::new();
    for session in sessions {
        let used = usage.entry(*session.external.ip()).or_default();
        used.sessions += 1;
        used.ports += u64::from(ports.insert((session.external, session.protocol)));
    }
    usage
}

/// Reports on every Elastic IP of a gateway at the millisecond `now`: those of the configuration in its order, then
/// those that drain.
#[must_use]
pub fn elastic_ips<'a>(applied: &'a Applied, sessions: &[Session], now: u64) -> Vec<ElasticIpReport<'a>> {
    let usage = usage(sessions);
    let report = |elastic_ip: &ElasticIp, nat_gateway: Option<&'a str>, state, seconds_left| {
        let used = usage.get(&elastic_ip.address).copied().unwrap_or_default();
        let shared = applied.shared.iter().find(|shared| shared.address == elastic_ip.address);
        ElasticIpReport {
            address: elastic_ip.address,
            nat_gateway,
            arp: elastic_ip.arp,
            state,
            seconds_left,
            sessions: used.sessions,
            ports_used: used.ports,
            ports: shared
                .map_or_else(|| elastic_ip.usable_ports(), |shared| shared.ports.clone())
                .to_string(),
            shared: shared.is_some(),
            busiest: None,
        }
    };
    let drains = |address| applied.draining.iter().any(|drain| drain.address() == address);
    let configured = applied.config.elastic_ips.iter().filter(|elastic_ip| !drains(elastic_ip.address));
    let configured = configured.map(|elastic_ip| {
        let owner = applied.config.owner(elastic_ip.address).map(|gateway| gateway.name.as_str());
        let state = if owner.is_some() { ElasticIpState::InUse } else { ElasticIpState::Unused };
        report(elastic_ip, owner, state, None)
    });
    let draining = applied.draining.iter().map(|drain| {
        let left = Some(drain.seconds_left(now));
        report(&drain.elastic_ip, Some(&drain.nat_gateway), ElasticIpState::Draining, left)
    });
    let mut reports: Vec<_> = configured.chain(draining).collect();
    for busiest in busiest(applied, sessions) {
        let report = reports.iter_mut().find(|report| report.address == busiest.elastic_ip);
        if let Some(report) = report.filter(|report| report.busiest.is_none()) {
            report.busiest = Some(busiest);
        }
    }
    reports
}

/// The destinations that use most ports of an Elastic IP, most first.
#[must_use]
pub fn busiest(applied: &Applied, sessions: &[Session]) -> Vec<DestinationReport> {
    destinations(sessions, BUSIEST, |address| ports_of(applied, address))
}

/// How many ports of `address` sessions may use toward each destination.
fn ports_of(applied: &Applied, address: Ipv4Addr) -> u64 {
    let shared =
        applied.shared.iter().find(|shared| shared.address == address).map(|shared| shared.ports.count());
    let configured = || applied.config.elastic_ip(address).map(|known| known.usable_ports().count());
    shared.or_else(configured).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use nat_common::protocol;
    use serde_json::json;

    use super::*;
    use crate::plan::{Draining, SharedAddress};
    use crate::report::sample::{ELASTIC_IP, applied, session};

    #[test]
    fn a_port_shared_by_two_destinations_is_used_once() {
        let elsewhere = Session { remote: "192.0.2.81:443".parse().unwrap(), ..session(2, 5_000) };
        let sessions = [session(1, 5_000), elsewhere, session(3, 5_001)];
        assert_eq!(usage(&sessions)[&ELASTIC_IP], Usage { sessions: 3, ports: 2 });
    }

    #[test]
    fn the_same_port_of_two_protocols_is_two_ports() {
        let udp = Session { protocol: protocol::UDP, phase: None, ..session(1, 5_000) };
        assert_eq!(usage(&[session(1, 5_000), udp])[&ELASTIC_IP], Usage { sessions: 2, ports: 2 });
    }

    #[test]
    fn an_elastic_ip_is_reported_with_the_documented_fields() {
        let mut applied = applied();
        let other = |last| ElasticIp {
            address: Ipv4Addr::new(203, 0, 113, last),
            arp: Arp::Routed,
            ports: "2000-2999".parse().ok(),
            reserved_ports: "2500".parse().unwrap(),
        };
        applied.config.elastic_ips.push(other(11));
        let ports = "2000-2199,2201-2499,2501-2999".parse().unwrap();
        applied.shared.push(SharedAddress { address: other(11).address, ports, warnings: Vec::new() });
        let nat_gateway = "nat-a".to_owned();
        applied.draining.push(Draining { elastic_ip: other(12), nat_gateway, deadline: 9_500 });
        let reports = elastic_ips(&applied, &[session(1, 5_000)], 7_000);
        assert_eq!(
            serde_json::to_value(&reports).unwrap(),
            json!([
                { "address": "203.0.113.10", "nat_gateway": "nat-a", "arp": "announce", "state": "in_use",
                  "seconds_left": null, "sessions": 1, "ports_used": 1, "ports": "1024-65535",
                  "shared": false,
                  "busiest": { "elastic_ip": "203.0.113.10", "destination": "192.0.2.80:443", "protocol": "tcp",
                               "ports_used": 1, "ports_free": 64_511,
                               "hosts": [{ "host": "10.0.1.5", "ports": 1 }] } },
                { "address": "203.0.113.11", "nat_gateway": null, "arp": "routed", "state": "unused",
                  "seconds_left": null, "sessions": 0, "ports_used": 0, "ports": "2000-2199,2201-2499,2501-2999",
                  "shared": true, "busiest": null },
                { "address": "203.0.113.12", "nat_gateway": "nat-a", "arp": "routed", "state": "draining",
                  "seconds_left": 3, "sessions": 0, "ports_used": 0, "ports": "2000-2499,2501-2999",
                  "shared": false, "busiest": null },
            ])
        );
    }
}
