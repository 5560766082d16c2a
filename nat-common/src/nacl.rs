//! NACLs: numbered, stateless rules; the lowest number that matches decides, and nothing matching denies.

use bytemuck::{Pod, Zeroable};

use crate::protocol;

/// Network ACLs one configuration can hold.
pub const MAX_NACLS: u32 = 256;
/// Rules one configuration can hold, over all its NACLs and both directions.
pub const MAX_RULES: u32 = 16_384;
/// Rules one list (a NACL's inbound or outbound) can hold.
pub const MAX_RULES_PER_LIST: u32 = 1_024;

/// [`NaclRule::protocol`] that matches every protocol.
pub const ANY_PROTOCOL: u8 = 255;

/// Where one list's rules stand in `NACL_RULES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NaclList {
    /// Index of the first rule.
    pub first: u32,
    /// How many rules.
    pub count: u32,
}

/// One rule of a list; lists are sorted by rule number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NaclRule {
    /// The network the far side must lie in, network order, host bits zero.
    pub network: u32,
    /// Its mask, network order.
    pub mask: u32,
    /// Lowest [`Question::service`] that matches.
    pub low: u16,
    /// Highest [`Question::service`] that matches.
    pub high: u16,
    /// 1–32766.
    pub number: u16,
    /// IP protocol, or [`ANY_PROTOCOL`].
    pub protocol: u8,
    /// 1 allows, 0 denies.
    pub allow: u8,
}

/// What a list is asked about a packet.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Source of an inbound packet or destination of an outbound one, network order.
    pub address: u32,
    /// Destination port, host order; for ICMP, [`service_of_icmp`].
    pub service: u16,
    /// IP protocol.
    pub protocol: u8,
}

/// The value that stands for an ICMP type and code where TCP and UDP have a port.
#[inline(always)]
#[must_use]
pub const fn service_of_icmp(kind: u8, code: u8) -> u16 {
    (kind as u16) << 8 | code as u16
}

impl NaclRule {
    /// Whether the rule speaks about `question`.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, question: &Question) -> bool {
        question.address & self.mask == self.network
            && (self.protocol == ANY_PROTOCOL
                || (self.protocol == question.protocol
                    && self.low <= question.service
                    && question.service <= self.high))
    }
}

/// Whether rules for `protocol` can name ports (or ICMP types).
#[must_use]
pub const fn has_service(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::ICMP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::raw;
    use core::net::Ipv4Addr;

    const RULE: NaclRule = NaclRule {
        network: raw(Ipv4Addr::new(192, 0, 2, 0)),
        mask: raw(Ipv4Addr::new(255, 255, 255, 0)),
        low: 80,
        high: 443,
        number: 100,
        protocol: protocol::TCP,
        allow: 1,
    };

    fn ask(address: [u8; 4], service: u16, protocol: u8) -> Question {
        Question { address: raw(address.into()), service, protocol }
    }

    #[test]
    fn a_rule_matches_its_network_ports_and_protocol_only() {
        assert!(RULE.matches(&ask([192, 0, 2, 9], 80, protocol::TCP)));
        assert!(RULE.matches(&ask([192, 0, 2, 9], 443, protocol::TCP)));
        assert!(!RULE.matches(&ask([192, 0, 2, 9], 444, protocol::TCP)));
        assert!(!RULE.matches(&ask([192, 0, 3, 9], 80, protocol::TCP)));
        assert!(!RULE.matches(&ask([192, 0, 2, 9], 80, protocol::UDP)));
    }

    #[test]
    fn an_icmp_rule_for_a_type_matches_all_its_codes() {
        let rule = NaclRule {
            low: service_of_icmp(3, 0),
            high: service_of_icmp(3, 255),
            protocol: protocol::ICMP,
            ..RULE
        };
        assert!(rule.matches(&ask([192, 0, 2, 9], service_of_icmp(3, 4), protocol::ICMP)));
        assert!(!rule.matches(&ask([192, 0, 2, 9], service_of_icmp(11, 0), protocol::ICMP)));
    }
}
