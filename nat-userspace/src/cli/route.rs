//! `natgw route`: route tables.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::args::RouteVerb;
use super::table::{Column, Row, text};
use super::{output, reading};
use crate::report::{self, RouteReport};

/// Lists the routes of every route table.
pub(super) fn execute(pin_dir: &Path, verb: &RouteVerb) -> Result<ExitCode> {
    let RouteVerb::List(args) = verb;
    let (_, applied) = reading::gateway(pin_dir)?;
    output::list(&report::routes(&applied.config), args.json)
}

impl Row for RouteReport<'_> {
    const COLUMNS: &'static [Column] =
        &[text("ROUTE TABLE"), text("DESTINATION"), text("TARGET"), text("STATE")];

    fn cells(&self) -> Vec<String> {
        vec![
            self.route_table.to_owned(),
            self.destination.to_string(),
            self.target.to_string(),
            self.state.name().to_owned(),
        ]
    }
}
