//! One's complement sums over parts of a packet, also of those that pointers do not reach.

use crate::{
    assembly::bound,
    maps::{SCRATCH, SCRATCH_BYTES},
    packet::Packet,
};

/// The longest part that is summed: a packet of an ordinary link.
pub const LONGEST: usize = 1_500;

/// Words of the scratch buffer.
const WORDS: usize = SCRATCH_BYTES / 4;

const _: () = assert!(LONGEST.div_ceil(4) < WORDS && WORDS.is_power_of_two());

/// The sum of `length` bytes from `offset` on; `None` where the packet has fewer, or where they are more than
/// [`LONGEST`].
#[inline(always)]
pub fn of<P: Packet>(packet: &P, offset: usize, length: usize) -> Option<u64> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    if length > LONGEST {
        return None;
    }
    // SAFETY: the entry is this CPU's own, and 8-aligned as every map value.
    let (words, bytes) = unsafe { (scratch.cast::<u32>(), &mut *scratch) };
    // The last word may have fewer bytes than four.
    // SAFETY: in bounds by the mask; volatile because the helper writes behind the compiler's back.
    unsafe { words.add(bound::<{ WORDS as i32 - 1 }>(length / 4)).write_volatile(0) };
    if !packet.copy_out(offset, bytes, length) {
        return None;
    }
    Some(scratch_sum(length as u32))
}

/// The sum of the first `length` bytes of the scratch buffer, whole words of it. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn scratch_sum(length: u32) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr(0) else { return 0 };
    // Where the verifier sees it too.
    let words = bound::<{ WORDS as i32 - 1 }>(length.div_ceil(4) as usize);
    let mut sum = 0_u64;
    let mut word = 0;
    while word < words {
        // SAFETY: in bounds by the loop's condition; volatile as above.
        sum += u64::from(unsafe { scratch.cast::<u32>().add(word).read_volatile() });
        word += 1;
    }
    sum
}
