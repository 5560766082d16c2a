//! How far a TCP connection has got, judged from what each direction has carried (RFC 7857 §2).
//!
//! Each direction remembers what it has seen in one byte, and how far its stream has got in the upper bits of its count of
//! bytes ([`advance`]): enough to tell a reset of the connection from one that somebody has guessed.

use crate::mapping::HELD;

/// A SYN was seen.
pub const SYN: u8 = 1 << 0;
/// A segment without SYN, FIN or RST was seen.
pub const ACK: u8 = 1 << 1;
/// A FIN was seen.
pub const FIN: u8 = 1 << 2;
/// A RST was seen, and nothing but resets since.
pub const RST: u8 = 1 << 3;
/// The other direction has carried a RST, and this one nothing but resets since.
pub const RESET: u8 = 1 << 4;

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
    /// A segment with one of these begins or ends something.
    pub const CONTROL: u8 = FIN | SYN | RST;
}

/// What a direction remembers after a segment with none of the [`header::CONTROL`] flags, having remembered `seen`
/// before. A connection that goes on was not reset (RFC 7857 §2.2).
#[inline(always)]
#[must_use]
pub const fn go_on(seen: u8) -> u8 {
    seen & !(RST | RESET) | ACK
}

/// What a direction remembers after a segment with these header `flags`, having remembered `seen` before. A RST is taken
/// for one of the connection's own; [`is_near`] tells.
#[inline(always)]
#[must_use]
pub const fn observe(seen: u8, flags: u8) -> u8 {
    if flags & header::RST != 0 {
        return seen | RST;
    }
    if flags & header::SYN != 0 {
        return if begins_anew(seen) { seen & HELD | SYN } else { seen };
    }
    if flags & header::FIN != 0 {
        return seen & !(RST | RESET) | FIN;
    }
    go_on(seen)
}

/// Whether a SYN begins the direction anew, which has remembered `seen` before: a tuple reused within TIME_WAIT must not
/// inherit the old connection's end. In the midst of a connection a SYN changes nothing (RFC 5961 §4.2).
#[inline(always)]
#[must_use]
pub const fn begins_anew(seen: u8) -> bool {
    seen & ACK == 0 || seen & (FIN | RST | RESET) != 0
}

/// Whether a direction that remembers `seen` has carried a segment that tells a sequence number.
#[inline(always)]
#[must_use]
pub const fn has_carried(seen: u8) -> bool {
    seen & (SYN | ACK | FIN) != 0
}

/// The bits of a flow's count of bytes that count; above them stand bits 31 to 16 of the sequence number that its stream
/// has got to.
pub const COUNT: u64 = (1 << 48) - 1;

/// How far a stream may get ahead at once, in units of 64 KiB: 1 MiB is more than any segment, and little enough that a
/// stranger cannot lead the number where he likes with fewer packets than it takes to guess it.
const REACH: u64 = 16;

/// A flow's `count` of bytes whose stream has got to sequence number `end` with a segment. Never goes back.
#[inline(always)]
#[must_use]
pub const fn advance(count: u64, end: u32) -> u64 {
    let ahead = ((end >> 16) as u64).wrapping_sub(count >> 48) << 48;
    if ahead >> 48 <= REACH { count.wrapping_add(ahead) } else { count }
}

/// A flow's `count` of bytes whose stream begins at sequence number `end`.
#[inline(always)]
#[must_use]
pub const fn begin(count: u64, end: u32) -> u64 {
    count & COUNT | ((end >> 16) as u64) << 48
}

/// Whether a RST with this `sequence` number may be one of the connection's own: within some 64 KiB of where the stream of
/// the flow with this `count` of bytes has got to (RFC 5961 §3.2). A blind guess succeeds three times in 65,536.
#[inline(always)]
#[must_use]
pub const fn is_near(count: u64, sequence: u32) -> bool {
    let ahead = ((sequence >> 16) as u16).wrapping_sub((count >> 48) as u16);
    ahead.wrapping_add(1) <= 2
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
    /// Both directions have sent a FIN, or either a RST and neither anything else since.
    Closing,
}

impl Phase {
    /// Whether data can flow in at least one direction.
    #[inline(always)]
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Established | Self::HalfClosed)
    }
}

