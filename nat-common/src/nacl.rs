//! NACLs as the data plane asks them: numbered, stateless rules of which the lowest that matches decides, compiled
//! so that the cost of an answer does not grow with their number.
//!
//! A list (a NACL's inbound or outbound rules) is asked per [`Class`] of protocol. Where it says the same to
//! everything of a class, that is its *uniform* verdict. Elsewhere `NACL_PREFIXES` finds the longest prefix that any
//! rule names; the rules that speak about an address of that prefix are exactly those whose networks contain the
//! prefix, so that for each prefix there is one division of all ports into ranges, each with its verdict, in
//! `NACL_PORTS`.

use bytemuck::{Pod, Zeroable};

use crate::protocol;

/// Network ACLs one configuration can hold.
pub const MAX_NACLS: u32 = 256;
/// Rules one configuration can hold, over all its NACLs and both directions.
pub const MAX_RULES: u32 = 16_384;
/// Rules one list (a NACL's inbound or outbound) can hold.
pub const MAX_RULES_PER_LIST: u32 = 1_024;
/// Prefixes `NACL_PREFIXES` can hold, both slots together.
pub const MAX_PREFIXES: u32 = 131_072;
/// Port ranges one configuration can compile to.
pub const MAX_PORT_RANGES: u32 = 262_144;
/// Binary logarithm of the most port ranges that one prefix can have: two per rule, and one.
pub const SEARCH_STEPS: u32 = 12;

/// The kinds of protocol that a list is asked about; others never reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// GRE.
    Gre,
    /// ESP.
    Esp,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Gre, Self::Esp];

    /// The class of a protocol that natgw translates.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            protocol::TCP => Self::Tcp,
            protocol::UDP => Self::Udp,
            protocol::GRE => Self::Gre,
            protocol::ESP => Self::Esp,
            _ => Self::Icmp,
        }
    }

    /// Its protocol number.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
            Self::Icmp => protocol::ICMP,
            Self::Gre => protocol::GRE,
            Self::Esp => protocol::ESP,
        }
    }
}

/// The number that the last rule, `*`, has in AWS's interfaces.
pub const LAST_RULE: u16 = 32_767;

/// What a rule says, and which rule it was: the number, and the upper bit for "allow".
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Verdict(pub u16);

impl Verdict {
    const ALLOW: u16 = 1 << 15;
    /// The verdict of `*`.
    pub const LAST: Self = Self(LAST_RULE);
    /// In place of a uniform verdict where there is none.
    pub const DEPENDS: Self = Self(0);

    /// What the rule with this number says.
    #[must_use]
    pub const fn new(rule: u16, allow: bool) -> Self {
        Self(if allow { rule | Self::ALLOW } else { rule })
    }

    /// Whether packets may pass.
    #[inline(always)]
    #[must_use]
    pub const fn allows(self) -> bool {
        self.0 & Self::ALLOW != 0
    }

    /// The number of the rule that decided.
    #[must_use]
    pub const fn rule(self) -> u16 {
        self.0 & !Self::ALLOW
    }
}

/// A list, the value of `NACLS`: the uniform verdict of each class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NaclList {
    /// By [`Class`]; [`Verdict::DEPENDS`] sends to `NACL_PREFIXES`.
    pub uniform: [Verdict; 5],
    /// Always zero.
    pub spare: u16,
}

/// Where the port ranges of a prefix stand in `NACL_PORTS`, the value of `NACL_PREFIXES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRanges {
    /// Index of the first.
    pub first: u32,
    /// How many, at least one.
    pub count: u32,
}

/// A range of ports (or, for ICMP, of [`service_of_icmp`]) from the one before up to `last`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRange {
    /// Host order.
    pub last: u16,
    /// What is said about it.
    pub verdict: Verdict,
}

/// Index of a list in `NACLS`, within its slot.
#[inline(always)]
#[must_use]
pub const fn list(nacl: u16, direction: crate::flow::Direction) -> u32 {
    nacl as u32 * 2 + direction as u32
}

/// What stands for a list and a class in the scope of `NACL_PREFIXES`.
#[inline(always)]
#[must_use]
pub const fn scope_number(list: u32, class: Class) -> u32 {
    list * 8 + class as u32
}

/// The value that stands for an ICMP type and code where TCP and UDP have a port.
#[inline(always)]
#[must_use]
pub const fn service_of_icmp(kind: u8, code: u8) -> u16 {
    (kind as u16) << 8 | code as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_remembers_its_rule() {
        for (rule, allow) in [(1, true), (100, false), (32_766, true), (LAST_RULE, false)] {
            let verdict = Verdict::new(rule, allow);
            assert_eq!((verdict.rule(), verdict.allows()), (rule, allow));
            assert_ne!(verdict, Verdict::DEPENDS);
        }
    }

    #[test]
    fn every_list_and_class_has_a_scope_of_its_own() {
        let last = scope_number(MAX_NACLS * 2 - 1, Class::Esp);
        assert!(last < 1 << 16);
        assert_ne!(scope_number(3, Class::Esp), scope_number(4, Class::Tcp));
    }
}
