//! Every order of events (loom), in the memory that BPF programs see.

use loom::{
    sync::atomic::{AtomicU64, Ordering, fence},
    thread,
};

use crate::gateway::Word;

/// As the BPF memory model has it: plain loads and stores of a word, atomics that are full barriers.
impl Word for AtomicU64 {
    fn zero() -> Self {
        Self::new(0)
    }

    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    fn compare_and_swap(&self, old: u64, new: u64) -> bool {
        full(|| self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    fn swap(&self, new: u64) {
        full(|| self.swap(new, Ordering::AcqRel));
    }

    fn or(&self, bits: u64) -> u64 {
        full(|| self.fetch_or(bits, Ordering::AcqRel))
    }

    fn and(&self, bits: u64) -> u64 {
        full(|| self.fetch_and(bits, Ordering::AcqRel))
    }

    fn add(&self, number: u64) -> u64 {
        full(|| self.fetch_add(number, Ordering::AcqRel))
    }

    fn barrier() {
        fence(Ordering::SeqCst);
    }

    fn yield_now() {
        thread::yield_now();
    }
}

fn full<T>(operation: impl FnOnce() -> T) -> T {
    fence(Ordering::SeqCst);
    let result = operation();
    fence(Ordering::SeqCst);
    result
}

/// Tries every order of events with at most three changes of processor that nothing forces.
pub fn every_order(model: impl Fn() + Sync + Send + 'static) {
    every_order_within(3, model);
}

/// Tries every order of events with at most so many changes of processor that nothing forces.
#[allow(dead_code, reason = "each test uses a part")]
pub fn every_order_within(changes: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(changes);
    builder.max_branches = 100_000;
    builder.check(model);
}
