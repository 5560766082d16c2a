//! `APPLIED`: the configuration in force, as JSON, so that readers need no controller to know names.

use nat_common::config::{APPLIED_PAGE, APPLIED_PAGES};
use serde::{Deserialize, Serialize};

use super::{DatapathError, Maps, maps::Page};
use crate::{
    config::Config,
    plan::{SameQueue, SharedAddress},
};

const NAME: &str = "APPLIED";

/// What is in force, and who keeps it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The controller's process.
    pub pid: u32,
    /// The configuration.
    pub config: Config,
    /// The interfaces and how they are attached.
    pub interfaces: Vec<AppliedInterface>,
    /// Elastic IPs that natgw has added to interfaces: interface index and address.
    pub announced: Vec<(u32, std::net::Ipv4Addr)>,
    /// Elastic IPs that are the host's own addresses too, and the ports lent of them.
    #[serde(default)]
    pub shared: Vec<SharedAddress>,
    /// Whether natgw has switched route look-ups on behalf of the loopback device on.
    pub loopback_enabled: bool,
}

/// An interface with a part in the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedInterface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The device the program is attached to: for a VLAN its parent, else the interface itself.
    pub device: String,
    /// `internal`, `external` or both.
    pub roles: Vec<String>,
    /// `xdp-native`, `xdp-generic` or `tc`.
    pub mode: String,
    /// Why this mode.
    pub why: String,
    /// Whether answers come in on the queue of their session's packets; `None` if nobody asks for it, or not here.
    #[serde(default)]
    pub same_queue: Option<SameQueue>,
}

impl Maps {
    /// What is in force; `None` before the first configuration.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses, [`DatapathError::Map`] if the content cannot be read.
    pub fn applied(&self) -> Result<Option<Applied>, DatapathError> {
        let first = self.applied.get(&0, 0).map_err(DatapathError::access("read", NAME))?;
        let mut length = [0; 4];
        length.copy_from_slice(&first.0[..4]);
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = first.0[4..].to_vec();
        for page in 1..(length + 4).div_ceil(APPLIED_PAGE).min(APPLIED_PAGES as usize) {
            let page = self.applied.get(&(page as u32), 0).map_err(DatapathError::access("read", NAME))?;
            bytes.extend_from_slice(&page.0);
        }
        bytes.truncate(length);
        let problem = |error: serde_json::Error| DatapathError::Map {
            name: NAME,
            problem: format!("cannot be read: {error}"),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(problem)
    }

    /// Records what is in force.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses, [`DatapathError::Map`] if it does not fit.
    pub fn set_applied(&mut self, applied: &Applied) -> Result<(), DatapathError> {
        let problem = |problem: String| DatapathError::Map { name: NAME, problem };
        let json = serde_json::to_vec(applied).map_err(|error| problem(error.to_string()))?;
        let bytes = [&(json.len() as u32).to_le_bytes()[..], &json].concat();
        if bytes.len() > APPLIED_PAGE * APPLIED_PAGES as usize {
            return Err(problem("is too small for this configuration".into()));
        }
        // The first page carries the length and is written last: a reader never sees a length without its content.
        for (number, chunk) in bytes.chunks(APPLIED_PAGE).enumerate().rev() {
            let mut page = Page([0; APPLIED_PAGE]);
            page.0[..chunk.len()].copy_from_slice(chunk);
            self.applied.set(number as u32, page, 0).map_err(DatapathError::access("write", NAME))?;
        }
        Ok(())
    }
}
