//! `natgw config`: the documented sample.

use std::process::ExitCode;

use anyhow::Result;

use super::output;
use crate::config::SAMPLE;

/// Prints the sample configuration.
pub(super) fn sample() -> Result<ExitCode> {
    output::print(SAMPLE)?;
    Ok(ExitCode::SUCCESS)
}
