//! `APPLIED`: the configuration in force, as JSON, so that readers need no controller to know names.

use std::net::Ipv4Addr;

use nat_common::config::{APPLIED_PAGE, APPLIED_PAGES};
use serde::{Deserialize, Serialize};

use super::{DatapathError, Maps, maps::Page};
use crate::{
    config::Config,
    plan::{Draining, SameQueue, SharedAddress},
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
    pub announced: Vec<(u32, Ipv4Addr)>,
    /// Whether packets are translated in bursts.
    #[serde(default)]
    pub bursts: BurstState,
    /// Elastic IPs that are the host's own addresses too, and the ports lent of them.
    #[serde(default)]
    pub shared: Vec<SharedAddress>,
    /// Elastic IPs that keep their sessions and take no new ones.
    #[serde(default)]
    pub draining: Vec<Draining>,
    /// What was changed while the gateway ran, since the configuration was last read.
    #[serde(default)]
    pub changes: LiveChanges,
    /// Whether natgw has switched route look-ups on behalf of the loopback device on.
    pub loopback_enabled: bool,
}

/// Whether packets are translated in bursts, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurstState {
    /// Whether they are.
    pub on: bool,
    /// The reason, and what is left out.
    pub why: String,
}

/// Elastic IPs by which the configuration in force differs from the one that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChanges {
    /// Added by `natgw eip add`.
    pub added: Vec<Ipv4Addr>,
    /// Removed by `natgw eip remove`.
    pub removed: Vec<Ipv4Addr>,
}

impl LiveChanges {
    /// Notes that `address` was added.
    pub fn add(&mut self, address: Ipv4Addr) {
        note(address, &mut self.added, &mut self.removed);
    }

    /// Notes that `address` was removed.
    pub fn remove(&mut self, address: Ipv4Addr) {
        note(address, &mut self.removed, &mut self.added);
    }
}

/// What undoes an earlier change is none.
fn note(address: Ipv4Addr, changes: &mut Vec<Ipv4Addr>, opposite: &mut Vec<Ipv4Addr>) {
    if opposite.contains(&address) {
        opposite.retain(|known| *known != address);
    } else if !changes.contains(&address) {
        changes.push(address);
    }
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

impl Applied {
    /// The state before a controller with process id `pid` has done anything for `config`.
    #[must_use]
    pub fn new(pid: u32, config: Config) -> Self {
        Self {
            pid,
            config,
            interfaces: Vec::new(),
            announced: Vec::new(),
            bursts: BurstState::default(),
            shared: Vec::new(),
            draining: Vec::new(),
            changes: LiveChanges::default(),
            loopback_enabled: false,
        }
    }

    /// Every Elastic IP that sessions may have: in use, or draining.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.config.addresses().chain(self.draining.iter().map(Draining::address))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn state_of_a_version_without_draining_is_read_as_nothing_drains() {
        let applied = sample::applied();
        let mut json = serde_json::to_value(&applied).unwrap();
        let fields = json.as_object_mut().unwrap();
        assert!(fields.remove("draining").is_some() && fields.remove("changes").is_some());
        assert!(fields["config"].as_object_mut().unwrap().remove("drain").is_some());
        assert_eq!(serde_json::from_value::<Applied>(json).unwrap(), applied);
    }

    #[test]
    fn a_change_and_its_opposite_are_none() {
        let (one, two) = (Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(203, 0, 113, 11));
        let mut changes = LiveChanges::default();
        changes.remove(one);
        changes.add(two);
        changes.add(two);
        assert_eq!(changes, LiveChanges { added: vec![two], removed: vec![one] });
        changes.add(one);
        changes.remove(two);
        assert_eq!(changes, LiveChanges::default());
    }
}
