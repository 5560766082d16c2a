//! `natgw status`: the gateway at a glance.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nat_common::drop::DropReason;

use super::args::StatusArgs;
use super::eip::{busiest_for_people, state_for_people};
use super::table::{Column, Row, number, table, text};
use super::units::{fill, grouped};
use super::{output, reading};
use crate::datapath::{Pins, Session, milliseconds};
use crate::plan::SameQueue;
use crate::report::{
    self, Controller, DestinationReport, ElasticIpUse, InterfaceReport, Observation, StatusReport,
    counter_descriptions,
};

/// Shows the status.
pub(super) fn execute(pin_dir: &Path, args: &StatusArgs) -> Result<ExitCode> {
    if args.json {
        return view(pin_dir, |status| {
            output::print_json(status)?;
            Ok(ExitCode::SUCCESS)
        });
    }
    output::watch(args.watch, || view(pin_dir, |status| Ok(for_people(status))))
}

/// Hands `show` the status of this moment.
fn view<T>(pin_dir: &Path, show: impl FnOnce(&StatusReport<'_>) -> Result<T>) -> Result<T> {
    let (maps, applied) = reading::gateway(pin_dir)?;
    let flows = maps.flows()?;
    let drops = DropReason::ALL.iter().map(|reason| maps.drops(*reason));
    let seen = Observation {
        generation: maps.generation()?,
        now: milliseconds(),
        controller_runs: Pins::new(pin_dir).controller_runs()?,
        sessions: &Session::join(&flows),
        max_sessions: maps.max_sessions()?,
        flows: flows.len() as u64,
        counters: maps.counters()?,
        slow: maps.slow_counts()?,
        drops: drops.sum::<Result<_, _>>()?,
    };
    show(&report::status(&applied, &seen))
}

fn for_people(status: &StatusReport<'_>) -> String {
    let drops = match status.drops_total {
        0 => "no packets".to_owned(),
        packets => format!("{} packets; `natgw drops` tells why", grouped(packets)),
    };
    [
        format!("generation {}, {}\n", status.generation, of_controller(status.controller)),
        format!("sessions   {}\n", fill(status.sessions, status.max_sessions.into())),
        format!("flow table {}\n", fill(status.flow_table.used, status.flow_table.capacity)),
        format!("dropped    {drops}\n"),
        format!("bursts     {}: {}\n", if status.bursts.on { "on" } else { "off" }, status.bursts.why),
        status.interfaces.iter().filter_map(same_queue).collect(),
        status.busiest_destinations.iter().map(busiest).collect(),
        format!("\n{}", table(&status.interfaces)),
        format!("\n{}", table(&elastic_ips(status))),
        format!("\n{}", table(&counters(status))),
    ]
    .concat()
}

/// Whether answers come in on the queue of their session's packets, where somebody asks for it.
fn same_queue(interface: &InterfaceReport<'_>) -> Option<String> {
    let SameQueue { protocols, queues, why_not } = interface.same_queue?;
    let mut text = format!("same queue {}: ", interface.name);
    match protocols.as_slice() {
        [] => text.push_str("off"),
        protocols => text.push_str(&format!("{} on {queues} queues", protocols.join(" and "))),
    }
    why_not.iter().for_each(|why| text.push_str(&format!("; {why}")));
    Some(text + "\n")
}

/// An Elastic IP and the destination that uses so many of its ports.
fn busiest(destination: &DestinationReport) -> String {
    format!("busiest    {} toward {}\n", destination.elastic_ip, busiest_for_people(destination))
}

fn of_controller(controller: Controller) -> String {
    match controller.pid {
        Some(pid) => format!("controller running with pid {pid}"),
        None => "no controller: packets are translated, but idle sessions do not end; start `natgw run`"
            .to_owned(),
    }
}

impl Row for InterfaceReport<'_> {
    const COLUMNS: &'static [Column] =
        &[text("INTERFACE"), number("INDEX"), text("ROLES"), text("MODE"), text("WHY")];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.index.to_string(),
            self.roles.join(", "),
            self.mode.to_owned(),
            self.why.to_owned(),
        ]
    }
}

/// An Elastic IP, and whose it is.
struct ElasticIpRow<'a> {
    nat_gateway: &'a str,
    subnet: &'a str,
    elastic_ip: ElasticIpUse,
}

