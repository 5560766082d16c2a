//! `natgw nacl`: network ACLs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::args::NaclVerb;
use super::table::{Column, Row, number, text};
use super::{output, reading};
use crate::report::{self, LAST_RULE, RuleReport};

/// Lists the rules of every NACL.
pub(super) fn execute(pin_dir: &Path, verb: &NaclVerb) -> Result<ExitCode> {
    let NaclVerb::List(args) = verb;
    let (_, applied) = reading::gateway(pin_dir)?;
    output::list(&report::rules(&applied.config), args.json)
}

impl Row for RuleReport<'_> {
    const COLUMNS: &'static [Column] = &[
        text("NACL"),
        text("DIRECTION"),
        number("RULE"),
        text("ACTION"),
        text("PROTOCOL"),
        text("CIDR"),
        text("PORTS"),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.nacl.to_owned(),
            self.direction.name().to_owned(),
            if self.rule == LAST_RULE { "*".to_owned() } else { self.rule.to_string() },
            self.action.to_string(),
            self.protocol.to_string(),
            self.cidr.to_string(),
            self.ports.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::table;
    use crate::config::{Config, SAMPLE};

    #[test]
    fn the_last_rule_of_a_list_is_a_star_for_people() {
        let config = Config::from_toml(SAMPLE, Path::new("sample.toml")).unwrap();
        let table = table(&report::rules(&config));
        let lines: Vec<_> = table.lines().filter(|line| line.starts_with("public   inbound")).collect();
        assert_eq!(lines[0], "public   inbound     100  allow   tcp       0.0.0.0/0  1024-65535");
        assert_eq!(lines[5], "public   inbound       *  deny    all       0.0.0.0/0  all");
        assert_eq!(lines.len(), 6);
    }
}
