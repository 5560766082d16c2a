//! Packets in bursts: one program sends a packet ahead with nothing but a mark, a second one translates it as it leaves,
//! together with those behind it. The second knows the flows of all of them at once, and the processor waits for the
//! memory of one table in the place of sixteen times for one line of it.

use bytemuck::{Pod, Zeroable};

/// Ethertype, in network order, of a frame on its way from the first program to the second: the first of those for
/// experiments (IEEE 802, 9.2.4). Should one ever leave like that, whoever receives it throws it away.
pub const MARK: u16 = 0x88b5_u16.to_be();

/// Flows that a CPU can have noted: more than the kernel collects for one device (16), and a power of two.
pub const NOTED: u32 = 32;

/// Value of `LEADS`, by interface index: where nearly all packets lead that come in there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Lead {
    /// Index of the device that they leave by; 0: of this interface nothing is sent ahead.
    pub device: u32,
    /// Bytes of IP up to which a packet fits whatever way it takes.
    pub mtu: u16,
    /// The zone they come from, [`crate::flow::OUTSIDE`] or the VPC.
    pub zone: u8,
    /// Always zero.
    pub spare: u8,
}

/// Words of a [`Reach`] for one side.
pub const REACH_WORDS: usize = 1_024;

/// The one value of `REACH`: what may be sent ahead by its destination. A packet that is not translated, or does not leave
/// where nearly all do, is to take the short way, so that the stack and other interfaces get it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Reach {
    /// From inside, by the upper half of the destination: nothing of that /16 is the host's, an Elastic IP or a
    /// private subnet's.
    pub outbound: [u64; REACH_WORDS],
    /// From outside, by [`Reach::place`] of the destination: it is an Elastic IP that the host does not share.
    pub inbound: [u64; REACH_WORDS],
}

impl Default for Reach {
    /// Nothing is sent ahead.
    fn default() -> Self {
        Self { outbound: [0; REACH_WORDS], inbound: [0; REACH_WORDS] }
    }
}

impl Reach {
    /// The bit of an address's /16, for an address in network order.
    #[inline(always)]
    #[must_use]
    pub const fn half(address: u32) -> u32 {
        // Network order: the bytes that come first are the lower ones of the word.
        u32::from_le(address) & 0xffff
    }

    /// The bit of an address in network order, which others may share.
    #[inline(always)]
    #[must_use]
    pub const fn place(address: u32) -> u32 {
        address.wrapping_mul(0x9e37_79b1) >> 16
    }

    /// The bit number `bit` of one side.
    #[inline(always)]
    #[must_use]
    pub const fn holds(side: &[u64; REACH_WORDS], bit: u32) -> bool {
        side[bit as usize / 64 % REACH_WORDS] >> (bit % 64) & 1 != 0
    }

    /// Sets or clears the bit number `bit` of one side.
    pub const fn set(side: &mut [u64; REACH_WORDS], bit: u32, value: bool) {
        let word = &mut side[bit as usize / 64 % REACH_WORDS];
        let mask = 1 << (bit % 64);
        *word = if value { *word | mask } else { *word & !mask };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn raw(address: [u8; 4]) -> u32 {
        crate::flow::raw(Ipv4Addr::from(address))
    }

    #[test]
    fn addresses_of_one_16_share_a_bit_and_others_do_not() {
        assert_eq!(Reach::half(raw([192, 0, 2, 1])), Reach::half(raw([192, 0, 77, 200])));
        assert_ne!(Reach::half(raw([192, 0, 2, 1])), Reach::half(raw([192, 1, 2, 1])));
        assert_ne!(Reach::half(raw([192, 0, 2, 1])), Reach::half(raw([0, 192, 2, 1])));
    }

    #[test]
    fn a_bit_is_set_and_cleared_alone() {
        let mut side = [0; REACH_WORDS];
        for bit in [0, 63, 64, 65_535] {
            assert!(!Reach::holds(&side, bit));
            Reach::set(&mut side, bit, true);
            assert!(Reach::holds(&side, bit));
        }
        assert_eq!(side.iter().map(|word| word.count_ones()).sum::<u32>(), 4);
        Reach::set(&mut side, 63, false);
        assert!(!Reach::holds(&side, 63) && Reach::holds(&side, 64));
    }

    #[test]
    fn neighbouring_elastic_ips_have_bits_of_their_own() {
        let bits: [u32; 4] = [10, 11, 12, 13].map(|last| Reach::place(raw([203, 0, 113, last])));
        for (number, bit) in bits.iter().enumerate() {
            assert!(!bits[..number].contains(bit));
        }
    }
}
