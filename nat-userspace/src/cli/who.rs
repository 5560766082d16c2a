//! `natgw eip who`: who has a port of an Elastic IP.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use super::{
    args::EipWhoArgs,
    output, reading,
    table::{Column, Row, number, text},
};
use crate::report::{self, HeldBy, PortHolder};

/// Exit code 1: nobody has it.
pub(super) fn execute(pin_dir: &Path, args: &EipWhoArgs) -> Result<ExitCode> {
    let (maps, applied) = reading::gateway(pin_dir)?;
    let (blocks, sessions) = (maps.blocks()?, maps.sessions()?);
    let holders = report::who(&applied, &blocks, &sessions, (args.address, args.port), args.protocol);
    let code = output::list(&holders, args.json)?;
    Ok(if holders.is_empty() { ExitCode::from(1) } else { code })
}

impl Row for PortHolder<'_> {
    const COLUMNS: &'static [Column] = &[
        text("HOST"),
        text("VPC"),
        text("BY"),
        text("PORTS"),
        text("PROTOCOL"),
        number("HOST PORT"),
        text("DESTINATION"),
    ];

    fn cells(&self) -> Vec<String> {
        let by = match self.by {
            HeldBy::Block => "block",
            HeldBy::Computed => "computed block",
            HeldBy::Session => "session",
        };
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let destination = self.destination.zip(self.destination_port);
        vec![
            self.host.to_string(),
            self.vpc.to_string(),
            by.to_owned(),
            format!("{}-{}", self.first_port, self.last_port),
            or_dash(self.protocol.map(|protocol| protocol.name().to_owned())),
            or_dash(self.host_port.map(|port| port.to_string())),
            or_dash(destination.map(|(address, port)| format!("{address}:{port}"))),
        ]
    }
}