/// The phase, given what both directions remember.
#[inline(always)]
#[must_use]
pub const fn phase(outbound: u8, inbound: u8) -> Phase {
    let reset = outbound & RST != 0 && inbound & RESET != 0 || inbound & RST != 0 && outbound & RESET != 0;
    if reset || outbound & inbound & FIN != 0 {
        return Phase::Closing;
    }
    if (outbound | inbound) & FIN != 0 {
        return Phase::HalfClosed;
    }
    if has_carried(inbound) && outbound & ACK != 0 { Phase::Established } else { Phase::Opening }
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

    /// Both directions of a connection, the second of which is reset by the first.
    fn reset() -> [u8; 2] {
        let open = after(&[header::SYN, header::ACK]);
        [observe(open, header::RST), open | RESET]
    }

    #[test]
    fn a_reset_is_closing() {
        let [resetting, reset] = reset();
        assert_eq!(phase(resetting, reset), Phase::Closing);
        assert_eq!(phase(reset, resetting), Phase::Closing);
        // Of a connection that was never accepted.
        assert_eq!(phase(after(&[header::SYN]) | RESET, observe(0, header::RST)), Phase::Closing);
    }

    #[test]
    fn a_connection_on_which_either_side_goes_on_was_not_reset() {
        for flags in [header::ACK, 0, header::FIN | header::ACK] {
            let [resetting, reset] = reset();
            let phases = [phase(observe(resetting, flags), reset), phase(resetting, observe(reset, flags))];
            let expected = if flags & header::FIN == 0 { Phase::Established } else { Phase::HalfClosed };
            assert_eq!(phases, [expected; 2], "{flags:#x}");
        }
    }

    #[test]
    fn a_reset_that_is_answered_by_a_reset_is_closing() {
        let [resetting, reset] = reset();
        assert_eq!(phase(resetting | RESET, observe(reset, header::RST)), Phase::Closing);
    }

    #[test]
    fn a_new_syn_forgets_the_old_connection() {
        assert_eq!(after(&[header::SYN, header::ACK, header::FIN, header::SYN]), SYN);
        assert_eq!(after(&[header::SYN, header::ACK, header::RST, header::SYN]), SYN);
        assert_eq!(observe(after(&[header::SYN, header::ACK]) | RESET, header::SYN), SYN);
        assert_eq!(after(&[header::SYN, header::SYN]), SYN);
    }

    #[test]
    fn a_syn_in_the_midst_of_a_connection_changes_nothing() {
        let open = after(&[header::SYN, header::ACK]);
        assert_eq!(observe(open, header::SYN), open);
        assert_eq!(observe(open, header::SYN | header::ACK), open);
    }

    #[test]
    fn what_is_not_about_tcp_stays() {
        for flags in [header::SYN, header::ACK, header::FIN, header::RST, 0] {
            for seen in [0, SYN, SYN | ACK, SYN | ACK | FIN, RST | RESET] {
                assert_eq!(observe(seen | HELD, flags), observe(seen, flags) | HELD);
            }
        }
    }

    #[test]
    fn simultaneous_opens_are_opening_and_then_established() {
        let both = after(&[header::SYN, header::SYN | header::ACK]);
        assert_eq!(phase(both, both), Phase::Opening);
        assert_eq!(phase(observe(both, header::ACK), both), Phase::Established);
    }

    #[test]
    fn a_stream_gets_ahead_by_its_segments_and_never_goes_back() {
        let begun = begin(1_500, 0xfffe_0000);
        let along = advance(begun + 1_500, 0xffff_1234);
        assert_eq!(along, 0xffff << 48 | 3_000);
        let wrapped = advance(along, 0x0001_0000);
        assert_eq!(wrapped, 1 << 48 | 3_000);
        assert_eq!(advance(wrapped, 0xffff_ffff), wrapped, "an old segment");
        assert_eq!(advance(wrapped, 0x8000_0000), wrapped, "nobody has sent that much at once");
        assert_eq!(begin(wrapped, 0x8000_0000), 0x8000 << 48 | 3_000);
    }

    #[test]
    fn every_stream_is_followed_by_segments_of_every_size() {
        for size in [1_u32, 1_460, 65_535, 524_288] {
            let (mut end, mut count) = (0xff00_0000_u32, begin(0, 0xff00_0000));
            for _ in 0..200_000 {
                end = end.wrapping_add(size);
                count = advance(count, end);
                assert_eq!(count >> 48, u64::from(end >> 16));
            }
        }
    }

    #[test]
    fn a_reset_is_near_within_one_step_of_the_stream() {
        for (place, near) in
            [(0x0005_ffff, [4, 5, 6]), (0, [0, 1, 0xffff]), (0xffff_ffff, [0, 0xfffe, 0xffff])]
        {
            for upper in 0..=0xffff {
                assert_eq!(is_near(begin(99, place), upper << 16 | 0x1234), near.contains(&upper));
            }
        }
    }
}
