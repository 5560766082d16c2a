//! `natgw eip`: Elastic IPs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::args::{EipAddArgs, EipRemoveArgs, EipVerb, ListArgs};
use super::table::{Column, Row, number, text};
use super::units::{duration, grouped};
use super::{output, reading, runtime};
use crate::api::{Changed, Client, DrainTime};
use crate::config::NewElasticIp;
use crate::datapath::milliseconds;
use crate::report::{self, DestinationReport, ElasticIpReport, ElasticIpState};

/// Lists, adds or removes.
pub(super) fn execute(pin_dir: &Path, verb: &EipVerb) -> Result<ExitCode> {
    match verb {
        EipVerb::List(args) => list(pin_dir, *args),
        EipVerb::Add(args) => add(pin_dir, args),
        EipVerb::Remove(args) => remove(pin_dir, args),
        EipVerb::Who(args) => super::who::execute(pin_dir, args),
    }
}

fn list(pin_dir: &Path, args: ListArgs) -> Result<ExitCode> {
    let (maps, applied) = reading::gateway(pin_dir)?;
    output::list(&report::elastic_ips(&applied, &maps.sessions()?, milliseconds()), args.json)
}

fn add(pin_dir: &Path, args: &EipAddArgs) -> Result<ExitCode> {
    let wanted = NewElasticIp {
        address: args.address,
        nat_gateway: args.nat_gateway.clone(),
        arp: args.arp,
        ports: args.ports.clone(),
    };
    tell(&runtime()?.block_on(Client::new(pin_dir).add(&wanted))?, args.json)
}

fn remove(pin_dir: &Path, args: &EipRemoveArgs) -> Result<ExitCode> {
    let drain = if args.now { Some(DrainTime::NOW) } else { args.drain };
    tell(&runtime()?.block_on(Client::new(pin_dir).remove(args.address, drain))?, args.json)
}

fn tell(changed: &Changed, json: bool) -> Result<ExitCode> {
    if json {
        output::print_json(changed)?
    } else {
        output::print(&for_people(changed))?
    }
    Ok(ExitCode::SUCCESS)
}

fn for_people(changed: &Changed) -> String {
    let Changed { address, nat_gateway, state, seconds_left, generation, to_keep } = changed;
    let what = match state {
        ElasticIpState::InUse => format!("new sessions of NAT gateway {nat_gateway} get it"),
        ElasticIpState::Draining => format!(
            "it drains from NAT gateway {nat_gateway} for {} at most: its sessions go on, new ones get another \
             Elastic IP",
            duration(seconds_left.unwrap_or_default())
        ),
        ElasticIpState::Unused | ElasticIpState::Removed => {
            format!("it is removed from NAT gateway {nat_gateway}, and its sessions have ended")
        }
    };
    format!(
        "{address}: {what} (generation {generation})\n\
         A reload or restart puts the configuration as it is written into force again. To keep this change,\n\
         {to_keep}\n"
    )
}

/// `in use`, or `draining, 5m 50s left`.
pub(super) fn state_for_people(state: ElasticIpState, seconds_left: Option<u64>) -> String {
    match (state, seconds_left) {
        (ElasticIpState::Draining, Some(seconds)) => format!("draining, {} left", duration(seconds)),
        (ElasticIpState::Draining, None) => "draining".to_owned(),
        (ElasticIpState::InUse, _) => "in use".to_owned(),
        (ElasticIpState::Unused, _) => "unused".to_owned(),
        (ElasticIpState::Removed, _) => "removed".to_owned(),
    }
}

/// `192.0.2.80:443 tcp: 64,000 of 64,512 ports, 60,000 by 10.0.1.5`.
pub(super) fn busiest_for_people(busiest: &DestinationReport) -> String {
    let DestinationReport { destination, protocol, ports_used, ports_free, hosts, .. } = busiest;
    let most = hosts.first().map(|most| format!(", {} by {}", grouped(most.ports), most.host));
    let (used, all) = (grouped(*ports_used), grouped(ports_used + ports_free));
    format!("{destination} {protocol}: {used} of {all} ports{}", most.unwrap_or_default())
}

impl Row for ElasticIpReport<'_> {
    const COLUMNS: &'static [Column] = &[
        text("ELASTIC IP"),
        text("NAT GATEWAY"),
        text("ARP"),
        text("STATE"),
        number("SESSIONS"),
        number("PORTS USED"),
        text("PORTS"),
        text("BUSIEST DESTINATION"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.to_string(),
            self.nat_gateway.unwrap_or("-").to_owned(),
            self.arp.to_string(),
            state_for_people(self.state, self.seconds_left),
            grouped(self.sessions),
            grouped(self.ports_used),
            if self.shared { format!("{} (shared with the host)", self.ports) } else { self.ports.clone() },
            self.busiest.as_ref().map_or_else(|| "-".to_owned(), busiest_for_people),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_a_change_does_and_how_to_keep_it() {
        let mut changed = Changed {
            address: [203, 0, 113, 10].into(),
            nat_gateway: "nat-a".into(),
            state: ElasticIpState::Draining,
            seconds_left: Some(350),
            generation: 3,
            to_keep: "write this".into(),
        };
        let text = for_people(&changed);
        assert!(
            text.starts_with("203.0.113.10: it drains from NAT gateway nat-a for 5m 50s at most: "),
            "{text}"
        );
        assert!(text.ends_with("To keep this change,\nwrite this\n"), "{text}");
        changed.state = ElasticIpState::InUse;
        let line = "203.0.113.10: new sessions of NAT gateway nat-a get it (generation 3)";
        assert_eq!(for_people(&changed).lines().next(), Some(line));
    }

    #[test]
    fn a_draining_elastic_ip_tells_the_time_that_is_left() {
        assert_eq!(state_for_people(ElasticIpState::Draining, Some(3)), "draining, 3s left");
        assert_eq!(state_for_people(ElasticIpState::InUse, None), "in use");
    }
}
