//! `natgw flows`: sessions.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::args::FlowsArgs;
use super::table::{Column, Row, number, table, text};
use super::units::{bytes, duration, endpoint, grouped};
use super::{output, reading};
use crate::datapath::{Applied, Session, now};
use crate::report::{self, FlowReport, MappingReport, NotFound};

/// Lists sessions.
pub(super) fn execute(pin_dir: &Path, args: &FlowsArgs) -> Result<ExitCode> {
    if args.mappings {
        return mappings(pin_dir, args);
    }
    if args.json {
        let (applied, sessions) = read(pin_dir)?;
        output::print_json(&select(&applied, &sessions, args)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::watch(args.watch, || {
        let (applied, sessions) = read(pin_dir)?;
        Ok(for_people(&select(&applied, &sessions, args)?, sessions.len()))
    })
}

/// Lists mappings.
fn mappings(pin_dir: &Path, args: &FlowsArgs) -> Result<ExitCode> {
    if args.json {
        let (maps, applied) = reading::gateway(pin_dir)?;
        output::print_json(&report::mappings(&applied, &maps.mappings()?, now()))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::watch(args.watch, || {
        let (maps, applied) = reading::gateway(pin_dir)?;
        let mappings = report::mappings(&applied, &maps.mappings()?, now());
        Ok(format!("{}mappings: {}\n", table(&mappings), grouped(mappings.len() as u64)))
    })
}

fn read(pin_dir: &Path) -> Result<(Applied, Vec<Session>)> {
    let (maps, applied) = reading::gateway(pin_dir)?;
    Ok((applied, maps.sessions()?))
}

/// The sessions that were asked for, in the order that was asked for.
fn select<'a>(
    applied: &'a Applied,
    sessions: &[Session],
    args: &FlowsArgs,
) -> Result<Vec<FlowReport<'a>>, NotFound> {
    let mut flows = report::flows(applied, sessions, now());
    args.filter.check(&applied.config, &flows)?;
    flows.retain(|flow| args.filter.matches(flow));
    args.sort.sort(&mut flows, args.reverse);
    flows.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(flows)
}

fn for_people(flows: &[FlowReport<'_>], total: usize) -> String {
    let (shown, total) = (grouped(flows.len() as u64), grouped(total as u64));
    format!("{}sessions: {shown} shown, {total} in all\n", table(flows))
}

impl Row for FlowReport<'_> {
    const COLUMNS: &'static [Column] = &[
        text("PROTOCOL"),
        text("SOURCE"),
        text("ELASTIC IP"),
        text("DESTINATION"),
        text("STATE"),
        number("AGE"),
        number("IDLE"),
        number("EXPIRES"),
        number("PACKETS OUT"),
        number("BYTES OUT"),
        number("PACKETS IN"),
        number("BYTES IN"),
        text("NAT GATEWAY"),
        text("VPC"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.name().to_owned(),
            endpoint(self.source, self.source_port),
            endpoint(self.elastic_ip, self.elastic_port),
            endpoint(self.destination, self.destination_port),
            self.state.name().to_owned(),
            duration(self.age_seconds),
            duration(self.idle_seconds),
            duration(self.expires_seconds),
            grouped(self.packets_out),
            bytes(self.bytes_out),
            grouped(self.packets_in),
            bytes(self.bytes_in),
            self.nat_gateway.unwrap_or("-").to_owned(),
            self.vpc.to_string(),
        ]
    }
}

impl Row for MappingReport<'_> {
    const COLUMNS: &'static [Column] = &[
        text("PROTOCOL"),
        text("SOURCE"),
        text("ELASTIC IP"),
        number("SESSIONS"),
        number("AGE"),
        text("NAT GATEWAY"),
        text("VPC"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.name().to_owned(),
            endpoint(self.source, self.source_port),
            endpoint(self.elastic_ip, self.elastic_port),
            grouped(self.sessions.into()),
            duration(self.age_seconds),
            self.nat_gateway.unwrap_or("-").to_owned(),
            self.vpc.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use nat_common::protocol;

    use super::super::args::{Cli, Verb};
    use super::*;
    use crate::report::sample::{applied, session};

    fn args(flags: &str) -> FlowsArgs {
        let line = format!("natgw flows {flags}");
        let Verb::Flows(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().verb else {
            panic!("not flows")
        };
        *args
    }

    fn sessions() -> [Session; 3] {
        let ping = Session {
            protocol: protocol::ICMP,
            phase: None,
            remote: "192.0.2.80:0".parse().unwrap(),
            ..session(7, 7)
        };
        [session(40_001, 1_025), session(40_000, 1_024), ping]
    }

    fn ports(flags: &str) -> Vec<u16> {
        let applied = applied();
        let flows = select(&applied, &sessions(), &args(flags)).unwrap();
        flows.iter().map(|flow| flow.source_port).collect()
    }

    #[test]
    fn the_limit_counts_what_is_left_after_filtering_and_sorting() {
        assert_eq!(ports(""), [7, 40_000, 40_001]);
        assert_eq!(ports("--reverse --limit 2"), [40_001, 40_000]);
        assert_eq!(ports("--protocol tcp --limit 1"), [40_000]);
        assert_eq!(ports("--limit 0"), [0; 0]);
    }

    #[test]
    fn a_filter_for_what_does_not_exist_is_a_no() {
        let applied = applied();
        let error = select(&applied, &[], &args("--vpc lab")).unwrap_err();
        assert_eq!(crate::cli::code(&error.into()), crate::cli::NO);
    }

    #[test]
    fn people_see_endpoints_and_a_ping_without_a_port_of_its_destination() {
        let applied = applied();
        let text = for_people(&select(&applied, &sessions(), &args("--limit 2")).unwrap(), 3);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0][..4], ["PROTOCOL", "SOURCE", "ELASTIC", "IP"]);
        assert_eq!(lines[1][..5], ["icmp", "10.0.1.5:7", "203.0.113.10:7", "192.0.2.80", "active"]);
        assert_eq!(lines[2][3..5], ["192.0.2.80:443", "established"]);
        assert!(lines[2].ends_with(&["10", "1.0", "kB", "20", "30.0", "kB", "nat-a", "main"]), "{text}");
        assert_eq!(lines[3].join(" "), "sessions: 2 shown, 3 in all");
    }

    #[test]
    fn without_sessions_people_see_the_header() {
        let text = for_people(&[], 0);
        assert!(text.starts_with("PROTOCOL  SOURCE  "), "{text}");
        assert_eq!(text.lines().count(), 2);
    }
}
