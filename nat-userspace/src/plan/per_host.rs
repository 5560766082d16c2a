//! What NAT gateways let one private host take, as `LIMITS` holds it.

use nat_common::{host::Limits, pool::Gateway};

use super::Plan;
use crate::config::{Config, PerHost};

impl Plan {
    /// The limits of the NAT gateways added by now.
    pub(super) fn add_limits(&mut self, config: &Config) {
        for (gateway, configured) in self.gateways.iter_mut().zip(&config.nat_gateways) {
            let limits = limits(&configured.per_host);
            if limits.records() != 0 {
                gateway.flags |= Gateway::LIMITED;
            }
            self.limits.push(limits);
        }
    }

    /// Whether any NAT gateway has sessions counted by host.
    #[must_use]
    pub fn counts_hosts(&self) -> bool {
        self.limits.iter().any(|limits| limits.records() != 0)
    }
}

fn limits(per_host: &PerHost) -> Limits {
    // With all ports of its blocks taken toward a remote there is none to be found, and none is looked for.
    let ports = per_host.blocks.map_or(u32::MAX, |blocks| u32::from(blocks.size) * u32::from(blocks.max));
    let per_remote = match per_host.max_ports_per_destination {
        0 if per_host.blocks.is_none() => 0,
        0 => ports,
        limit => limit.min(ports),
    };
    let (interval, burst) = Limits::rate(per_host.new_sessions_per_second);
    Limits { sessions: per_host.max_sessions, sessions_per_remote: per_remote, interval, burst }
}
