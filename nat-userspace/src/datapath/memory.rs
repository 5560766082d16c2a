//! Maps mapped into memory, which the data plane goes on writing.

use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use aya::maps::MapData;
use nat_common::memory::Words;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of a mappable array map.
pub(super) struct Memory {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: the memory is shared with the kernel anyway; it is reached by atomic or volatile accesses alone.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps the first `length` bytes of `map`'s values, to be read.
    pub(super) fn readable(map: &MapData, length: usize) -> io::Result<Self> {
        Self::new(map, length, ProtFlags::PROT_READ)
    }

    /// The same to be read and written.
    pub(super) fn writable(map: &MapData, length: usize) -> io::Result<Self> {
        Self::new(map, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    fn new(map: &MapData, length: usize, protection: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(length).ok_or_else(|| io::Error::other("the map is empty"))?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0)? };
        Ok(Self { start, length })
    }

    /// The value of type `T` with this number.
    ///
    /// # Panics
    /// If the memory ends before it.
    pub(super) fn value<T>(&self, number: usize) -> *mut T {
        let end = (number + 1).checked_mul(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.length.get()), "value {number} lies beyond the map");
        // SAFETY: within the mapping, which begins on a page.
        unsafe { self.start.cast::<T>().as_ptr().add(number) }
    }

    /// So many words from word `first` on.
    ///
    /// # Panics
    /// If the memory ends before them.
    pub(super) fn words(&self, first: usize, count: usize) -> SharedWords<'_> {
        let _ = self.value::<u64>(first + count - 1);
        // SAFETY: within the mapping, aligned, and borrowed for no longer than it lives.
        SharedWords(unsafe { std::slice::from_raw_parts(self.value::<AtomicU64>(first), count) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows from it.
        if let Err(error) = unsafe { munmap(self.start, self.length.get()) } {
            tracing::warn!("cannot unmap a map: {error}");
        }
    }
}

/// Words that the data plane changes too.
#[derive(Clone, Copy)]
pub(super) struct SharedWords<'a>(&'a [AtomicU64]);

impl SharedWords<'_> {
    fn at(&self, word: u32) -> &AtomicU64 {
        &self.0[word as usize]
    }
}

impl Words for SharedWords<'_> {
    fn load(self, word: u32) -> u64 {
        self.at(word).load(Ordering::Acquire)
    }

    fn store(self, word: u32, value: u64) {
        self.at(word).store(value, Ordering::Release);
    }

    fn compare_and_swap(self, word: u32, old: u64, new: u64) -> bool {
        self.at(word).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn swap(self, word: u32, new: u64) {
        self.at(word).swap(new, Ordering::SeqCst);
    }

    fn set(self, word: u32, bits: u64) -> u64 {
        self.at(word).fetch_or(bits, Ordering::SeqCst)
    }

    fn clear(self, word: u32, bits: u64) -> u64 {
        self.at(word).fetch_and(!bits, Ordering::SeqCst)
    }

    fn add(self, word: u32, number: u64) -> u64 {
        self.at(word).fetch_add(number, Ordering::SeqCst)
    }

    fn barrier(self) {
        fence(Ordering::SeqCst);
    }
}
