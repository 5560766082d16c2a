//! One controller at a time: a new one asks the old one to leave, and takes over what it leaves.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::datapath::{Lock, Maps, Pins};

/// How long the old controller may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the lock of the pin directory, from another controller if need be. The data plane goes on meanwhile.
pub(super) async fn take_lock(pins: &Pins) -> Result<Lock> {
    if let Some(lock) = pins.lock()? {
        return Ok(lock);
    }
    let holder = controller(pins);
    if let Some(pid) = holder {
        tracing::info!("taking over from the controller with process id {pid}");
        kill(pid, Signal::SIGUSR1)?;
    }
    wait_for_lock(pins, holder).await
}

/// Waits until whoever holds the lock lets it go: `status` does so at once, a controller when it has ended.
async fn wait_for_lock(pins: &Pins, holder: Option<Pid>) -> Result<Lock> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        if let Some(lock) = pins.lock()? {
            return Ok(lock);
        }
        tokio::time::sleep(PAUSE).await;
    }
    match holder {
        Some(pid) => bail!(
            "the controller with process id {pid} does not end; end it with `kill -9 {pid}`, the data plane goes on"
        ),
        None => bail!("another process holds {}; end it first", pins.root().display()),
    }
}

/// The process that keeps the gateway, as far as it is one of natgw's.
fn controller(pins: &Pins) -> Option<Pid> {
    let applied = Maps::of_pins(pins.root()).ok()?.applied().ok()??;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", applied.pid)).ok()?;
    (name.trim() == "natgw").then(|| Pid::from_raw(applied.pid as i32))
}
