//! Numbers as people read them.

use std::net::Ipv4Addr;
use std::time::Duration;

/// `12345` as `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How full something is: `10,000 of 262,144 (4 %)`.
pub(super) fn fill(used: u64, capacity: u64) -> String {
    let percent = match (used as f64 * 100.0 / capacity.max(1) as f64).round() as u64 {
        0 if used > 0 => "<1".to_owned(),
        100 if used < capacity => ">99".to_owned(),
        percent => percent.to_string(),
    };
    format!("{} of {} ({percent} %)", grouped(used), grouped(capacity))
}

/// Bytes in the decimal unit that suits them: `999 B`, `1.5 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    // Anything above would be shown as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];

/// `192.0.2.1:443`; where there is no port, the address alone.
pub(super) fn endpoint(address: Ipv4Addr, port: u16) -> String {
    if port == 0 { address.to_string() } else { format!("{address}:{port}") }
}

/// Seconds in larger units: `5m 50s`.
pub(super) fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let texts = [0, 999, 1_000, 262_144, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "262,144", "1,000,000"]);
    }

    #[test]
    fn a_little_is_not_shown_as_nothing_nor_almost_all_as_full() {
        assert_eq!(fill(10_000, 262_144), "10,000 of 262,144 (4 %)");
        assert_eq!(fill(1, 262_144), "1 of 262,144 (<1 %)");
        assert_eq!(fill(0, 262_144), "0 of 262,144 (0 %)");
        assert_eq!(fill(0, 0), "0 of 0 (0 %)");
        assert_eq!(fill(262_144, 262_144), "262,144 of 262,144 (100 %)");
        assert_eq!(fill(262_143, 262_144), "262,143 of 262,144 (>99 %)");
    }

    #[test]
    fn bytes_take_the_unit_that_suits_them() {
        let texts = [0, 999, 1_000, 1_540_000, 999_950, 999_949, u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "999 B", "1.0 kB", "1.5 MB", "1.0 MB", "999.9 kB", "18.4 EB"]);
    }

    #[test]
    fn an_endpoint_without_a_port_is_its_address() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!([443, 0].map(|port| endpoint(address, port)), ["192.0.2.1:443", "192.0.2.1"]);
    }

    #[test]
    fn durations_are_in_units_of_time() {
        assert_eq!([0, 350, 3_600].map(duration), ["0s", "5m 50s", "1h"]);
    }
}
