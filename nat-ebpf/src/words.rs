//! Words of map values.

use nat_common::memory::Words;

use crate::assembly::{self, bound, compare_and_swap, fetch_add, fetch_and, fetch_or, swap};

/// Words from a pointer into a map value on, at most one more than `LAST`, a power of two less one. The verifier checks
/// that they lie in the value.
#[derive(Clone, Copy)]
pub struct MapWords<const LAST: i32 = { i32::MAX }>(*mut u64);

impl<const LAST: i32> MapWords<LAST> {
    /// The words from here on.
    #[inline(always)]
    pub fn new(first: *mut u64) -> Self {
        Self(first)
    }

    /// Where they begin.
    #[inline(always)]
    pub fn pointer(self) -> *mut u64 {
        self.0
    }

    /// Numbers that the compiler knows need no bound.
    #[inline(always)]
    fn at(self, word: u32) -> *mut u64 {
        let word = if LAST == i32::MAX { word as usize } else { bound::<LAST>(word as usize) };
        self.0.wrapping_add(word)
    }
}

impl<const LAST: i32> Words for MapWords<LAST> {
    #[inline(always)]
    fn load(self, word: u32) -> u64 {
        // SAFETY: an aligned word of a map value, as the verifier checks.
        unsafe { self.at(word).read_volatile() }
    }

    #[inline(always)]
    fn store(self, word: u32, value: u64) {
        // SAFETY: as for `load`.
        unsafe { self.at(word).write_volatile(value) }
    }

    #[inline(always)]
    fn compare_and_swap(self, word: u32, old: u64, new: u64) -> bool {
        compare_and_swap(self.at(word), old, new)
    }

    #[inline(always)]
    fn swap(self, word: u32, new: u64) {
        swap(self.at(word), new);
    }

    #[inline(always)]
    fn set(self, word: u32, bits: u64) -> u64 {
        fetch_or(self.at(word), bits)
    }

    #[inline(always)]
    fn clear(self, word: u32, bits: u64) -> u64 {
        fetch_and(self.at(word), !bits)
    }

    #[inline(always)]
    fn add(self, word: u32, number: u64) -> u64 {
        fetch_add(self.at(word), number)
    }

    #[inline(always)]
    fn barrier(self) {
        assembly::barrier();
    }
}
