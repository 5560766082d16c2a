//! Taking it all off.

use std::path::Path;

use anyhow::Result;

use super::{Controller, handover};
use crate::{
    api,
    datapath::{Applied, Maps, Pins},
    host::{Host, disable_fib_lookup},
};

/// Ends the controller, if there is one, and takes the data plane off; false if there was nothing to take off.
///
/// # Errors
/// What could not be removed.
pub async fn detach(pin_dir: &Path) -> Result<bool> {
    let pins = Pins::new(pin_dir);
    if !pins.root().exists() {
        return Ok(false);
    }
    // The directory tells its socket, so while it is there.
    let socket = api::socket(pin_dir);
    let _lock = handover::take_lock(&pins).await?;
    let applied = Maps::of_pins(pin_dir).ok().and_then(|maps| maps.applied().ok().flatten());
    pins.remove()?;
    api::forget(&socket);
    if let Some(applied) = applied {
        leave_host(&Host::open()?, &applied).await;
    }
    Ok(true)
}

impl Controller {
    /// Takes the data plane off and ends.
    pub(super) async fn detach(self) -> Result<()> {
        self.pins.remove()?;
        leave_host(&self.host, &self.applied).await;
        Ok(())
    }
}

/// Undoes what natgw has done to the host. What is already gone is no failure.
async fn leave_host(host: &Host, applied: &Applied) {
    for &(ifindex, address) in &applied.announced {
        if let Err(error) = host.withdraw(ifindex, address).await {
            tracing::warn!("the Elastic IP {address} stays on its interface: {error}");
        }
    }
    if applied.loopback_enabled
        && let Err(error) = disable_fib_lookup()
    {
        tracing::warn!("{error}");
    }
}
