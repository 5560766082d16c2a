//! How far a TCP connection has got, judged from what each direction has carried (RFC 7857 §2).

use crate::mapping::HELD;

/// A SYN was seen.
pub const SYN: u8 = 1 << 0;
/// A segment without SYN, FIN or RST was seen.
pub const ACK: u8 = 1 << 1;
/// A FIN was seen.
pub const FIN: u8 = 1 << 2;
/// A RST was seen.
pub const RST: u8 = 1 << 3;

/// The flag bits of the TCP header's 14th byte (RFC 9293 §3.1).
pub mod header {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}

/// What a direction remembers after a segment with these header `flags`, having remembered `seen` before.
///
/// A SYN begins anew: a tuple reused within TIME_WAIT must not inherit the old connection's end.
#[inline(always)]
#[must_use]
pub const fn observe(seen: u8, flags: u8) -> u8 {
    if flags & header::SYN != 0 {
        return SYN | seen & HELD;
    }
    let mut seen = seen;
    if flags & header::FIN != 0 {
        seen |= FIN;
    }
    if flags & header::RST != 0 {
        seen |= RST;
    }
    if flags & (header::FIN | header::RST) == 0 {
        seen |= ACK;
    }
    seen
}

/// The phase of a TCP connection; it decides which idle timeout applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not both directions have completed the handshake.
    Opening,
    /// Both directions carry data.
    Established,
    /// One direction has sent its FIN; the other may go on for as long as it likes.
    HalfClosed,
    /// Both directions have sent a FIN, or either a RST.
    Closing,
}

/// The phase, given what both directions remember.
#[inline(always)]
#[must_use]
pub const fn phase(outbound: u8, inbound: u8) -> Phase {
    if (outbound | inbound) & RST != 0 || outbound & inbound & FIN != 0 {
        return Phase::Closing;
    }
    if (outbound | inbound) & FIN != 0 {
        return Phase::HalfClosed;
    }
    if inbound & !HELD != 0 && outbound & ACK != 0 { Phase::Established } else { Phase::Opening }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(flags: &[u8]) -> u8 {
        flags.iter().fold(0, |seen, flags| observe(seen, *flags))
    }

    #[test]
    fn a_syn_without_answer_is_opening() {
        assert_eq!(phase(after(&[header::SYN]), 0), Phase::Opening);
    }

    #[test]
    fn a_completed_handshake_is_established() {
        let inbound = after(&[header::SYN | header::ACK]);
        assert_eq!(phase(after(&[header::SYN]), inbound), Phase::Opening);
        assert_eq!(phase(after(&[header::SYN, header::ACK]), inbound), Phase::Established);
    }

    #[test]
    fn one_fin_is_half_closed_and_two_are_closing() {
        let open = [header::SYN, header::ACK];
        let closed = [header::SYN, header::ACK, header::FIN | header::ACK];
        assert_eq!(phase(after(&closed), after(&open)), Phase::HalfClosed);
        assert_eq!(phase(after(&closed), after(&closed)), Phase::Closing);
    }

    #[test]
    fn a_reset_is_closing() {
        assert_eq!(phase(after(&[header::SYN, header::ACK]), after(&[header::RST])), Phase::Closing);
    }

    #[test]
    fn a_new_syn_forgets_the_old_connection() {
        assert_eq!(after(&[header::SYN, header::ACK, header::FIN, header::RST, header::SYN]), SYN);
    }
}
