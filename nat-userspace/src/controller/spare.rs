//! The ports that the host's own sockets hold, read again and again: sockets come and go, and nothing tells.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Controller, facts_for};
use crate::{
    config::Config,
    host::{BoundPort, HostFacts, HostPorts},
};

/// How often the host's sockets are read while natgw lends ports of an address of the host itself.
pub(super) const REREAD: Duration = Duration::from_secs(5);
/// For how long a port is spared after its socket was last seen: programs restart, and each change of the ports lent has
/// all flows judged anew.
const KEPT: Duration = Duration::from_secs(120);

/// The ports of sockets, with those that went lately.
#[derive(Default)]
pub(super) struct Spared(BTreeMap<BoundPort, Instant>);

impl Spared {
    /// Adds to what was `read` at `now` the ports of sockets that were seen lately. Clients in the ephemeral range come
    /// and go too fast, and are spared with it or not at all.
    pub(super) fn remember(&mut self, read: &mut HostPorts, now: Instant) {
        let lasting =
            read.bound.iter().filter(|bound| !bound.connected || !read.ephemeral.contains(bound.port));
        self.0.extend(lasting.map(|bound| (*bound, now)));
        self.0.retain(|_, seen| now.duration_since(*seen) < KEPT);
        read.bound = self.0.keys().copied().collect();
    }
}

impl Controller {
    /// The facts that `config` depends on, ports of sockets that went lately among them.
    pub(super) async fn facts_for(&mut self, config: &Config) -> Result<HostFacts> {
        let mut facts = facts_for(&self.host, config).await?;
        if let Some(ports) = &mut facts.ports {
            self.spared.remember(ports, Instant::now());
        }
        Ok(facts)
    }

    /// Follows the host's sockets, where natgw lends ports of an address of the host itself.
    pub(super) async fn follow_sockets(&mut self) {
        if self.plan.shared.is_empty() {
            return;
        }
        let followed = match HostPorts::read() {
            Ok(mut ports) => {
                self.spared.remember(&mut ports, Instant::now());
                if self.host_ports.as_ref() == Some(&ports) {
                    return;
                }
                // What cannot be followed is told once.
                self.host_ports = Some(ports);
                self.follow_host(false).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = followed {
            tracing::warn!("the host's own ports cannot be spared: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(port: u16) -> HostPorts {
        let bound = BoundPort { address: None, port, connected: false };
        HostPorts { bound: vec![bound], ..HostPorts::default() }
    }

    fn ports(spared: &mut Spared, mut read: HostPorts, now: Instant) -> Vec<u16> {
        spared.remember(&mut read, now);
        read.bound.iter().map(|bound| bound.port).collect()
    }

    #[test]
    fn a_port_is_spared_at_once_and_lent_again_only_a_while_after_its_socket_went() {
        let (mut spared, start) = (Spared::default(), Instant::now());
        assert_eq!(ports(&mut spared, read(80), start), [80]);
        assert_eq!(ports(&mut spared, read(90), start + REREAD), [80, 90]);
        assert_eq!(ports(&mut spared, read(90), start + KEPT), [90]);
    }
}
