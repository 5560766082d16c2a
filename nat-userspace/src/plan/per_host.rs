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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Blocks;

    #[test]
    fn what_is_not_limited_is_counted_nowhere() {
        assert_eq!(limits(&PerHost::default()), Limits::default());
        assert_eq!(Limits::default().records(), 0);
    }

    #[test]
    fn a_rate_lets_a_second_of_sessions_come_at_once() {
        let limits = limits(&PerHost { new_sessions_per_second: 4, ..PerHost::default() });
        assert_eq!((limits.interval, limits.burst), (250_000_000, 750_000_000));
        assert_ne!(limits.records(), 0);
    }

    #[test]
    fn a_host_cannot_have_more_sessions_toward_a_remote_than_its_blocks_have_ports() {
        let blocks = Some(Blocks { size: 64, max: 2, deterministic: false });
        let per_remote = |max_ports_per_destination| {
            limits(&PerHost { max_ports_per_destination, blocks, ..PerHost::default() }).sessions_per_remote
        };
        assert_eq!([per_remote(0), per_remote(100), per_remote(200)], [128, 100, 128]);
    }
}
