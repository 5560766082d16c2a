//! The data plane's clock: `CLOCK_MONOTONIC`, in ticks of 2^30 nanoseconds (about 1.07 s).
//!
//! A tick costs the data plane a shift where a second would cost a division, on every packet.

/// Binary logarithm of the nanoseconds in a tick.
pub const TICK_SHIFT: u32 = 30;

/// Ticks since it was last seen for which no session is ended for being idle.
pub const LATELY: u32 = 1;

/// The shortest timeout, in ticks: sessions are ended after more than that, so that what was seen [`LATELY`] by one CPU's
/// clock is spared also where the other's is a tick ahead.
pub const SHORTEST_TIMEOUT: u32 = LATELY + 1;

/// Ticks elapsed at `nanoseconds` of the monotonic clock.
#[must_use]
pub const fn ticks(nanoseconds: u64) -> u32 {
    (nanoseconds >> TICK_SHIFT) as u32
}

/// The ticks that cover `seconds`, rounded up and saturating.
#[must_use]
pub const fn ticks_from_seconds(seconds: u64) -> u32 {
    let nanoseconds = seconds as u128 * 1_000_000_000;
    let ticks = nanoseconds.div_ceil(1 << TICK_SHIFT);
    if ticks > u32::MAX as u128 { u32::MAX } else { ticks as u32 }
}

/// The seconds that `ticks` last, rounded to the nearest.
#[must_use]
pub const fn seconds_from_ticks(ticks: u32) -> u64 {
    (((ticks as u64) << TICK_SHIFT) + 500_000_000) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_in_ticks_is_never_shorter_than_asked() {
        for seconds in [0, 1, 2, 60, 240, 350, 7440, 86_400] {
            assert!(u64::from(ticks_from_seconds(seconds)) << TICK_SHIFT >= seconds * 1_000_000_000);
        }
    }

    #[test]
    fn seconds_survive_the_way_through_ticks() {
        for seconds in [1, 60, 350, 7440] {
            assert!(seconds_from_ticks(ticks_from_seconds(seconds)).abs_diff(seconds) <= 1);
        }
    }

    #[test]
    fn a_timeout_beyond_the_clock_saturates() {
        assert_eq!(ticks_from_seconds(u64::MAX), u32::MAX);
    }
}
