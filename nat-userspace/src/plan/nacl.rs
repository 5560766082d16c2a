//! NACLs compiled for the data plane: what each list says about every prefix and port, without its rules.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use nat_common::{
    flow::Direction,
    nacl::{Class, NaclList, PortRange, PortRanges, Verdict, list, scope_number, service_of_icmp},
};

use crate::config::{Action, Nacl, Protocol, Rule};

/// All NACLs of a configuration, numbered by their position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledNacls {
    /// `NACLS`, by [`list`].
    pub lists: Vec<NaclList>,
    /// `NACL_PREFIXES`: by the number of [`scope_number`] and the prefix.
    pub prefixes: Vec<(u32, Ipv4Net, PortRanges)>,
    /// `NACL_PORTS`.
    pub ports: Vec<PortRange>,
}

impl CompiledNacls {
    /// Compiles `nacls`, whose rules are sorted by number.
    #[must_use]
    pub fn new(nacls: &[Nacl]) -> Self {
        let mut compiled = Self::default();
        for (number, nacl) in nacls.iter().enumerate() {
            for (direction, rules) in
                [(Direction::Outbound, &nacl.outbound), (Direction::Inbound, &nacl.inbound)]
            {
                let uniform = Class::ALL.map(|class| {
                    let number = scope_number(list(number as u16, direction), class);
                    compiled.add(number, class, rules)
                });
                compiled.lists.push(NaclList { uniform, spare: 0 });
            }
        }
        compiled
    }

    /// Compiles what a list says about a class; its uniform verdict, if it has one.
    fn add(&mut self, scope: u32, class: Class, rules: &[Rule]) -> Verdict {
        let rules: Vec<_> = rules.iter().filter_map(|rule| Spoken::new(rule, class)).collect();
        let everywhere = Ipv4Net::default();
        let prefixes: BTreeSet<Ipv4Net> = rules.iter().map(|rule| rule.cidr).chain([everywhere]).collect();
        let divided: Vec<_> = prefixes.into_iter().map(|prefix| (prefix, divide(&rules, &prefix))).collect();
        if let Some(verdict) = uniform(&divided) {
            return verdict;
        }
        for (prefix, ranges) in divided {
            let ranges_at = PortRanges { first: self.ports.len() as u32, count: ranges.len() as u32 };
            self.prefixes.push((scope, prefix, ranges_at));
            self.ports.extend(ranges);
        }
        Verdict::DEPENDS
    }
}

/// A rule as it speaks about one class of protocol.
struct Spoken {
    cidr: Ipv4Net,
    low: u16,
    high: u16,
    verdict: Verdict,
}

impl Spoken {
    fn new(rule: &Rule, class: Class) -> Option<Self> {
        if rule.protocol != Protocol::All && rule.protocol.number() != Some(class.protocol()) {
            return None;
        }
        let (low, high) = match (rule.ports, &rule.icmp) {
            (Some(ports), _) => ports,
            (None, Some(icmp)) => match icmp.code {
                Some(code) => (service_of_icmp(icmp.kind, code), service_of_icmp(icmp.kind, code)),
                None => (service_of_icmp(icmp.kind, 0), service_of_icmp(icmp.kind, u8::MAX)),
            },
            (None, None) => (0, u16::MAX),
        };
        let verdict = Verdict::new(rule.number, rule.action == Action::Allow);
        Some(Self { cidr: rule.cidr, low, high, verdict })
    }
}

/// Divides all ports into the ranges about which the rules that contain `prefix` say the same. The first rule that
/// claims a port keeps it; what none claims is `*`'s.
fn divide(rules: &[Spoken], prefix: &Ipv4Net) -> Vec<PortRange> {
    let mut unclaimed = vec![(0, u16::MAX)];
    let mut claimed: Vec<(u16, PortRange)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.cidr.contains(prefix)) {
        let mut left = Vec::with_capacity(unclaimed.len() + 1);
        for (low, high) in unclaimed {
            let (from, to) = (low.max(rule.low), high.min(rule.high));
            if from > to {
                left.push((low, high));
                continue;
            }
            claimed.push((from, PortRange { last: to, verdict: rule.verdict }));
            if low < from {
                left.push((low, from - 1));
            }
            if to < high {
                left.push((to + 1, high));
            }
        }
        unclaimed = left;
    }
    claimed
        .extend(unclaimed.into_iter().map(|(low, last)| (low, PortRange { last, verdict: Verdict::LAST })));
    claimed.sort_unstable_by_key(|(low, _)| *low);
    claimed.into_iter().map(|(_, range)| range).collect()
}

