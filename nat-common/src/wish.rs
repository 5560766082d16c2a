//! The ports that a search would rather have: even or odd, and below 1024 or not (RFC 4787 REQ-3a and REQ-4).

use crate::pool::PortRange;

/// Such a wish, or none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish(u32);

/// Even ports.
const EVEN: u32 = 1;
/// Odd ports.
const ODD: u32 = 2;
/// Ports below 1024 (RFC 6335 §6).
const SYSTEM: u32 = 4;
/// The other ports.
const USER: u32 = 8;
/// The first of them.
const FIRST_USER: u16 = 1_024;
/// The odd ones of 64 ports in a row, from a multiple of 64 on.
const ODD_PORTS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

impl Wish {
    /// For a port as this one is (host order).
    #[inline(always)]
    #[must_use]
    pub const fn like(port: u16) -> Self {
        let parity = if port.is_multiple_of(2) { EVEN } else { ODD };
        Self(parity | if port < FIRST_USER { SYSTEM } else { USER })
    }

    /// Whether any port will do.
    #[inline(always)]
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The part of a range that has such ports on the right side of 1024.
    #[inline(always)]
    #[must_use]
    pub fn part_of(self, range: PortRange) -> Option<PortRange> {
        let PortRange { mut first, mut last } = range;
        if self.0 & SYSTEM != 0 && last >= FIRST_USER {
            last = FIRST_USER - 1;
        }
        if self.0 & USER != 0 && first < FIRST_USER {
            first = FIRST_USER;
        }
        (first <= last).then_some(PortRange { first, last })
    }

    /// Whether this port of such a part has the wrong parity.
    #[inline(always)]
    #[must_use]
    pub const fn excludes(self, port: u32) -> bool {
        self.excluded() >> (port % 64) & 1 != 0
    }

    /// Those of 64 ports in a row, from a multiple of 64 on, that have the wrong parity.
    #[inline(always)]
    #[must_use]
    pub const fn excluded(self) -> u64 {
        match self.0 & (EVEN | ODD) {
            EVEN => ODD_PORTS,
            ODD => !ODD_PORTS,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_wishes_for_its_like() {
        for port in 1..=u16::MAX {
            let wish = Wish::like(port);
            assert!(!wish.excludes(port.into()) && wish.excludes(u32::from(port ^ 1)), "{port}");
            let one = PortRange { first: port, last: port };
            assert_eq!(wish.part_of(one), Some(one));
        }
    }

    #[test]
    fn a_range_is_cut_at_1024() {
        let all = PortRange { first: 1, last: 65_535 };
        assert_eq!(Wish::like(500).part_of(all), Some(PortRange { first: 1, last: 1_023 }));
        assert_eq!(Wish::like(5_000).part_of(all), Some(PortRange { first: 1_024, last: 65_535 }));
        assert_eq!(Wish::default().part_of(all), Some(all));
        assert_eq!(Wish::like(500).part_of(PortRange { first: 1_024, last: 2_000 }), None);
        assert_eq!(Wish::like(1_024).part_of(PortRange { first: 1, last: 1_023 }), None);
    }
}
