//! NACLs that cannot do what they seem to: replies that never pass, rules that are never reached or never asked.

use ipnet::Ipv4Net;

use super::{Config, DEFAULT_NACL, Warning};
use crate::config::{Action, Nacl, Protocol, Rule};

/// What natgw translates; packets of other protocols never reach a NACL.
const TRANSLATED: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

pub(super) fn of(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for nacl in &config.nacls {
        let object = format!("nacl {}", nacl.name);
        if config.subnets.iter().any(|subnet| subnet.nacl == nacl.name) {
            warnings.extend(one_way(&object, nacl));
            warnings.extend(never_asked(config, &object, nacl));
        } else if nacl.name != DEFAULT_NACL {
            warnings.push(Warning::new(&object, "no subnet uses it", "name it as a subnet's nacl"));
        }
        for (direction, rules) in [("inbound", &nacl.inbound), ("outbound", &nacl.outbound)] {
            warnings.extend(rules.iter().enumerate().filter_map(|(index, rule)| {
                let object = format!("{object}, {direction} rule {}", rule.number);
                without_effect(&object, rule).or_else(|| shadowed(&object, rule, &rules[..index]))
            }));
        }
    }
    warnings
}

/// NACLs are stateless: what one list lets through, the other must let back.
fn one_way(object: &str, nacl: &Nacl) -> Vec<Warning> {
    let passes = |rules: &[Rule], protocol: Protocol| {
        rules.iter().any(|rule| rule.action == Action::Allow && is_about(rule, protocol))
    };
    let names = |from: &[Rule], back: &[Rule]| {
        let lost = TRANSLATED.iter().filter(|protocol| passes(from, **protocol) && !passes(back, **protocol));
        lost.map(Protocol::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut warnings = Vec::new();
    let lost = names(&nacl.outbound, &nacl.inbound);
    if !lost.is_empty() {
        let message = format!("lets {lost} out but no reply in");
        let remedy = "NACLs are stateless: allow the replies inbound (TCP and UDP come to ports 1024-65535)";
        warnings.push(Warning::new(object, message, remedy));
    }
    let lost = names(&nacl.inbound, &nacl.outbound);
    if !lost.is_empty() {
        let message = format!("lets {lost} in but nothing out");
        warnings.push(Warning::new(object, message, "NACLs are stateless: allow it outbound too"));
    }
    warnings
}

fn is_about(rule: &Rule, protocol: Protocol) -> bool {
    rule.protocol == Protocol::All || rule.protocol == protocol
}

/// A NAT gateway's subnet is asked about the outside only, unless `nacl_both_sides` says otherwise.
fn never_asked(config: &Config, object: &str, nacl: &Nacl) -> Vec<Warning> {
    let users = || config.subnets.iter().filter(|subnet| subnet.nacl == nacl.name);
    let asked_inside = users().any(|subnet| {
        let mut gateways = config.nat_gateways.iter().filter(|gateway| gateway.subnet == subnet.name);
        subnet.is_private() || gateways.any(|gateway| gateway.nacl_both_sides)
    });
    if asked_inside {
        return Vec::new();
    }
    let lists = [("inbound", &nacl.inbound), ("outbound", &nacl.outbound)];
    let rules =
        lists.into_iter().flat_map(|(direction, rules)| rules.iter().map(move |rule| (direction, rule)));
    let internal = rules.filter(|(_, rule)| config.vpcs.iter().any(|vpc| vpc.contains(&rule.cidr)));
    internal
        .map(|(direction, rule)| {
            let message = format!("names private addresses {}, which are not asked about here", rule.cidr);
            let remedy =
                "move it to the private subnet's nacl, or set nacl_both_sides = true on the nat gateway";
            Warning::new(format!("{object}, {direction} rule {}", rule.number), message, remedy)
        })
        .collect()
}

fn without_effect(object: &str, rule: &Rule) -> Option<Warning> {
    let effective = rule.protocol == Protocol::All || TRANSLATED.contains(&rule.protocol);
    (!effective).then(|| {
        let message = format!("protocol {} is never translated, so the rule has no effect", rule.protocol);
        Warning::new(object, message, "remove it; only TCP, UDP and ICMP pass")
    })
}

fn shadowed(object: &str, rule: &Rule, earlier: &[Rule]) -> Option<Warning> {
    let first = earlier.iter().find(|earlier| covers(earlier, rule))?;
    let message = format!("is never reached: rule {} matches all of it first", first.number);
    Some(Warning::new(object, message, format!("give it a number below {}, or remove it", first.number)))
}

/// Whether every packet that `rule` matches is matched by `earlier`.
fn covers(earlier: &Rule, rule: &Rule) -> bool {
    let protocol = earlier.protocol == Protocol::All || earlier.protocol == rule.protocol;
    let ports = earlier
        .ports
        .is_none_or(|(first, last)| rule.ports.is_some_and(|(low, high)| first <= low && high <= last));
    let icmp = earlier.icmp.is_none_or(|wide| {
        rule.icmp.is_some_and(|narrow| {
            wide.kind == narrow.kind && wide.code.is_none_or(|code| narrow.code == Some(code))
        })
    });
    Ipv4Net::contains(&earlier.cidr, &rule.cidr) && protocol && ports && icmp
}
