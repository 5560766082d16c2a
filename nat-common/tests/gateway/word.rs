//! Words of a model's memory.

use nat_common::memory::Words;

/// An atomic word: the standard library's, or loom's.
pub trait Word: Sized {
    fn zero() -> Self;
    fn load(&self) -> u64;
    fn store(&self, value: u64);
    fn compare_and_swap(&self, old: u64, new: u64) -> bool;
    fn swap(&self, new: u64);
    fn or(&self, bits: u64) -> u64;
    fn and(&self, bits: u64) -> u64;
    fn add(&self, number: u64) -> u64;
    fn barrier();
    /// Another processor is at work: it shall come first.
    fn yield_now();
}

/// Words of a slice; numbers beyond it begin anew, so that models need not hold what they do not use.
pub struct Slice<'a, W>(pub &'a [W]);

impl<W> Clone for Slice<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Slice<'_, W> {}

impl<W> Slice<'_, W> {
    fn at(&self, word: u32) -> &W {
        &self.0[word as usize % self.0.len()]
    }
}

impl<W: Word> Words for Slice<'_, W> {
    fn load(self, word: u32) -> u64 {
        self.at(word).load()
    }

    fn store(self, word: u32, value: u64) {
        self.at(word).store(value);
    }

    fn compare_and_swap(self, word: u32, old: u64, new: u64) -> bool {
        self.at(word).compare_and_swap(old, new)
    }

    fn swap(self, word: u32, new: u64) {
        self.at(word).swap(new);
    }

    fn set(self, word: u32, bits: u64) -> u64 {
        self.at(word).or(bits)
    }

    fn clear(self, word: u32, bits: u64) -> u64 {
        self.at(word).and(!bits)
    }

    fn add(self, word: u32, number: u64) -> u64 {
        self.at(word).add(number)
    }

    fn barrier(self) {
        W::barrier();
    }
}
