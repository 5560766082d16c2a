//! `nacl list`: the rules of every NACL, in the order they are asked.

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::config::{Action, Config, Nacl, Protocol, Rule};

/// The number of the rule that ends every list and denies everything; AWS writes it `*`.
pub const LAST_RULE: u16 = 32_767;

/// One rule of a NACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleReport<'a> {
    /// The NACL.
    pub nacl: &'a str,
    /// Which of its two lists.
    pub direction: NaclDirection,
    /// The rule's number; [`LAST_RULE`] for the implicit last one.
    pub rule: u16,
    /// What happens to packets that match.
    pub action: Action,
    /// The protocol that matches, `all` or a number where it has no name.
    pub protocol: Protocol,
    /// Source of inbound or destination of outbound packets.
    pub cidr: Ipv4Net,
    /// Destination ports or ICMP messages that match: `443`, `1024-65535`, `type 3 code 4` or `all`.
    pub ports: String,
}

/// A list of a NACL, as the subnet sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NaclDirection {
    /// Packets that enter the subnet.
    Inbound,
    /// Packets that leave the subnet.
    Outbound,
}

impl NaclDirection {
    /// The written form, the same in JSON and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Reports on every rule of `config`'s NACLs, the last, implicit one of each list included.
#[must_use]
pub fn rules(config: &Config) -> Vec<RuleReport<'_>> {
    config.nacls.iter().flat_map(of_nacl).collect()
}

fn of_nacl(nacl: &Nacl) -> impl Iterator<Item = RuleReport<'_>> {
    let lists = [(NaclDirection::Inbound, &nacl.inbound), (NaclDirection::Outbound, &nacl.outbound)];
    lists.into_iter().flat_map(move |(direction, rules)| {
        let rules = rules.iter().map(move |rule| of_rule(&nacl.name, direction, rule));
        rules.chain([of_rule(&nacl.name, direction, &DENY_ALL)])
    })
}

fn of_rule<'a>(nacl: &'a str, direction: NaclDirection, rule: &Rule) -> RuleReport<'a> {
    RuleReport {
        nacl,
        direction,
        rule: rule.number,
        action: rule.action,
        protocol: rule.protocol,
        cidr: rule.cidr,
        ports: rule.service(),
    }
}

const DENY_ALL: Rule = Rule {
    number: LAST_RULE,
    action: Action::Deny,
    protocol: Protocol::All,
    cidr: Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0),
    ports: None,
    icmp: None,
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::applied;

    #[test]
    fn a_rule_is_reported_with_the_documented_fields() {
        let config = applied().config;
        let reports = rules(&config);
        let first = reports.iter().find(|rule| rule.nacl == "public").unwrap();
        assert_eq!(
            serde_json::to_value(first).unwrap(),
            json!({ "nacl": "public", "direction": "inbound", "rule": 100, "action": "allow", "protocol": "tcp",
                    "cidr": "0.0.0.0/0", "ports": "1024-65535" })
        );
    }

    #[test]
    fn every_list_ends_with_the_rule_that_denies_all() {
        let config = applied().config;
        for nacl in &config.nacls {
            for direction in [NaclDirection::Inbound, NaclDirection::Outbound] {
                let reports = rules(&config);
                let last = reports
                    .iter()
                    .rfind(|rule| rule.nacl == nacl.name && rule.direction == direction)
                    .unwrap();
                assert_eq!((last.rule, last.action), (32_767, Action::Deny));
                assert_eq!(
                    (last.protocol, last.cidr.prefix_len(), last.ports.as_str()),
                    (Protocol::All, 0, "all")
                );
            }
        }
    }

    #[test]
    fn icmp_rules_name_their_messages_in_place_of_ports() {
        let config = applied().config;
        let ports: Vec<_> = rules(&config)
            .into_iter()
            .filter(|rule| rule.protocol == Protocol::Icmp)
            .map(|rule| rule.ports)
            .collect();
        assert_eq!(ports, ["type 0 code 0", "type 3", "type 11"]);
    }
}
