//! What a NAT gateway lets one internal host take.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ports::Ports;

/// Limits of one host, and its blocks of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerHost {
    /// Sessions open at a time; 0: no limit.
    pub max_sessions: u32,
    /// Sessions, and so ports, toward one remote address, port and protocol; 0: no limit.
    pub max_ports_per_destination: u32,
    /// New sessions in a second, all of which may come at once; 0: no limit.
    pub new_sessions_per_second: u32,
    /// The blocks of ports that its sessions are confined to.
    pub blocks: Option<Blocks>,
}

/// Blocks of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Ports of a block: a power of two, 64 to 32,768. A block begins at a multiple of it.
    pub size: u16,
    /// Blocks that one host may hold, 1 to 8.
    pub max: u8,
    /// Whether a host's block is computed from its address (RFC 7422).
    pub deterministic: bool,
}

impl Blocks {
    /// The numbers of the blocks that lie whole in these ports: a block's number times its size is its first port.
    #[must_use]
    pub fn numbers(&self, ports: &Ports) -> BTreeSet<u32> {
        let size = u32::from(self.size);
        let whole =
            |&(first, last): &(u16, u16)| u32::from(first).div_ceil(size)..(u32::from(last) + 1) / size;
        ports.ranges().iter().flat_map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_at_multiples_of_their_size_and_lie_whole_in_the_ports() {
        let numbers = |size, first, last| {
            Blocks { size, max: 1, deterministic: false }.numbers(&Ports::range(first, last))
        };
        assert_eq!(numbers(64, 1_024, 65_535), (16..1_024).collect());
        assert_eq!(numbers(2_048, 1_024, 65_535), (1..32).collect());
        assert_eq!(numbers(64, 1_000, 1_100), [16].into());
        assert_eq!(numbers(64, 1_025, 1_100), [].into());
        assert_eq!(numbers(32_768, 1, 65_535), [1].into());
        let holes = Ports::range(1_024, 1_279).without(&Ports::range(1_100, 1_100));
        assert_eq!(Blocks { size: 64, max: 1, deterministic: false }.numbers(&holes), [16, 18, 19].into());
    }
}
