//! Words of a packet and the sum over them (RFC 1071).

use std::net::Ipv4Addr;

/// The 16-bit word at `at`.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes the 16-bit word at `at`.
pub fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// The address at `at`.
pub(super) fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

/// Writes the address at `at`.
pub(super) fn put_address(bytes: &mut [u8], at: usize, address: Ipv4Addr) {
    bytes[at..at + 4].copy_from_slice(&address.octets());
}

/// One's complement addition.
#[must_use]
pub const fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + carry as u16
}

/// The one's complement sum of all words; an odd byte is the upper half of its word.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(2);
    let sum = words.by_ref().fold(0, |sum, pair| add(sum, u16::from_be_bytes([pair[0], pair[1]])));
    words.remainder().first().map_or(sum, |odd| add(sum, u16::from(*odd) << 8))
}

/// What becomes of a checksum when what it covers summed up to `before` and sums up to `after` now: a right one stays
/// right, and a wrong one is wrong by as much as it was (RFC 1624 §3, equation 3).
#[must_use]
pub const fn carried(checksum: u16, before: u16, after: u16) -> u16 {
    !add(add(!checksum, !before), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1624_comes_out_right() {
        assert_eq!(carried(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a_checksum_over_the_whole_is_what_a_right_one_becomes() {
        let (before, after) = ([0x12, 0x34, 0xff, 0xff, 0x01], [0x56, 0x78, 0x00, 0x00, 0x01]);
        assert_eq!(carried(!sum(&before), sum(&before), sum(&after)), !sum(&after));
    }

    #[test]
    fn an_odd_byte_is_the_upper_half_of_a_word() {
        assert_eq!(sum(&[0x00, 0x01, 0x02]), 0x0201);
    }
}
