//! Memory that several CPUs change at once, as the algorithms here see it: the data plane gives them words of its maps,
//! tests those of a model that tries every order of events.

/// Some 64-bit words. What a number beyond them reaches is the implementation's choice, but never other memory.
pub trait Words: Copy {
    /// Reads a word.
    fn load(self, word: u32) -> u64;
    /// Writes a word.
    fn store(self, word: u32, value: u64);
    /// Writes `new` if `old` stands there: whether it did. A full barrier.
    fn compare_and_swap(self, word: u32, old: u64, new: u64) -> bool;
    /// Writes a word. A full barrier: whoever sees it sees all that was written before.
    fn swap(self, word: u32, new: u64);
    /// Sets bits; the word before. A full barrier.
    fn set(self, word: u32, bits: u64) -> u64;
    /// Clears bits; the word before. A full barrier.
    fn clear(self, word: u32, bits: u64) -> u64;
    /// Adds, modulo 2^64; the word before. A full barrier.
    fn add(self, word: u32, number: u64) -> u64;
    /// What was stored before is seen by every CPU before anything after it is loaded.
    fn barrier(self);
}
