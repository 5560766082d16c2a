//! The ports that the host's own sockets hold, read again and again: sockets come and go, and nothing tells.

use std::{collections::BTreeMap, time::{Duration, Instant}};

use crate::host::{BoundPort, HostPorts};

/// How often the host's sockets are read while natgw lends ports of an address of the host itself.
pub(super) const REREAD: Duration = Duration::from_secs(5);
/// For how long a port is spared after its socket was last seen: programs restart, and each change of the ports lent has
/// all flows judged anew.
const KEPT: Duration = Duration::from_secs(120);

/// The ports of sockets, with those that went lately.
#[derive(Default)]
pub(super) struct Spared(BTreeMap<BoundPort, Instant>);

impl Spared {
    /// Adds to what was `read` at `now` the ports of sockets that were seen lately.
    pub(super) fn remember(&mut self, read: &mut HostPorts, now: Instant) {
        self.0.extend(read.bound.iter().map(|bound| (*bound, now)));
        self.0.retain(|_, seen| now.duration_since(*seen) < KEPT);
        read.bound = self.0.keys().copied().collect();
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
