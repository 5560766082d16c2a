//! `drops`: what was refused, by reason.

use std::{net::Ipv4Addr, time::Duration};

use nat_common::{
    clock::seconds_from_ticks,
    drop::{DropReason, DropSample},
};
use serde::Serialize;

use crate::{config::Protocol, datapath::AppliedInterface};

/// What was read about one reason.
#[derive(Clone, Copy, Debug)]
pub struct DropReading {
    /// The reason.
    pub reason: DropReason,
    /// Packets dropped for it so far.
    pub packets: u64,
    /// How many of them since the reading before.
    pub recent: u64,
    /// The latest one.
    pub sample: Option<DropSample>,
}

/// What was dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DropReport<'a> {
    /// The reason's stable name.
    pub reason: &'static str,
    /// What it means.
    pub description: &'static str,
    /// Packets dropped so far.
    pub packets: u64,
    /// Packets dropped per second at the moment, to one decimal place.
    pub per_second: f64,
    /// The latest one; null if there was none.
    pub latest: Option<LatestDrop<'a>>,
}

/// The latest packet dropped for a reason. What could not be read of it is zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LatestDrop<'a> {
    /// Where it came from.
    pub source: Ipv4Addr,
    /// Its source port, or the identifier of an ICMP query.
    pub source_port: u16,
    /// Where it was going.
    pub destination: Ipv4Addr,
    /// Its destination port.
    pub destination_port: u16,
    /// `tcp`, `udp`, `icmp` or another protocol's number.
    pub protocol: String,
    /// The interface that received it; `ifN` if it is no longer the gateway's.
    pub interface: std::borrow::Cow<'a, str>,
    /// Bytes of IP.
    pub length: u32,
    /// How long ago.
    pub seconds_ago: u64,
}

/// Reports on `readings`, the most frequent reason first. Rates are over the time `since` the reading before, and
/// `now` is the tick of this one.
#[must_use]
pub fn drops<'a>(
    readings: &[DropReading],
    since: Duration,
    interfaces: &'a [AppliedInterface],
    now: u32,
) -> Vec<DropReport<'a>> {
    let report = |reading: &DropReading| DropReport {
        reason: reading.reason.name(),
        description: reading.reason.description(),
        packets: reading.packets,
        per_second: rate(reading.recent, since),
        latest: reading.sample.map(|sample| latest(&sample, interfaces, now)),
    };
    let mut reports: Vec<_> = readings.iter().map(report).collect();
    reports.sort_by_key(|report| std::cmp::Reverse(report.packets));
    reports
}

fn rate(packets: u64, since: Duration) -> f64 {
    if since.is_zero() {
        return 0.0;
    }
    (packets as f64 / since.as_secs_f64() * 10.0).round() / 10.0
}

fn latest<'a>(sample: &DropSample, interfaces: &'a [AppliedInterface], now: u32) -> LatestDrop<'a> {
    let interface = interfaces.iter().find(|interface| interface.index == sample.ifindex);
    LatestDrop {
        source: sample.key.source_address(),
        source_port: u16::from_be(sample.key.source_port),
        destination: sample.key.destination_address(),
        destination_port: u16::from_be(sample.key.destination_port),
        protocol: protocol(sample.key.protocol),
        interface: match interface {
            Some(interface) => interface.name.as_str().into(),
            None => format!("if{}", sample.ifindex).into(),
        },
        length: sample.length,
        seconds_ago: seconds_from_ticks(now.saturating_sub(sample.tick)),
    }
}

pub(crate) fn protocol(number: u8) -> String {
    // Written as the configuration writes it; only the reserved number is unknown there.
    number.to_string().parse().unwrap_or(Protocol::Number(number)).to_string()
}

#[cfg(test)]
mod tests {
    use nat_common::flow::{FlowKey4, raw};
    use serde_json::json;

    use super::*;
    use crate::report::sample::applied;

    fn reading(reason: DropReason, packets: u64) -> DropReading {
        DropReading { reason, packets, recent: 0, sample: None }
    }

    fn sample(protocol: u8, ifindex: u32) -> DropSample {
        let key = FlowKey4 {
            source: raw(Ipv4Addr::new(192, 0, 2, 80)),
            destination: raw(Ipv4Addr::new(203, 0, 113, 10)),
            source_port: 443_u16.to_be(),
            destination_port: 5_000_u16.to_be(),
            protocol,
            ..FlowKey4::default()
        };
        DropSample { key, tick: 100, ifindex, length: 60, spare: 0 }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_reason_is_reported_with_the_documented_fields() {
        let applied = applied();
        let reading =
            DropReading { recent: 3, sample: Some(sample(6, 3)), ..reading(DropReason::NoSession, 42) };
        let reports = drops(&[reading], Duration::from_millis(250), &applied.interfaces, 110);
        assert_eq!(
            serde_json::to_value(&reports).unwrap(),
            json!([{
                "reason": "no_session", "description": "from outside to an Elastic IP, without a session",
                "packets": 42, "per_second": 12.0,
                "latest": {
                    "source": "192.0.2.80", "source_port": 443, "destination": "203.0.113.10",
                    "destination_port": 5_000, "protocol": "tcp", "interface": "eth0", "length": 60,
                    "seconds_ago": 11,
                },
            }])
        );
    }

    #[test]
    fn a_reason_that_never_occurred_has_no_latest_packet() {
        let reports = drops(&[reading(DropReason::Martian, 0)], SECOND, &[], 110);
        assert_eq!(serde_json::to_value(&reports[0].latest).unwrap(), json!(null));
    }

    #[test]
    fn the_most_frequent_reason_comes_first_and_equals_keep_their_order() {
        let readings = [
            reading(DropReason::Ipv6, 1),
            reading(DropReason::Martian, 9),
            reading(DropReason::NoRoute, 0),
            reading(DropReason::TableFull, 0),
        ];
        let names: Vec<_> = drops(&readings, SECOND, &[], 0).iter().map(|report| report.reason).collect();
        assert_eq!(names, ["martian", "ipv6", "no_route", "table_full"]);
    }

    #[test]
    fn rates_have_one_decimal_place_and_none_is_infinite() {
        assert_eq!(rate(1, Duration::from_secs(3)), 0.3);
        assert_eq!(rate(1, Duration::ZERO), 0.0);
    }

    #[test]
    fn an_interface_that_is_not_the_gateways_is_named_by_its_index() {
        let reading = DropReading { sample: Some(sample(47, 99)), ..reading(DropReason::Protocol, 1) };
        let reports = drops(&[reading], SECOND, &[], 99);
        let latest = reports[0].latest.as_ref().unwrap();
        assert_eq!((latest.interface.as_ref(), latest.protocol.as_str()), ("if99", "47"));
        assert_eq!(latest.seconds_ago, 0);
    }

    #[test]
    fn the_reserved_protocol_number_is_shown_as_it_is() {
        assert_eq!(protocol(255), "255");
    }
}
