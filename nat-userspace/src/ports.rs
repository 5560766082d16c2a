//! Sets of ports, as sorted ranges.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ports as inclusive ranges: sorted, disjoint, with a gap between any two. Written as `1024-32767,61000`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// No port.
    pub const NONE: Self = Self(Vec::new());

    /// The ports from `first` to `last`; none if that is backwards.
    #[must_use]
    pub fn range(first: u16, last: u16) -> Self {
        [(first, last)].into_iter().collect()
    }

    /// The ranges in order.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// How many ports.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|&range| width(range)).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= port);
        after > 0 && port <= self.0[after - 1].1
    }

    /// Those that are in one of the two, or in both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut kept = Vec::new();
        for &(first, last) in &self.0 {
            let mut next = u32::from(first);
            let within = other.0.iter().filter(|hole| hole.0 <= last && hole.1 >= first);
            for &(hole, end) in within {
                if u32::from(hole) > next {
                    kept.push((next as u16, hole - 1));
                }
                next = u32::from(end) + 1;
            }
            if next <= u32::from(last) {
                kept.push((next as u16, last));
            }
        }
        Self(kept)
    }

    /// Those that are in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// The `most` largest ranges.
    #[must_use]
    pub fn largest(&self, most: usize) -> Self {
        let mut ranges = self.0.clone();
        ranges.sort_by_key(|&range| std::cmp::Reverse(width(range)));
        ranges.truncate(most);
        ranges.into_iter().collect()
    }
}

const fn width((first, last): (u16, u16)) -> u32 {
    last as u32 - first as u32 + 1
}

impl FromIterator<(u16, u16)> for Ports {
    fn from_iter<T: IntoIterator<Item = (u16, u16)>>(ranges: T) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl FromIterator<u16> for Ports {
    fn from_iter<T: IntoIterator<Item = u16>>(ports: T) -> Self {
        ports.into_iter().map(|port| (port, port)).collect()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

/// Why a text is no set of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no port range")]
pub struct NoPorts(String);

impl FromStr for Ports {
    type Err = NoPorts;

    /// Reads `80,1024 - 2047`, and the kernel's empty line as no port.
    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| range(part).ok_or_else(|| NoPorts(part.to_owned()))).collect()
    }
}

impl TryFrom<String> for Ports {
    type Error = NoPorts;

    fn try_from(text: String) -> Result<Self, NoPorts> {
        text.parse()
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Ports {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(ports("30-40,1-9,10-12,35-50,65535").to_string(), "1-12,30-50,65535");
        assert_eq!(ports("").count() + ports("\n").count(), 0);
        assert!("9-1".parse::<Ports>().is_err() && "a".parse::<Ports>().is_err());
    }

    #[test]
    fn a_hole_splits_a_range_and_one_at_the_end_shortens_it() {
        let all = ports("1024-65535");
        assert_eq!(all.without(&ports("8080")).to_string(), "1024-8079,8081-65535");
        assert_eq!(all.without(&ports("1-1024,65535")).to_string(), "1025-65534");
        assert_eq!(all.without(&all), Ports::NONE);
        assert_eq!(ports("1-10").common(&ports("5-20")).to_string(), "5-10");
    }

    #[test]
    fn the_largest_ranges_stay_in_order() {
        assert_eq!(ports("1-5,10,20-29,40-41").largest(2).to_string(), "1-5,20-29");
    }

    /// A small generator of numbers: the same on every run.
    fn random(state: &mut u64) -> u16 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 48) as u16
    }

    fn some(state: &mut u64) -> Ports {
        let count = random(state) % 40;
        (0..count)
            .map(|_| (random(state), random(state) % 300))
            .map(|(at, more)| (at, at.saturating_add(more)))
            .collect()
    }

    #[test]
    fn what_is_left_is_sorted_disjoint_and_exactly_what_no_hole_holds() {
        let mut state = 7;
        for _ in 0..200 {
            let (all, holes) = (some(&mut state), some(&mut state));
            let left = all.without(&holes);
            assert!(left.ranges().windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0)));
            for port in 0..=u16::MAX {
                let expected = all.contains(port) && !holes.contains(port);
                assert_eq!(left.contains(port), expected, "{port} of {all} without {holes}");
            }
        }
    }
}
