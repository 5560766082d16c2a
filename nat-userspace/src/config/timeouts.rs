//! When idle sessions end, and who learns of it.

use serde::{Deserialize, Serialize};

/// Idle timeouts, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP, while data can flow in at least one direction.
    pub tcp_established: u64,
    /// TCP, before the handshake is complete.
    pub tcp_transitory: u64,
    /// TCP, after both FINs or a RST.
    pub tcp_closing: u64,
    /// UDP.
    pub udp: u64,
    /// ICMP queries.
    pub icmp: u64,
    /// How long after the first fragment of a datagram the others may come.
    #[serde(default = "fragments")]
    pub fragments: u64,
    /// Whether inbound packets, too, keep a session of UDP or ICMP alive.
    #[serde(default = "refreshing")]
    pub inbound_refresh: bool,
}

/// RFC 6146 FRAGMENT_MIN.
const fn fragments() -> u64 {
    2
}

const fn refreshing() -> bool {
    true
}

impl Timeouts {
    /// The shortest of sessions, in seconds.
    #[must_use]
    pub fn shortest(&self) -> u64 {
        let Self { tcp_established, tcp_transitory, tcp_closing, udp, icmp, .. } = *self;
        tcp_established.min(tcp_transitory).min(tcp_closing).min(udp).min(icmp)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Profile::default().timeouts()
    }
}

/// The timeouts of a configuration that names none itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// As on AWS.
    #[default]
    Aws,
    /// As RFC 4787, 5382 and 7857 ask.
    Rfc,
}

impl Profile {
    /// Its timeouts.
    #[must_use]
    pub const fn timeouts(self) -> Timeouts {
        let (tcp_established, udp) = match self {
            Self::Aws => (350, 350),
            Self::Rfc => (7_440, 300),
        };
        Timeouts {
            tcp_established,
            tcp_transitory: 240,
            tcp_closing: 240,
            udp,
            icmp: 60,
            fragments: fragments(),
            inbound_refresh: true,
        }
    }
}

/// When hosts are told by a RST that a TCP session has ended for being idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleReset {
    /// An internal host that goes on with it.
    #[default]
    OnSend,
    /// Both ends as it ends, and an internal host that goes on with it all the same.
    AtExpiry,
    /// Never.
    Off,
}