/// The verdict of a list that says the same to every address and port.
fn uniform(divided: &[(Ipv4Net, Vec<PortRange>)]) -> Option<Verdict> {
    let mut verdicts = divided.iter().flat_map(|(_, ranges)| ranges).map(|range| range.verdict);
    let first = verdicts.next()?;
    verdicts.all(|verdict| verdict.allows() == first.allows()).then_some(first)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::IcmpMatch;

    /// What the rules say, read one after the other as the documentation of NACLs tells.
    fn first_match(rules: &[Rule], class: Class, address: Ipv4Addr, service: u16) -> (u16, bool) {
        let matching = rules.iter().find(|rule| {
            let protocol = rule.protocol == Protocol::All || rule.protocol.number() == Some(class.protocol());
            let port = rule.ports.is_none_or(|(low, high)| (low..=high).contains(&service));
            let icmp = rule.icmp.as_ref().is_none_or(|icmp| {
                let [kind, code] = service.to_be_bytes();
                icmp.kind == kind && icmp.code.is_none_or(|wanted| wanted == code)
            });
            protocol && rule.cidr.contains(&address) && port && icmp
        });
        matching.map_or((32_767, false), |rule| (rule.number, rule.action == Action::Allow))
    }

    /// What the compiled list says, looked up as the data plane does.
    fn look_up(compiled: &CompiledNacls, class: Class, address: Ipv4Addr, service: u16) -> Verdict {
        let list = list(0, Direction::Inbound);
        let uniform = compiled.lists[list as usize].uniform[class as usize];
        if uniform != Verdict::DEPENDS {
            return uniform;
        }
        let scope = scope_number(list, class);
        let candidates = compiled
            .prefixes
            .iter()
            .filter(|(number, prefix, _)| *number == scope && prefix.contains(&address));
        let (_, _, at) = candidates.max_by_key(|(_, prefix, _)| prefix.prefix_len()).unwrap();
        let ranges = &compiled.ports[at.first as usize..][..at.count as usize];
        ranges.iter().find(|range| service <= range.last).unwrap().verdict
    }

    fn rule(number: u16, action: Action, protocol: Protocol, cidr: &str, ports: Option<(u16, u16)>) -> Rule {
        Rule { number, action, protocol, cidr: cidr.parse().unwrap(), ports, icmp: None }
    }

    fn compile(rules: &[Rule]) -> CompiledNacls {
        CompiledNacls::new(&[Nacl { name: "n".into(), inbound: rules.to_vec(), outbound: Vec::new() }])
    }

    /// A fixed sequence that looks random.
    struct Sequence(u64);

    impl Sequence {
        fn below(&mut self, bound: u32) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as u32) % bound
        }

        fn address(&mut self) -> Ipv4Addr {
            Ipv4Addr::new(10, self.below(2) as u8, self.below(3) as u8, self.below(4) as u8)
        }

        fn rule(&mut self, number: u16) -> Rule {
            let protocols = [Protocol::All, Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
            let protocol = protocols[self.below(4) as usize];
            let length = [0, 8, 15, 16, 23, 24, 30, 32][self.below(8) as usize];
            let cidr = Ipv4Net::new(self.address(), length).unwrap().trunc();
            let action = if self.below(2) == 0 { Action::Allow } else { Action::Deny };
            let (a, b) = (self.below(2_000) as u16, self.below(2_000) as u16);
            let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp) && self.below(3) > 0;
            let icmp = (protocol == Protocol::Icmp && self.below(2) == 0).then(|| IcmpMatch {
                kind: self.below(8) as u8,
                code: (self.below(2) == 0).then(|| self.below(3) as u8),
            });
            Rule { number, action, protocol, cidr, ports: has_ports.then(|| (a.min(b), a.max(b))), icmp }
        }
    }

    #[test]
    fn a_compiled_list_says_what_its_rules_say_one_after_the_other() {
        let mut sequence = Sequence(1);
        for round in 0..200_u16 {
            let rules: Vec<_> = (1..=round % 40).map(|number| sequence.rule(number)).collect();
            let compiled = compile(&rules);
            for _ in 0..200 {
                let (address, service) = (sequence.address(), sequence.below(2_100) as u16);
                for class in Class::ALL {
                    let said = look_up(&compiled, class, address, service);
                    let (number, allow) = first_match(&rules, class, address, service);
                    assert_eq!(said.allows(), allow, "{class:?} {address} {service}: {rules:?}");
                    let list = compiled.lists[list(0, Direction::Inbound) as usize];
                    if list.uniform[class as usize] == Verdict::DEPENDS {
                        assert_eq!(said.rule(), number);
                    }
                }
            }
        }
    }

    #[test]
    fn an_empty_list_denies_everything_without_a_look_up() {
        let compiled = compile(&[]);
        assert_eq!(compiled.lists[1].uniform, [Verdict::LAST; 5]);
        assert!(compiled.prefixes.is_empty());
    }

    #[test]
    fn a_list_that_allows_everything_needs_no_look_up() {
        let compiled = compile(&[rule(100, Action::Allow, Protocol::All, "0.0.0.0/0", None)]);
        assert_eq!(compiled.lists[1].uniform, [Verdict::new(100, true); 5]);
    }

    #[test]
    fn rules_of_one_protocol_cost_the_others_nothing() {
        let compiled = compile(&[
            rule(100, Action::Deny, Protocol::Tcp, "192.0.2.0/24", Some((80, 80))),
            rule(200, Action::Allow, Protocol::All, "0.0.0.0/0", None),
        ]);
        assert_eq!(
            compiled.lists[1].uniform.to_vec(),
            [&[Verdict::DEPENDS][..], &[Verdict::new(200, true); 4]].concat()
        );
    }

    #[test]
    fn the_last_range_of_every_prefix_ends_with_the_last_port() {
        let mut sequence = Sequence(7);
        let rules: Vec<_> = (1..200).map(|number| sequence.rule(number)).collect();
        let compiled = compile(&rules);
        for (_, _, at) in &compiled.prefixes {
            let ranges = &compiled.ports[at.first as usize..][..at.count as usize];
            assert_eq!(ranges.last().unwrap().last, u16::MAX);
            assert!(ranges.is_sorted_by(|earlier, later| earlier.last < later.last));
        }
    }
}
