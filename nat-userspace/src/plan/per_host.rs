//! What NAT gateways let one internal host take, as `LIMITS` holds it.

use nat_common::{host::Limits, pool::Gateway};

use super::Plan;
use crate::config::{Config, PerHost};

impl Plan {
    /// The limits of the NAT gateways added by now.
    pub(super) fn add_limits(&mut self, config: &Config) {
        for (gateway, configured) in self.gateways.iter_mut().zip(&config.nat_gateways) {
            if configured.per_host.is_limited() {
                gateway.flags |= Gateway::LIMITED;
            }
            self.limits.push(limits(&configured.per_host));
        }
    }

    /// Whether any NAT gateway has sessions counted by host.
    #[must_use]
    pub fn counts_hosts(&self) -> bool {
        self.limits.iter().any(|limits| limits.records() != 0)
    }
}

fn limits(per_host: &PerHost) -> Limits {
    let (interval, burst) = Limits::rate(per_host.new_sessions_per_second);
    Limits {
        sessions: per_host.max_sessions,
        sessions_per_remote: per_host.max_ports_per_destination,
        interval,
        burst,
    }
}
