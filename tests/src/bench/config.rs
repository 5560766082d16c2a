//! natgw's configuration under comparison: one NAT gateway, and NACLs of a hundred rules on both sides, the last of
//! which matches.

use std::fmt::Write;

use crate::bench::topology::{EXTERNAL, INTERNAL};
use crate::lab::ELASTIC_IP;

const RULES: u16 = 100;

/// The configuration file for a mode and a number of sessions.
#[must_use]
pub fn text(mode: &str, max_sessions: u32) -> String {
    let max_sessions = max_sessions.max(1_024);
    let rules = rules();
    format!(
        r#"
[gateway]
mode = "{mode}"
max_sessions = {max_sessions}

[[vpc]]
name = "bench"
cidr = ["10.0.0.0/16"]

[[subnet]]
name = "private"
vpc = "bench"
cidr = "10.0.1.0/24"
interface = "{INTERNAL}"
route_table = "private"
nacl = "rules"

[[subnet]]
name = "public"
vpc = "bench"
cidr = "198.51.100.0/24"
interface = "{EXTERNAL}"
nacl = "rules"

[[elastic_ip]]
address = "{ELASTIC_IP}"
arp = "routed"

[[nat_gateway]]
name = "nat"
subnet = "public"
elastic_ips = ["{ELASTIC_IP}"]

[[route_table]]
name = "private"
routes = [{{ destination = "0.0.0.0/0", target = "nat" }}]

[[nacl]]
name = "rules"
inbound = [{rules}]
outbound = [{rules}]
"#
    )
}

fn rules() -> String {
    let mut rules = String::new();
    for number in 1..RULES {
        // Writing to a string cannot fail.
        let _ = write!(
            rules,
            r#"{{ rule = {number}, action = "deny", protocol = "tcp", cidr = "100.64.{number}.0/24" }}, "#
        );
    }
    rules + &format!(r#"{{ rule = {RULES}, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }}"#)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nat_userspace::config::Config;

    use super::*;

    #[test]
    fn natgw_accepts_the_configuration_with_a_hundred_rules_and_a_million_sessions() {
        let config = Config::from_toml(&text("xdp", 1_200_000), Path::new("bench.toml")).unwrap();
        assert_eq!(config.max_sessions, 1_200_000);
        assert!(config.nacls.iter().any(|nacl| nacl.inbound.len() == 100 && nacl.outbound.len() == 100));
    }
}
