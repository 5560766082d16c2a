//! Metrics, read off the pinned maps as the commands read them: the controller has no part in it.

use std::path::Path;

use nat_common::drop::DropReason;

use crate::{
    datapath::{DatapathError, Maps, Pins, Session, milliseconds},
    report::{self, DropReading, Measured, Observation},
};

/// Destinations told of.
const DESTINATIONS: usize = 20;

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetricsError {
    /// The maps cannot be read.
    #[error(transparent)]
    Maps(#[from] DatapathError),
    /// They cannot be written down.
    #[error("metrics cannot be written")]
    Text(#[from] std::fmt::Error),
    /// The thread that read them has failed.
    #[error("reading metrics failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The text of all metrics of the gateway pinned in `pin_dir`.
///
/// # Errors
/// If its maps cannot be read.
pub(super) fn text(pin_dir: &Path) -> Result<String, MetricsError> {
    let maps = Maps::of_pins(pin_dir)?;
    let applied = maps.applied()?.ok_or_else(|| DatapathError::NotRunning(pin_dir.to_owned()))?;
    let flows = maps.flows()?;
    let sessions = Session::join(&flows);
    let mut drops = Vec::new();
    for reason in DropReason::ALL.iter().copied() {
        drops.push(DropReading { reason, packets: maps.drops(reason)?, recent: 0, sample: None });
    }
    let seen = Observation {
        generation: maps.generation()?,
        now: milliseconds(),
        controller_runs: Pins::new(pin_dir).controller_runs()?,
        sessions: &sessions,
        max_sessions: maps.max_sessions()?,
        flows: flows.len() as u64,
        counters: maps.counters()?,
        slow: maps.slow_counts()?,
        drops: drops.iter().map(|drop| drop.packets).sum(),
    };
    let mut busiest = report::busiest(&applied, &sessions);
    busiest.truncate(DESTINATIONS);
    Ok(report::metrics(&Measured {
        status: &report::status(&applied, &seen),
        elastic_ips: &report::elastic_ips(&applied, &sessions, seen.now),
        busiest: &busiest,
        drops: &drops,
    })?)
}
