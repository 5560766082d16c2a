//! `natgw detach`: takes it all off.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use super::{NO, runtime};
use crate::controller;

/// Takes off what is pinned in `pin_dir`; a 'no' if nothing is.
pub fn execute(pin_dir: &Path) -> Result<ExitCode> {
    if runtime()?.block_on(controller::detach(pin_dir))? {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("natgw: no gateway is set up under {}", pin_dir.display());
    Ok(ExitCode::from(NO))
}
