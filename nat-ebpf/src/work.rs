//! Instructions that do nothing, as many as a translation may take.

use core::arch::asm;

/// 256 additions that nothing waits for.
#[inline(always)]
pub fn work() {
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "{0} = 0", "{1} = 0", "{2} = 0", "{3} = 0",
            ".rept 64", "{0} += 1", "{1} += 1", "{2} += 1", "{3} += 1", ".endr",
            out(reg) _, out(reg) _, out(reg) _, out(reg) _,
        );
    }
}
