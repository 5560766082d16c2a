//! `natgw eip`: Elastic IPs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::args::EipVerb;
use super::table::{Column, Row, number, text};
use super::units::grouped;
use super::{output, reading};
use crate::report::{self, ElasticIpReport};

/// Lists Elastic IPs.
pub(super) fn execute(pin_dir: &Path, verb: &EipVerb) -> Result<ExitCode> {
    let EipVerb::List(args) = verb;
    let (maps, applied) = reading::gateway(pin_dir)?;
    output::list(&report::elastic_ips(&applied, &maps.sessions()?), args.json)
}

impl Row for ElasticIpReport<'_> {
    const COLUMNS: &'static [Column] = &[
        text("ELASTIC IP"),
        text("NAT GATEWAY"),
        text("ARP"),
        number("SESSIONS"),
        number("PORTS USED"),
        text("PORTS"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.to_string(),
            self.nat_gateway.unwrap_or("-").to_owned(),
            self.arp.to_string(),
            grouped(self.sessions),
            grouped(self.ports_used),
            if self.shared { format!("{} (shared with the host)", self.ports) } else { self.ports.clone() },
        ]
    }
}
