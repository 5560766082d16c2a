//! The written forms of the configuration's types: one each, for TOML, JSON and tables.

use std::fmt;
use std::str::FromStr;

use nat_common::protocol;

use super::{Action, Arp, IcmpMatch, Mode, Protocol, Rule, Target};

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        })
    }
}

impl fmt::Display for Arp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Announce => "announce",
            Self::Routed => "routed",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl Target {
    /// The written form of [`Target::Local`]; no NAT gateway may be called so.
    pub const LOCAL: &str = "local";
    /// The written form of [`Target::Blackhole`]; no NAT gateway may be called so.
    pub const BLACKHOLE: &str = "blackhole";
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NatGateway(name) => name,
            Self::Local => Self::LOCAL,
            Self::Blackhole => Self::BLACKHOLE,
        })
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        match text.as_str() {
            Self::LOCAL => Self::Local,
            Self::BLACKHOLE => Self::Blackhole,
            _ => Self::NatGateway(text),
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl Protocol {
    /// The IANA number, [`None`] for all.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::All => None,
            Self::Tcp => Some(protocol::TCP),
            Self::Udp => Some(protocol::UDP),
            Self::Icmp => Some(protocol::ICMP),
            Self::Number(number) => Some(number),
        }
    }

    /// Whether its packets carry ports that a rule can name.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Tcp => f.pad("tcp"),
            Self::Udp => f.pad("udp"),
            Self::Icmp => f.pad("icmp"),
            Self::Number(number) => f.pad(&number.to_string()),
        }
    }
}

/// The protocol number that IANA has reserved.
const RESERVED: u8 = 255;

/// How to write a protocol.
pub(super) const PROTOCOLS: &str = "\"tcp\", \"udp\", \"icmp\", \"all\" or a number from 0 to 254";

/// A text that names no protocol.
#[derive(Debug, thiserror::Error)]
#[error("protocol {0} is unknown; write {PROTOCOLS}")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| *number != RESERVED);
        match (text, number) {
            ("all", _) => Ok(Self::All),
            ("tcp", _) | (_, Some(protocol::TCP)) => Ok(Self::Tcp),
            ("udp", _) | (_, Some(protocol::UDP)) => Ok(Self::Udp),
            ("icmp", _) | (_, Some(protocol::ICMP)) => Ok(Self::Icmp),
            (_, Some(number)) => Ok(Self::Number(number)),
            (_, None) => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Protocol {
    type Error = UnknownProtocol;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

impl fmt::Display for IcmpMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", self.kind)?;
        self.code.map_or(Ok(()), |code| write!(f, " code {code}"))
    }
}

impl Rule {
    /// The ports or ICMP messages that match, for people: `443`, `1024-65535`, `type 3 code 4` or `all`.
    #[must_use]
    pub fn service(&self) -> String {
        match (self.ports, self.icmp) {
            (Some((first, last)), _) if first == last => first.to_string(),
            (Some((first, last)), _) => format!("{first}-{last}"),
            (None, Some(icmp)) => icmp.to_string(),
            (None, None) => "all".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_survives_the_way_through_its_text() {
        for protocol in [Protocol::All, Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Number(47)] {
            assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
        }
    }

    #[test]
    fn a_protocol_number_with_a_name_is_that_protocol() {
        assert_eq!("6".parse::<Protocol>().unwrap(), Protocol::Tcp);
        assert_eq!("17".parse::<Protocol>().unwrap(), Protocol::Udp);
        assert_eq!("1".parse::<Protocol>().unwrap(), Protocol::Icmp);
    }

    #[test]
    fn the_reserved_protocol_number_is_no_protocol() {
        assert!("255".parse::<Protocol>().is_err());
        assert!("256".parse::<Protocol>().is_err());
        assert!("gre".parse::<Protocol>().is_err());
    }

    #[test]
    fn a_target_survives_the_way_through_its_text() {
        for target in [Target::Local, Target::Blackhole, Target::NatGateway("nat-a".into())] {
            assert_eq!(Target::from(target.to_string()), target);
        }
    }
}
