//! When packets are translated in bursts: by the number of sessions, unless the configuration says it.

use std::collections::BTreeMap;

use nat_common::flow::FlowEntry4;

use super::Controller;
use crate::{
    config,
    datapath::{BurstState, DatapathError, Hook},
    host::{HostFacts, cache_bytes},
    plan,
};

/// What bursts depend on, as last seen.
#[derive(Default)]
pub(super) struct Bursts {
    /// What may be sent ahead.
    plan: plan::Bursts,
    /// All devices by index and name.
    devices: BTreeMap<u32, String>,
    /// Why there can be none, if so.
    unable: Option<&'static str>,
    /// Bytes of a processor's own cache.
    cache: u64,
    /// Why they are left alone until the next configuration: they have failed, or nobody knows what may be sent ahead.
    failed: Option<String>,
    /// Whether they have been on until now, and merely pause for a change.
    pausing: bool,
}

/// Why there are no bursts on a host that the configuration does not fit any more.
const UNKNOWN: &str = "the host has changed, and the configuration does not fit it";

/// Sessions from which on, and below which no longer, a processor's cache is too small for the flows of one direction.
fn limits(cache: u64) -> (u64, u64) {
    let first = cache / size_of::<FlowEntry4>() as u64;
    (first, first / 2)
}

/// Whether packets of a gateway so configured may ever be translated in bursts, on a host with these `facts`.
pub(super) fn are_possible(config: &config::Config, facts: &HostFacts) -> bool {
    let is_physical = |name: &str| {
        let interface = facts.interface(name);
        let device = interface.and_then(|found| facts.interface_at(found.parent.unwrap_or(found.index)));
        device.is_some_and(|device| device.driver_kind.is_none())
    };
    match config.mode {
        config::Mode::Xdp => true,
        config::Mode::Auto => config.subnets.iter().all(|subnet| is_physical(&subnet.interface)),
        config::Mode::XdpGeneric | config::Mode::Tc => false,
    }
}

impl Bursts {
    /// Whether packets are to be translated in bursts, while there are so many sessions; and why.
    fn judge(&self, wish: config::Bursts, on: bool, sessions: u64) -> BurstState {
        let off = |why: String| BurstState { on: false, why };
        if let Some(why) = &self.failed {
            return off(why.clone());
        }
        if let Some(why) = self.unable {
            return off(why.to_owned());
        }
        if self.plan.leads.is_empty() {
            return off(self.plan.why_not.join("; "));
        }
        let (first, last) = limits(self.cache);
        let kib = self.cache / 1_024;
        let (on, mut why) = match wish {
            config::Bursts::Never => return off("asked for by bursts = \"never\"".to_owned()),
            config::Bursts::Always => (true, "asked for by bursts = \"always\"".to_owned()),
            config::Bursts::Auto if sessions >= if on { last } else { first } => {
                (true, format!("a processor's cache of {kib} KiB holds fewer sessions"))
            }
            config::Bursts::Auto => {
                return off(format!("a processor's cache of {kib} KiB holds the sessions; from {first} on"));
            }
        };
        self.plan.why_not.iter().for_each(|not| why.push_str(&format!("; {not}")));
        BurstState { on, why }
    }
}

impl Controller {
    /// Notes what the configuration in force allows.
    pub(super) fn plan_bursts(&mut self, facts: &HostFacts) {
        let in_driver = |mode: &str| Hook::from_name(mode) == Some(Hook::XdpNative);
        let devices = self.plan.devices.iter().filter_map(|index| facts.interface_at(*index));
        self.bursts = Bursts {
            plan: self.plan.bursts(facts),
            devices: devices.map(|device| (device.index, device.name.clone())).collect(),
            unable: match self.applied.interfaces.iter().all(|interface| in_driver(&interface.mode)) {
                true => self.datapath.without_bursts(),
                false => Some("only XDP in the driver translates in bursts"),
            },
            cache: cache_bytes(),
            failed: None,
            pausing: self.bursts.pausing || self.applied.bursts.on,
        };
        if self.applied.bursts.on {
            // The controller before has left them on, and the programs were replaced since.
            tell(self.datapath.settle_bursts(&self.bursts.devices));
            self.applied.bursts.on = false;
        }
    }

    /// The same where the host has changed, and the configuration has not.
    pub(super) fn plan_bursts_again(&mut self, facts: &HostFacts) {
        if !self.applied.bursts.on {
            let failed = self.bursts.failed.take().filter(|why| why != UNKNOWN);
            self.plan_bursts(facts);
            self.bursts.failed = failed;
        }
    }

    /// Ends bursts because the host has changed, until it is known again what may be sent ahead.
    pub(super) fn suspend_bursts(&mut self) {
        self.end_bursts();
        self.bursts.failed = Some(UNKNOWN.to_owned());
    }

    /// Whether what may be sent ahead is something else by now.
    pub(super) fn bursts_change(&self, plan: &plan::Plan, facts: &HostFacts) -> bool {
        self.applied.bursts.on && self.bursts.plan != plan.bursts(facts)
    }

    /// Begins or ends bursts, as the sessions have become many or few.
    pub(super) fn keep_bursts(&mut self) {
        let Ok(sessions) = self.datapath.maps.session_count() else { return };
        let before = self.applied.bursts.clone();
        let on = before.on || self.bursts.pausing;
        let mut state = self.bursts.judge(self.config.bursts, on, sessions);
        self.bursts.pausing = false;
        if state.on
            && !before.on
            && let Err(error) =
                self.datapath.begin_bursts(&self.pins, &self.bursts.devices, &self.bursts.plan)
        {
            tracing::warn!("packets are translated one by one: {error}");
            let failed = BurstState { on: false, why: format!("they have failed: {error}") };
            self.bursts.failed = Some(failed.why.clone());
            state = failed;
            // As far as they had begun.
            self.leave_bursts();
        } else if before.on && !state.on {
            self.leave_bursts();
        }
        if state != before {
            self.applied.bursts = state;
            if let Err(error) = self.datapath.maps.set_applied(&self.applied) {
                tracing::debug!("{error}");
            }
        }
    }

    /// Goes back to translating packets one by one, before anything that bursts depend on changes.
    pub(super) fn end_bursts(&mut self) {
        if self.applied.bursts.on && !self.bursts.devices.is_empty() {
            self.leave_bursts();
            self.applied.bursts.on = false;
            self.bursts.pausing = true;
        }
    }

    /// The same where no controller follows: it would have to send what cannot leave where everything else does.
    pub(super) fn end_bursts_with_controller(&mut self) {
        if self.applied.bursts.on {
            self.end_bursts();
            self.applied.bursts.why = "no controller keeps them".to_owned();
            tell(self.datapath.maps.set_applied(&self.applied));
        }
    }

    fn leave_bursts(&mut self) {
        tell(self.datapath.end_bursts(&self.pins, &self.bursts.devices));
    }
}

/// Packets go on all the same.
fn tell(result: Result<(), DatapathError>) {
    if let Err(error) = result {
        tracing::warn!("the way back from bursts is not complete: {error}");
    }
}

#[cfg(test)]
mod tests;
