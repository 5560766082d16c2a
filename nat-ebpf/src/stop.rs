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

impl Reply {
    /// The reason to count when the error is not due, or may not be sent.
    pub const fn otherwise(self) -> DropReason {
        match self {
            Self::TimeExceeded => DropReason::TtlExpired,
            Self::FragmentationNeeded(_) => DropReason::TooBig,
        }
    }
}
