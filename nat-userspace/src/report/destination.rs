//! Toward which destinations the ports of an Elastic IP are used, and by whom.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use serde::Serialize;

use super::protocol_name;
use crate::datapath::Session;

/// Internal hosts named for each destination.
const HOSTS: usize = 3;

/// One destination of an Elastic IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DestinationReport {
    /// The Elastic IP.
    pub elastic_ip: Ipv4Addr,
    /// Address and port; for ICMP the port is 0.
    pub destination: SocketAddrV4,
    /// `tcp`, `udp`, `icmp` or a number.
    pub protocol: String,
    /// Ports in use toward it.
    pub ports_used: u64,
    /// Ports that new sessions toward it can still get.
    pub ports_free: u64,
    /// The internal hosts that hold the most of them, most first.
    pub hosts: Vec<HolderReport>,
}

/// What an internal host holds toward a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HolderReport {
    /// The internal host.
    pub host: Ipv4Addr,
    /// Ports.
    pub ports: u64,
}

type Key = (Ipv4Addr, SocketAddrV4, u8);

/// The `most` destinations that use most ports of one Elastic IP, of all sessions; `ports` tells how many ports an Elastic
/// IP has.
#[must_use]
pub fn destinations(
    sessions: &[Session],
    most: usize,
    ports: impl Fn(Ipv4Addr) -> u64,
) -> Vec<DestinationReport> {
    let mut used: HashMap<Key, u64> = HashMap::new();
    for session in sessions {
        *used.entry(key(session)).or_default() += 1;
    }
    let mut used: Vec<_> = used.into_iter().collect();
    used.sort_unstable_by_key(|(key, ports)| (Reverse(*ports), *key));
    used.truncate(most);
    let mut holders: HashMap<Key, HashMap<Ipv4Addr, u64>> =
        used.iter().map(|(key, _)| (*key, HashMap::new())).collect();
    for session in sessions {
        if let Some(holders) = holders.get_mut(&key(session)) {
            *holders.entry(*session.internal.ip()).or_default() += 1;
        }
    }
    let report = |(key @ (elastic_ip, destination, protocol), used): (Key, u64)| DestinationReport {
        elastic_ip,
        destination,
        protocol: protocol_name(protocol),
        ports_used: used,
        ports_free: ports(elastic_ip).saturating_sub(used),
        hosts: holders.remove(&key).map(most_first).unwrap_or_default(),
    };
    used.into_iter().map(report).collect()
}

fn most_first(holders: HashMap<Ipv4Addr, u64>) -> Vec<HolderReport> {
    let mut holders: Vec<_> = holders.into_iter().map(|(host, ports)| HolderReport { host, ports }).collect();
    holders.sort_unstable_by_key(|holder| (Reverse(holder.ports), holder.host));
    holders.truncate(HOSTS);
    holders
}

fn key(session: &Session) -> Key {
    (*session.external.ip(), session.remote, session.protocol)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::session;

    #[test]
    fn the_destination_with_most_ports_comes_first_with_those_who_hold_them() {
        let of = |host: u8, port, remote: &str| Session {
            internal: SocketAddrV4::new([10, 0, 1, host].into(), port),
            remote: remote.parse().unwrap(),
            ..session(port, port)
        };
        let mut sessions: Vec<_> = (1..=5).map(|port| of(5, port, "192.0.2.80:443")).collect();
        sessions.extend((6..=8).map(|port| of(6, port, "192.0.2.80:443")));
        sessions
            .extend((1..=9).flat_map(|port| [of(7, port, "192.0.2.81:443"), of(8, port, "192.0.2.82:80")]));
        let reports = destinations(&sessions, 3, |_| 10);
        let order: Vec<_> = reports.iter().map(|report| (report.ports_used, report.ports_free)).collect();
        assert_eq!(order, [(9, 1), (9, 1), (8, 2)]);
        assert_eq!(
            serde_json::to_value(&reports[2]).unwrap(),
            json!({ "elastic_ip": "203.0.113.10", "destination": "192.0.2.80:443", "protocol": "tcp",
                    "ports_used": 8, "ports_free": 2,
                    "hosts": [{ "host": "10.0.1.5", "ports": 5 }, { "host": "10.0.1.6", "ports": 3 }] })
        );
        assert_eq!(destinations(&sessions, 1, |_| 10).len(), 1);
    }

    #[test]
    fn protocols_and_elastic_ips_have_ports_of_their_own() {
        let udp = Session { protocol: 17, phase: None, ..session(1, 5_000) };
        let elsewhere = Session { external: "203.0.113.11:5000".parse().unwrap(), ..session(2, 5_000) };
        let reports = destinations(&[session(1, 5_000), udp, elsewhere], 9, |_| 64_512);
        assert!(reports.len() == 3 && reports.iter().all(|report| report.ports_free == 64_511));
    }
}
