//! The one ordering that plain loads and stores do not give.

use core::arch::asm;

/// A full memory barrier: what was stored before it is seen by every CPU before anything after it is loaded.
#[inline(always)]
pub fn barrier() {
    let mut word = 0_u64;
    // SAFETY: adds zero to a local; fetching atomics are fully ordered in the BPF memory model.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({pointer} + 0), {value})",
            value = inout(reg) 0_u64 => _,
            pointer = in(reg) &raw mut word,
        );
    }
}
