//! `flows --mappings`: mappings that do not depend on the remote.

use std::{borrow::Cow, net::Ipv4Addr};

use nat_common::clock::seconds_from_ticks;
use serde::Serialize;

use super::flows::{FlowProtocol, Names};
use crate::datapath::{Applied, Mapping};

/// One mapping. For ICMP queries the ports are identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappingReport<'a> {
    /// What it speaks.
    pub protocol: FlowProtocol,
    /// The VPC of the private host; `zone N` if the VPC is no longer configured.
    pub vpc: Cow<'a, str>,
    /// The private host.
    pub source: Ipv4Addr,
    /// Its port.
    pub source_port: u16,
    /// What every remote sees in place of `source`.
    pub elastic_ip: Ipv4Addr,
    /// What every remote sees in place of `source_port`.
    pub elastic_port: u16,
    /// The NAT gateway that owns the Elastic IP; null if the address is no longer configured.
    pub nat_gateway: Option<&'a str>,
    /// Sessions that keep it.
    pub sessions: u32,
    /// Seconds since its first session began.
    pub age_seconds: u64,
}

/// Reports on `mappings` at the tick `now`, by private host and port.
#[must_use]
pub fn mappings<'a>(applied: &'a Applied, mappings: &[Mapping], now: u32) -> Vec<MappingReport<'a>> {
    let names = Names::of(applied);
    let report = |mapping: &Mapping| MappingReport {
        protocol: FlowProtocol::from_number(mapping.protocol),
        vpc: names.vpc(mapping.zone),
        source: *mapping.internal.ip(),
        source_port: mapping.internal.port(),
        elastic_ip: *mapping.external.ip(),
        elastic_port: mapping.external.port(),
        nat_gateway: names.gateway(*mapping.external.ip()),
        sessions: mapping.sessions,
        age_seconds: seconds_from_ticks(now.saturating_sub(mapping.opened)),
    };
    let mut reports: Vec<_> = mappings.iter().map(report).collect();
    reports.sort_by(|a, b| {
        (&a.vpc, a.source, a.source_port, a.protocol).cmp(&(&b.vpc, b.source, b.source_port, b.protocol))
    });
    reports
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use nat_common::protocol;

    use super::*;
    use crate::report::sample::{ELASTIC_IP, applied};

    #[test]
    fn mappings_are_listed_by_private_endpoint_with_what_keeps_them() {
        let applied = applied();
        let mapping = |port, sessions| Mapping {
            protocol: protocol::UDP,
            zone: 1,
            internal: SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 5), port),
            external: SocketAddrV4::new(ELASTIC_IP, 40_000),
            sessions,
            opened: 100,
        };
        let reports = mappings(&applied, &[mapping(7, 1), mapping(6, 2)], 200);
        assert_eq!(reports.iter().map(|report| report.source_port).collect::<Vec<_>>(), [6, 7]);
        let first = &reports[0];
        assert_eq!((first.sessions, first.elastic_ip, first.elastic_port), (2, ELASTIC_IP, 40_000));
        assert_eq!((first.nat_gateway, first.vpc.as_ref()), (Some("nat-a"), "main"));
        assert!(first.age_seconds > 90 && first.age_seconds < 120);
    }
}
