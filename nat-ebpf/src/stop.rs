//! Why a packet left the path before its end.

use nat_common::drop::DropReason;

use crate::pipeline::Way;

/// A packet's early end. Each is named exactly once as a verdict, in `main`.
#[derive(Clone, Copy)]
pub enum Stop {
    /// It is for the gateway host itself: the kernel's stack takes it.
    Stack,
    /// Its sender gets an answer.
    Reply(Reply),
    /// It is refused.
    Drop(DropReason),
    /// A fragment that the controller holds until its first one has passed.
    Held,
    /// The controller sends it on in fragments.
    Divided(Way),
}

/// What the gateway answers by itself: ICMP errors, and a RST.
#[derive(Clone, Copy)]
pub enum Reply {
    /// The TTL ran out (RFC 1812 §5.3.1).
    TimeExceeded,
    /// Larger than the next link's MTU, which is given in bytes, and not to be fragmented (RFC 1191 §4).
    FragmentationNeeded(u16),
    /// Refused for this reason, which is counted although there is an answer (RFC 4787 §4.2, RFC 6888 §3: a host whose
    /// session fails shall learn of it).
    Prohibited(DropReason),
    /// No route leads to the destination (RFC 1812 §4.3.3.1). This and the next two are counted as refused for their
    /// reason as well, and only an internal sender is told: the outside learns nothing of what is behind the gateway.
    NetworkUnreachable(DropReason),
    /// The destination is on a link, and does not answer there.
    HostUnreachable(DropReason),
    /// The packet's protocol is not served.
    ProtocolUnreachable(DropReason),
    /// A RST: the segment goes on with a TCP session that is none any more.
    Reset,
}

/// What a global function may return to its caller is one number.
impl Stop {
    const STACK: u64 = 1;
    const REPLY: u64 = 2;
    const DROP: u64 = 3;
    const PROHIBITED: u64 = 4;
    const NETWORK_UNREACHABLE: u64 = 5;
    const HOST_UNREACHABLE: u64 = 6;
    const PROTOCOL_UNREACHABLE: u64 = 7;
    const RESET: u64 = 8;
    const HELD: u64 = 9;
    const DIVIDED: u64 = 10;

    /// A result as a number; zero is success.
    #[inline(always)]
    pub const fn encode(result: Result<(), Self>) -> u64 {
        match result {
            Ok(()) => 0,
            Err(Self::Stack) => Self::STACK,
            Err(Self::Reply(Reply::TimeExceeded)) => Self::REPLY,
            Err(Self::Reply(Reply::FragmentationNeeded(mtu))) => Self::REPLY | (mtu as u64) << 8 | 1 << 32,
            Err(Self::Reply(Reply::Reset)) => Self::RESET,
            Err(Self::Reply(Reply::Prohibited(reason))) => Self::PROHIBITED | (reason as u64) << 8,
            Err(Self::Reply(Reply::NetworkUnreachable(reason))) => {
                Self::NETWORK_UNREACHABLE | (reason as u64) << 8
            }
            Err(Self::Reply(Reply::HostUnreachable(reason))) => Self::HOST_UNREACHABLE | (reason as u64) << 8,
            Err(Self::Reply(Reply::ProtocolUnreachable(reason))) => {
                Self::PROTOCOL_UNREACHABLE | (reason as u64) << 8
            }
            Err(Self::Drop(reason)) => Self::DROP | (reason as u64) << 8,
            Err(Self::Held) => Self::HELD,
            Err(Self::Divided(way)) => Self::DIVIDED | (way as u64) << 8,
        }
    }

    /// The result behind a number.
    #[inline(always)]
    pub const fn decode(number: u64) -> Result<(), Self> {
        match number & 0xff {
            0 => Ok(()),
            Self::STACK => Err(Self::Stack),
            Self::RESET => Err(Self::Reply(Reply::Reset)),
            Self::REPLY if number >> 32 == 0 => Err(Self::Reply(Reply::TimeExceeded)),
            Self::REPLY => Err(Self::Reply(Reply::FragmentationNeeded((number >> 8) as u16))),
            Self::HELD => Err(Self::Held),
            Self::DIVIDED => Err(Self::Divided(match number >> 8 {
                0 => Way::Outbound,
                1 => Way::Inbound,
                _ => Way::Local,
            })),
            kind => match DropReason::from_number((number >> 8) as u32) {
                Some(reason) if kind == Self::PROHIBITED => Err(Self::Reply(Reply::Prohibited(reason))),
                Some(reason) if kind == Self::NETWORK_UNREACHABLE => {
                    Err(Self::Reply(Reply::NetworkUnreachable(reason)))
                }
                Some(reason) if kind == Self::HOST_UNREACHABLE => {
                    Err(Self::Reply(Reply::HostUnreachable(reason)))
                }
                Some(reason) if kind == Self::PROTOCOL_UNREACHABLE => {
                    Err(Self::Reply(Reply::ProtocolUnreachable(reason)))
                }
                Some(reason) => Err(Self::Drop(reason)),
                None => Err(Self::Drop(DropReason::NotConfigured)),
            },
        }
    }
}

impl Reply {
    /// Whether the packet counts as refused even if the answer is sent.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Prohibited(_)) || self.is_for_inside()
    }

    /// Whether only an internal sender is told.
    pub const fn is_for_inside(self) -> bool {
        matches!(self, Self::NetworkUnreachable(_) | Self::HostUnreachable(_) | Self::ProtocolUnreachable(_))
    }

    /// The reason to count when the answer is not due, or may not be sent.
    pub const fn otherwise(self) -> DropReason {
        match self {
            Self::TimeExceeded => DropReason::TtlExpired,
            Self::FragmentationNeeded(_) => DropReason::TooBig,
            Self::Prohibited(reason)
            | Self::NetworkUnreachable(reason)
            | Self::HostUnreachable(reason)
            | Self::ProtocolUnreachable(reason) => reason,
            Self::Reset => DropReason::NotOpening,
        }
    }
}
