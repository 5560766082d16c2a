//! `natgw run`: the controller in the foreground.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::Result;

use super::{args::RunArgs, runtime};
use crate::controller::Controller;

/// Runs until a signal ends it.
pub fn execute(pin_dir: &Path, args: &RunArgs) -> Result<ExitCode> {
    runtime()?.block_on(async {
        let controller = Controller::start(args, pin_dir.to_owned()).await?;
        println!("ready generation={}", controller.generation()?);
        std::io::stdout().flush()?;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        controller.run().await?;
        Ok(ExitCode::SUCCESS)
    })
}
