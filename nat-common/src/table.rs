//! The layout of `FLOWS4`: a hash table of our own in an array map.
//!
//! An entry is found in one of two neighbouring cache lines: a kernel hash map reads a bucket, then the elements chained
//! there. Keys
//! hash to a *group* of four entries, and to the one of them where the search begins. A flow that finds its group full
//! goes to the next group of its own sequence, and the group remembers that something went on from it.

use bytemuck::{Pod, Zeroable};

use crate::flow::FlowEntry4;

/// Entries in a group.
pub const GROUP_ENTRIES: u32 = 4;

/// Groups that one key may stand in. All of them are full with a probability below one in a million where the table is
/// half full, which is what it is made for: two flows to every group.
pub const MAX_PROBES: u32 = 8;

/// The value of `FLOWS4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowGroup4 {
    /// Flows, in no order.
    pub entries: [FlowEntry4; GROUP_ENTRIES as usize],
}

const _: () = assert!(size_of::<FlowGroup4>() == 256);

/// Bytes of kernel memory that a table with room for `sessions` takes.
#[must_use]
pub const fn table_bytes(sessions: u32) -> u64 {
    sessions as u64 * size_of::<FlowGroup4>() as u64
}

/// The secret of the hash. Who does not know it cannot make flows collide.
///
/// The hash is multilinear modulo 2^64, of which the upper half is strongly universal (Lemire and Kaser, "Strongly
/// universal string hashing is fast", 2014): any two keys meet with the probability of chance.
pub type Secret = [u64; 5];

/// What a table must keep to be of use to another program: how its keys became groups.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowHash {
    /// The secret.
    pub secret: Secret,
    /// Number of groups, at least 1.
    pub groups: u64,
}

/// Where the search for a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe(u64);

impl Probe {
    /// The first probe for a key, given as [`crate::flow::FlowKey4::words`].
    #[inline(always)]
    #[must_use]
    pub const fn first(secret: &Secret, words: [u64; 2]) -> Self {
        let low = 0xffff_ffff;
        let sum = secret[0]
            .wrapping_add((words[0] & low).wrapping_mul(secret[1]))
            .wrapping_add((words[0] >> 32).wrapping_mul(secret[2]))
            .wrapping_add((words[1] & low).wrapping_mul(secret[3]))
            .wrapping_add((words[1] >> 32).wrapping_mul(secret[4]));
        Self(sum)
    }

    /// The group of this probe, of so many.
    #[inline(always)]
    #[must_use]
    pub const fn group(self, groups: u32) -> u32 {
        (((self.0 >> 32) * groups as u64) >> 32) as u32
    }

    /// The entry of the group where the search begins; the others follow in the order of [`Probe::entry`].
    #[inline(always)]
    #[must_use]
    pub const fn home(self) -> u32 {
        (self.0 >> 32) as u32 & (GROUP_ENTRIES - 1)
    }

    /// The entry that is looked at as number `step`: the second is in the neighbouring cache line.
    #[inline(always)]
    #[must_use]
    pub const fn entry(self, step: u32) -> u32 {
        (self.home() ^ step) & (GROUP_ENTRIES - 1)
    }

    /// Bits of the hash that its group says nothing about, all but the lowest two.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u64 {
        self.next().0 & !3
    }

    /// The probe after this one: another group, given by all bits of the hash (a step of splitmix64).
    #[inline(always)]
    #[must_use]
    pub const fn next(self) -> Self {
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(mixed ^ (mixed >> 29))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey4;

    extern crate alloc;
    use alloc::{vec, vec::Vec};

    /// Numbers that look random and are the same every time (xorshift).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    fn secret(seed: u64) -> Secret {
        let mut random = Random(seed);
        core::array::from_fn(|_| random.next())
    }

    /// Both flows of session `number`: few hosts and remotes, ports one after the other, as hosts choose them.
    fn keys(number: u32, port: u16) -> [FlowKey4; 2] {
        let outbound = FlowKey4 {
            source: (0x0a00_0100 + number % 64).to_be(),
            destination: (0xc612_0000 + number / 64 % 1_024).to_be(),
            source_port: (1_024 + (number / 65_536) as u16).to_be(),
            destination_port: 443_u16.to_be(),
            protocol: 17,
            zone: 1,
            spare: [0; 2],
        };
        let inbound = FlowKey4 {
            source: outbound.destination,
            destination: 0xcb00_710a_u32.to_be(),
            source_port: outbound.destination_port,
            destination_port: port,
            zone: 0,
            ..outbound
        };
        [outbound, inbound]
    }

    /// Places flows as the data plane does; how many probes each took, by number, and those without a place.
    fn fill(secret: &Secret, groups: u32, sessions: u32) -> (Vec<u32>, u32) {
        let mut random = Random(77);
        let mut used = vec![0_u32; groups as usize];
        let (mut probes, mut homeless) = (vec![0; MAX_PROBES as usize], 0);
        for number in 0..sessions {
            for key in keys(number, random.next() as u16) {
                let mut probe = Probe::first(secret, key.words());
                let mut step = 0;
                while step < MAX_PROBES && used[probe.group(groups) as usize] == GROUP_ENTRIES {
                    probe = probe.next();
                    step += 1;
                }
                if step == MAX_PROBES {
                    homeless += 1;
                } else {
                    used[probe.group(groups) as usize] += 1;
                    probes[step as usize] += 1;
                }
            }
        }
        (probes, homeless)
    }

    #[test]
    fn as_many_sessions_as_groups_find_a_place_nearly_all_of_them_in_their_first_group() {
        for seed in 1..=3 {
            let (probes, homeless) = fill(&secret(seed), 200_000, 200_000);
            assert_eq!(homeless, 0, "{probes:?}");
            assert!(f64::from(probes[0]) > 0.93 * 400_000.0, "{probes:?}");
            assert!(probes[4..].iter().sum::<u32>() < 400, "{probes:?}");
        }
    }

    #[test]
    fn every_group_is_below_the_number_of_groups() {
        for groups in [1, 2, 3, 1_000, 67_108_864] {
            let mut probe = Probe::first(&secret(9), keys(1, 2)[0].words());
            for _ in 0..1_000 {
                assert!(probe.group(groups) < groups);
                probe = probe.next();
            }
        }
    }

    #[test]
    fn the_search_visits_every_entry_of_a_group_once() {
        for number in 0..64 {
            let probe = Probe(number << 32);
            let mut seen: Vec<u32> = (0..GROUP_ENTRIES).map(|step| probe.entry(step)).collect();
            assert_eq!(seen[0], probe.home());
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_key_that_differs_in_one_bit_hashes_elsewhere() {
        let group = |words| Probe::first(&secret(5), words).group(1 << 20);
        let words = keys(5, 6)[0].words();
        let others = (0..112).filter(|bit| {
            let mut other = words;
            other[bit / 64] ^= 1 << (bit % 64);
            group(other) == group(words)
        });
        assert_eq!(others.count(), 0);
    }
}
