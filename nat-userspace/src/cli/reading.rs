//! Reading the pinned state, with or without a controller.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};

use crate::datapath::{Applied, DatapathError, Maps};

/// The maps pinned under `pin_dir`.
///
/// # Errors
///
/// [`DatapathError::NotRunning`] if there are none; when this user may not look, a remedy.
pub(super) fn maps(pin_dir: &Path) -> Result<Maps> {
    let hidden = fs::metadata(crate::datapath::Pins::new(pin_dir).maps())
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if hidden {
        anyhow::bail!("cannot look into {}: permission denied; run natgw with sudo", pin_dir.display());
    }
    let maps = Maps::of_pins(pin_dir);
    if nix::unistd::geteuid().is_root() || matches!(maps, Ok(_) | Err(DatapathError::NotRunning(_))) {
        return Ok(maps?);
    }
    maps.context("reading the data plane's maps needs root; run natgw with sudo")
}

/// The maps pinned under `pin_dir`, and the configuration in force.
///
/// # Errors
///
/// As [`maps`]; [`DatapathError::NotRunning`] also where no configuration was ever in force.
pub(super) fn gateway(pin_dir: &Path) -> Result<(Maps, Applied)> {
    let maps = maps(pin_dir)?;
    let applied = maps.applied()?.ok_or_else(|| DatapathError::NotRunning(pin_dir.to_owned()))?;
    Ok((maps, applied))
}
