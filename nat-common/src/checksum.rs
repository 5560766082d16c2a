//! Incremental Internet checksums (RFC 1624, Eqn. 3: `HC' = ~(~HC + ~m + m')`).
//!
//! All 16-bit words are taken as they stand in memory: one's complement addition does not depend on byte order
//! (RFC 1071 §2 B), so nothing is swapped.

/// A pending change of a checksum: the sum of `~m + m'` over the 16-bit words that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// The change of one 16-bit word from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u32 + new as u32)
    }

    /// The change of one 32-bit field from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn dword(self, old: u32, new: u32) -> Self {
        self.word(old as u16, new as u16).word((old >> 16) as u16, (new >> 16) as u16)
    }

    /// Both changes together.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The raw sum, as `bpf_l4_csum_replace` takes it.
    #[inline(always)]
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// `checksum` after the change.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold((!checksum) as u32 + self.0)
    }

    /// A UDP `checksum` after the change: zero means "none" and stays zero, a computed zero is sent as all ones
    /// (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        let updated = self.apply(checksum);
        if updated == 0 { 0xffff } else { updated }
    }
}

/// Folds a one's complement sum of up to 65,535 words into 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_1624_section_4_gives_plus_zero() {
        assert_eq!(Delta::NONE.word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_udp_packet_without_checksum_stays_without() {
        assert_eq!(Delta::NONE.word(1, 2).apply_udp(0), 0);
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        assert_eq!(Delta::NONE.word(0x5555, 0x3285).apply_udp(0xdd2f), 0xffff);
    }

    #[test]
    fn undoing_a_change_restores_the_checksum() {
        for checksum in [0x0001, 0x1234, 0x8000, 0xfffe] {
            let there = Delta::NONE.dword(0x0a00_0105, 0xcb00_710a).apply(checksum);
            assert_eq!(Delta::NONE.dword(0xcb00_710a, 0x0a00_0105).apply(there), checksum);
        }
    }
}
