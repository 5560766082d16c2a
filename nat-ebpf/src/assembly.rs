//! What Rust cannot say: atomic operations on words of maps, and bounds that the verifier sees.

use core::arch::asm;

/// `value & MASK`, also where the compiler has proved that the mask changes nothing: its proof is lost on the
/// verifier.
#[inline(always)]
pub fn bound<const MASK: i32>(value: usize) -> usize {
    let mut value = value;
    // SAFETY: arithmetic on a register.
    unsafe { asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK) }
    value
}

/// 1 for all but 0: by arithmetic, where the compiler would branch.
#[inline(always)]
pub fn is_not_zero(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "{negative} = {value}",
            "{negative} = -{negative}",
            "{value} |= {negative}",
            "{value} >>= 63",
            value = inout(reg) value,
            negative = out(reg) _,
        );
    }
    value
}

/// The same number, of which the compiler knows nothing.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: does nothing.
    unsafe { asm!("/* {value} */", value = inout(reg) value) }
    value
}

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

/// Stores `new` in `word` if `old` stands there: whether it did. A full barrier.
#[inline(always)]
pub fn compare_and_swap(word: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: callers point to an aligned word of a map value, which the verifier checks.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") found,
        );
    }
    found == old
}

/// Stores `new` in `word`. A full barrier: whoever sees it sees all that was stored before.
#[inline(always)]
pub fn swap(word: *mut u64, new: u64) {
    // SAFETY: as for `compare_and_swap`.
    unsafe {
        asm!(
            "{new} = xchg_64({word} + 0, {new})",
            word = in(reg) word,
            new = inout(reg) new => _,
        );
    }
}

macro_rules! fetching {
    ($(#[$doc:meta] $name:ident = $operation:literal,)+) => {
        $(
            #[$doc]
            #[inline(always)]
            pub fn $name(word: *mut u64, operand: u64) -> u64 {
                let mut operand = operand;
                // SAFETY: as for `compare_and_swap`.
                unsafe {
                    asm!(
                        concat!("{operand} = atomic_fetch_", $operation, "((u64 *)({word} + 0), {operand})"),
                        word = in(reg) word,
                        operand = inout(reg) operand,
                    );
                }
                operand
            }
        )+
    };
}

fetching! {
    /// Adds to a word; what stood there. A full barrier.
    fetch_add = "add",
    /// Sets bits of a word; what stood there. A full barrier.
    fetch_or = "or",
    /// Keeps only these bits of a word; what stood there. A full barrier.
    fetch_and = "and",
}
