//! What is measured, in the text format that Prometheus reads (OpenMetrics).

use std::fmt;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::ConstCounter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{DestinationReport, DropReading, ElasticIpReport, StatusReport, counter_descriptions};

/// What [`metrics`] tells of.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The gateway at a glance.
    pub status: &'a StatusReport<'a>,
    /// Its Elastic IPs.
    pub elastic_ips: &'a [ElasticIpReport<'a>],
    /// The destinations that use most ports.
    pub busiest: &'a [DestinationReport],
    /// Packets refused, by reason.
    pub drops: &'a [DropReading],
}

type Labels = Vec<(&'static str, String)>;

/// All metrics; names and labels are stable.
///
/// # Errors
/// If they cannot be written, which a `String` does not refuse.
pub fn metrics(measured: &Measured<'_>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("natgw");
    let Measured { status, elastic_ips, busiest, drops } = *measured;
    for ((name, value), help) in status.counters.iter().zip(counter_descriptions()) {
        registry.register(*name, help.trim_end_matches('.'), ConstCounter::new(*value));
    }
    gauge(&mut registry, "sessions", "Sessions that are open", status.sessions);
    gauge(&mut registry, "max_sessions", "Sessions there is room for", status.max_sessions.into());
    gauge(
        &mut registry,
        "generation",
        "The number stamped by each applied configuration",
        status.generation.into(),
    );
    let refused = counters(&mut registry, "drops", "Packets refused, by reason");
    for drop in drops {
        refused.get_or_create(&vec![("reason", drop.reason.name().to_owned())]).inc_by(drop.packets);
    }
    let of = |report: &ElasticIpReport<'_>| {
        let gateway = report.nat_gateway.unwrap_or_default().to_owned();
        vec![("elastic_ip", report.address.to_string()), ("nat_gateway", gateway)]
    };
    let sessions = gauges(&mut registry, "elastic_ip_sessions", "Sessions that an Elastic IP carries");
    let ports = gauges(
        &mut registry,
        "elastic_ip_ports_used",
        "Different external ports in use, counted per protocol",
    );
    for report in elastic_ips {
        sessions.get_or_create(&of(report)).set(as_gauge(report.sessions));
        ports.get_or_create(&of(report)).set(as_gauge(report.ports_used));
    }
    let used =
        gauges(&mut registry, "destination_ports_used", "Ports in use toward the busiest destinations");
    let free =
        gauges(&mut registry, "destination_ports_free", "Ports that new sessions toward them can still get");
    for report in busiest {
        used.get_or_create(&toward(report)).set(as_gauge(report.ports_used));
        free.get_or_create(&toward(report)).set(as_gauge(report.ports_free));
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn toward(report: &DestinationReport) -> Labels {
    vec![
        ("elastic_ip", report.elastic_ip.to_string()),
        ("destination", report.destination.to_string()),
        ("protocol", report.protocol.clone()),
    ]
}

fn gauge(registry: &mut Registry, name: &'static str, help: &'static str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(as_gauge(value));
    registry.register(name, help, gauge);
}

fn gauges(registry: &mut Registry, name: &'static str, help: &'static str) -> Family<Labels, Gauge> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn counters(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> Family<Labels, prometheus_client::metrics::counter::Counter> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// No gateway has as many of anything as would not fit.
fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use nat_common::{counter::Counters, drop::DropReason, slow};

    use super::*;
    use crate::report::{Observation, busiest, elastic_ips, sample, status};

    #[test]
    fn metrics_tell_counters_drops_elastic_ips_and_busy_destinations() {
        let applied = sample::applied();
        let sessions = [sample::session(1, 5_000), sample::session(2, 5_001)];
        let seen = Observation {
            generation: 4,
            now: 1_000,
            controller_runs: true,
            sessions: &sessions,
            max_sessions: 10,
            flows: 4,
            counters: Counters { outbound_packets: 7, ..Counters::default() },
            slow: slow::Counts { divided: 9, ..slow::Counts::default() },
            drops: 3,
        };
        let drops = [DropReading { reason: DropReason::NoSession, packets: 3, recent: 0, sample: None }];
        let text = metrics(&Measured {
            status: &status(&applied, &seen),
            elastic_ips: &elastic_ips(&applied, &sessions, 1_000),
            busiest: &busiest(&applied, &sessions),
            drops: &drops,
        })
        .unwrap();
        for line in [
            "# TYPE natgw_outbound_packets counter",
            "natgw_outbound_packets_total 7",
            "natgw_packets_divided_total 9",
            "natgw_sessions 2",
            "natgw_max_sessions 10",
            "natgw_drops_total{reason=\"no_session\"} 3",
            "natgw_elastic_ip_sessions{elastic_ip=\"203.0.113.10\",nat_gateway=\"nat-a\"} 2",
            "natgw_destination_ports_used{elastic_ip=\"203.0.113.10\",destination=\"192.0.2.80:443\",protocol=\"tcp\"} 2",
            "natgw_destination_ports_free{elastic_ip=\"203.0.113.10\",destination=\"192.0.2.80:443\",protocol=\"tcp\"} 64510",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
