//! NACLs: their numbered rules and what each may combine.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use toml::Spanned;

use super::Lower;
use crate::config::scalar::Scalar;
use crate::config::{IcmpMatch, Nacl, Protocol, Rule, raw};

const RULE_NUMBERS: RangeInclusive<i64> = 1..=32_766;

impl Lower<'_> {
    pub(super) fn nacl(&mut self, raw: &raw::Nacl) -> Nacl {
        let name = raw.name.get_ref();
        self.name(&format!("nacl {name}"), &raw.name);
        Nacl {
            name: name.clone(),
            inbound: self.rules(&format!("nacl {name}, inbound"), &raw.inbound),
            outbound: self.rules(&format!("nacl {name}, outbound"), &raw.outbound),
        }
    }

    fn rules(&mut self, list: &str, raw: &[Spanned<raw::Rule>]) -> Vec<Rule> {
        let mut seen = HashSet::new();
        let mut rules = Vec::with_capacity(raw.len());
        for rule in raw.iter().map(Spanned::get_ref) {
            let number = *rule.rule.get_ref();
            let object = format!("{list} rule {number}");
            if !RULE_NUMBERS.contains(&number) {
                self.report.add(rule.rule.span(), &object, "rule number is out of range", "write 1 to 32766");
            } else if !seen.insert(number) {
                self.report.add(
                    rule.rule.span(),
                    &object,
                    "rule number is used twice",
                    "give each rule its own",
                );
            }
            rules.extend(self.rule(&object, rule));
        }
        rules.sort_by_key(|rule| rule.number);
        rules
    }

    fn rule(&mut self, object: &str, raw: &raw::Rule) -> Option<Rule> {
        let cidr = self.any_network(object, &raw.cidr);
        let protocol = self.protocol(object, &raw.protocol)?;
        let ports = raw.ports.as_ref().and_then(|ports| self.rule_ports(object, protocol, ports));
        let icmp = self.icmp(object, protocol, raw);
        Some(Rule {
            number: u16::try_from(*raw.rule.get_ref()).ok()?,
            action: raw.action,
            protocol,
            cidr: cidr?.trunc(),
            ports,
            icmp,
        })
    }

    fn protocol(&mut self, object: &str, raw: &Spanned<Scalar>) -> Option<Protocol> {
        raw.get_ref()
            .protocol()
            .inspect_err(|(message, remedy)| self.report.add(raw.span(), object, message, remedy))
            .ok()
    }

    fn rule_ports(
        &mut self,
        object: &str,
        protocol: Protocol,
        ports: &Spanned<Scalar>,
    ) -> Option<(u16, u16)> {
        if protocol.has_ports() {
            return Some(self.ports(object, ports));
        }
        let message = format!("ports make no sense with protocol {protocol}");
        self.report.add(
            ports.span(),
            object,
            message,
            "write protocol \"tcp\" or \"udp\", or leave ports out",
        );
        None
    }

    fn icmp(&mut self, object: &str, protocol: Protocol, raw: &raw::Rule) -> Option<IcmpMatch> {
        let field = raw.icmp_type.as_ref().or(raw.icmp_code.as_ref())?;
        if protocol != Protocol::Icmp {
            let message = format!("icmp_type and icmp_code make no sense with protocol {protocol}");
            self.report.add(field.span(), object, message, "write protocol \"icmp\", or leave them out");
            return None;
        }
        let Some(kind) = &raw.icmp_type else {
            self.report.add(field.span(), object, "icmp_code stands without icmp_type", "add icmp_type");
            return None;
        };
        let kind = self.byte(object, "icmp_type", kind)?;
        let code = raw.icmp_code.as_ref().and_then(|code| self.byte(object, "icmp_code", code));
        Some(IcmpMatch { kind, code })
    }

    fn byte(&mut self, object: &str, field: &str, number: &Spanned<i64>) -> Option<u8> {
        let byte = u8::try_from(*number.get_ref()).ok();
        if byte.is_none() {
            let message = format!("{field} {} is out of range", number.get_ref());
            self.report.add(number.span(), object, message, "write 0 to 255");
        }
        byte
    }
}