fn elastic_ips<'a>(status: &StatusReport<'a>) -> Vec<ElasticIpRow<'a>> {
    let mut rows = Vec::new();
    for gateway in &status.nat_gateways {
        rows.extend(gateway.elastic_ips.iter().map(|elastic_ip| ElasticIpRow {
            nat_gateway: gateway.name,
            subnet: gateway.subnet,
            elastic_ip: *elastic_ip,
        }));
    }
    rows
}

impl Row for ElasticIpRow<'_> {
    const COLUMNS: &'static [Column] = &[
        text("NAT GATEWAY"),
        text("SUBNET"),
        text("ELASTIC IP"),
        text("STATE"),
        number("SESSIONS"),
        number("PORTS USED"),
    ];

    fn cells(&self) -> Vec<String> {
        let ElasticIpUse { address, state, seconds_left, sessions, ports_used } = self.elastic_ip;
        vec![
            self.nat_gateway.to_owned(),
            self.subnet.to_owned(),
            address.to_string(),
            state_for_people(state, seconds_left),
            grouped(sessions),
            grouped(ports_used),
        ]
    }
}

/// A counter, and what it counts.
struct CounterRow {
    name: &'static str,
    value: u64,
    description: &'static str,
}

fn counters(status: &StatusReport<'_>) -> Vec<CounterRow> {
    let described = status.counters.iter().zip(counter_descriptions());
    described.map(|(&(name, value), description)| CounterRow { name, value, description }).collect()
}

impl Row for CounterRow {
    const COLUMNS: &'static [Column] = &[text("COUNTER"), number("VALUE"), text("DESCRIPTION")];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_owned(), grouped(self.value), self.description.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nat_common::counter::Counters;

    use crate::report::sample::{applied, session};

    fn observation() -> Observation<'static> {
        Observation {
            generation: 4,
            now: 1_000,
            controller_runs: true,
            sessions: &[],
            max_sessions: 10,
            flows: 4,
            counters: Counters { outbound_bytes: 123_456, ..Counters::default() },
            slow: nat_common::slow::Counts::default(),
            drops: 0,
        }
    }

    fn shown(controller_runs: bool) -> String {
        let applied = applied();
        let sessions = [session(1, 5_000), session(2, 5_000)];
        let seen = Observation { controller_runs, sessions: &sessions, ..observation() };
        for_people(&report::status(&applied, &seen))
    }

    #[test]
    fn people_see_everything_at_a_glance() {
        let text = shown(true);
        for line in [
            "generation 4, controller running with pid 4711",
            "sessions   2 of 10 (20 %)",
            "flow table 4 of 20 (20 %)",
            "dropped    no packets",
            "bursts     off: the processor's cache holds the sessions",
            "busiest    203.0.113.10 toward 192.0.2.80:443 tcp: 2 of 64,512 ports, 2 by 10.0.1.5",
            "eth1           2  internal  xdp-native  the driver offers it",
            "nat-a        public-a  203.0.113.10  in use         2           1",
            "outbound_bytes       123,456  Bytes of IP in them.",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn people_see_where_answers_come_in_on_the_same_queue_and_why_not() {
        let mut applied = applied();
        let line = |applied: &crate::datapath::Applied| {
            let text = for_people(&report::status(applied, &observation()));
            text.lines().find(|line| line.starts_with("same queue")).map(str::to_owned)
        };
        assert_eq!(line(&applied), None);
        let why_not = vec!["for udp not".to_owned()];
        let same_queue = SameQueue { protocols: vec!["tcp".to_owned()], queues: 8, why_not };
        applied.interfaces[1].same_queue = Some(same_queue.clone());
        assert_eq!(line(&applied).unwrap(), "same queue eth0: tcp on 8 queues; for udp not");
        applied.interfaces[1].same_queue = Some(SameQueue { protocols: vec![], ..same_queue });
        assert_eq!(line(&applied).unwrap(), "same queue eth0: off; for udp not");
    }

    #[test]
    fn a_gateway_without_a_controller_says_what_that_means() {
        let text = shown(false);
        assert!(text.starts_with("generation 4, no controller: packets are translated, but"), "{text}");
        assert!(!text.contains("4711"), "{text}");
    }
}
