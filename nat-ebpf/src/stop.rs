//! Why a packet left the path before its end.

use nat_common::drop::DropReason;

/// A packet's early end. Each is named exactly once as a verdict, in `main`.
#[derive(Clone, Copy)]
pub enum Stop {
    /// It is for the gateway host itself: the kernel's stack takes it.
    Stack,
    /// Its sender gets an ICMP error.
    Reply(Reply),
    /// It is refused.
    Drop(DropReason),
}

/// The ICMP errors that the gateway originates.
#[derive(Clone, Copy)]
pub enum Reply {
    /// The TTL ran out (RFC 1812 §5.3.1).
    TimeExceeded,
    /// Larger than the next link's MTU, which is given in bytes, and not to be fragmented (RFC 1191 §4).
    FragmentationNeeded(u16),
}

/// What a global function may return to its caller is one number.
impl Stop {
    const STACK: u64 = 1;
    const REPLY: u64 = 2;
    const DROP: u64 = 3;

    /// A result as a number; zero is success.
    #[inline(always)]
    pub const fn encode(result: Result<(), Self>) -> u64 {
        match result {
            Ok(()) => 0,
            Err(Self::Stack) => Self::STACK,
            Err(Self::Reply(Reply::TimeExceeded)) => Self::REPLY,
            Err(Self::Reply(Reply::FragmentationNeeded(mtu))) => Self::REPLY | (mtu as u64) << 8 | 1 << 32,
            Err(Self::Drop(reason)) => Self::DROP | (reason as u64) << 8,
        }
    }

    /// The result behind a number.
    #[inline(always)]
    pub const fn decode(number: u64) -> Result<(), Self> {
        match number & 0xff {
            0 => Ok(()),
            Self::STACK => Err(Self::Stack),
            Self::REPLY if number >> 32 == 0 => Err(Self::Reply(Reply::TimeExceeded)),
            Self::REPLY => Err(Self::Reply(Reply::FragmentationNeeded((number >> 8) as u16))),
            _ => match DropReason::from_number((number >> 8) as u32) {
                Some(reason) => Err(Self::Drop(reason)),
                None => Err(Self::Drop(DropReason::NotConfigured)),
            },
        }
    }
}

impl Reply {
    /// The reason to count when the error is not due, or may not be sent.
    pub const fn otherwise(self) -> DropReason {
        match self {
            Self::TimeExceeded => DropReason::TtlExpired,
            Self::FragmentationNeeded(_) => DropReason::TooBig,
        }
    }
}
