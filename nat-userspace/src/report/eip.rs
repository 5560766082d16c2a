//! `eip list`: Elastic IPs, and how much of them is used.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use serde::Serialize;

use crate::{
    config::{Arp, Config, ElasticIp},
    datapath::{Applied, Session},
};

/// One Elastic IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElasticIpReport<'a> {
    /// The address that the outside sees.
    pub address: Ipv4Addr,
    /// The NAT gateway that owns it; null if none does.
    pub nat_gateway: Option<&'a str>,
    /// How packets to it reach this host.
    pub arp: Arp,
    /// Sessions that it carries.
    pub sessions: u64,
    /// Different external ports in use, counted per protocol. One port serves many destinations, so there are often
    /// fewer than `sessions`.
    pub ports_used: u64,
    /// The ports that sessions may use toward each destination: `first-last` or one port, separated by commas.
    pub ports: String,
    /// Whether it is an address of the host itself, whose own ports are not lent.
    pub shared: bool,
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

/// Reports on every Elastic IP of the configuration in force, in its order.
#[must_use]
pub fn elastic_ips<'a>(applied: &'a Applied, sessions: &[Session]) -> Vec<ElasticIpReport<'a>> {
    let (config, usage) = (&applied.config, usage(sessions));
    let report = |elastic_ip: &ElasticIp| {
        let used = usage.get(&elastic_ip.address).copied().unwrap_or_default();
        let shared = applied.shared.iter().find(|shared| shared.address == elastic_ip.address);
        ElasticIpReport {
            address: elastic_ip.address,
            nat_gateway: owner(config, elastic_ip.address),
            arp: elastic_ip.arp,
            sessions: used.sessions,
            ports_used: used.ports,
            ports: shared
                .map_or_else(|| elastic_ip.usable_ports(), |shared| shared.ports.clone())
                .to_string(),
            shared: shared.is_some(),
        }
    };
    config.elastic_ips.iter().map(report).collect()
}

fn owner(config: &Config, address: Ipv4Addr) -> Option<&str> {
    let gateway = config.nat_gateways.iter().find(|gateway| gateway.elastic_ips.contains(&address));
    gateway.map(|gateway| gateway.name.as_str())
}

#[cfg(test)]
mod tests {
    use nat_common::protocol;
    use serde_json::json;

    use super::*;
    use crate::plan::SharedAddress;
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
        let address = Ipv4Addr::new(203, 0, 113, 11);
        applied.config.elastic_ips.push(ElasticIp {
            address,
            arp: Arp::Routed,
            ports: Some("2000-2999".parse().unwrap()),
            reserved_ports: "2500".parse().unwrap(),
        });
        let ports = "2000-2199,2201-2499,2501-2999".parse().unwrap();
        applied.shared.push(SharedAddress { address, ports, warnings: Vec::new() });
        let reports = elastic_ips(&applied, &[session(1, 5_000)]);
        assert_eq!(
            serde_json::to_value(&reports).unwrap(),
            json!([
                { "address": "203.0.113.10", "nat_gateway": "nat-a", "arp": "announce", "sessions": 1,
                  "ports_used": 1, "ports": "1024-65535", "shared": false },
                { "address": "203.0.113.11", "nat_gateway": null, "arp": "routed", "sessions": 0,
                  "ports_used": 0, "ports": "2000-2199,2201-2499,2501-2999", "shared": true },
            ])
        );
    }
}
