//! Has the processor fetch what a new session will need, while it waits for what shows that the session is new.
//!
//! It goes on past a load that misses the cache, for some hundred instructions: so this pays only right behind the search that
//! fails, and in few of them. What comes later, as the NACLs do, comes when the wait is over.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use nat_common::{
    flow::{FlowKey4, OUTSIDE},
    foresight::Foresight,
    ports::Walk,
};

use crate::{maps::FORESIGHT, table};

/// Fetches the group where the inbound flow of a session with this outbound key will probably stand.
#[inline(always)]
pub fn inbound(outbound: &FlowKey4) {
    if outbound.zone != OUTSIDE {
        flow_foresee(outbound);
    }
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn flow_foresee(outbound: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let (Some(outbound), Some(foresight)) = (unsafe { outbound.as_ref() }, of_this_cpu()) else { return 0 };
    if let Some(inbound) = foresight.inbound(outbound) {
        table::fetch(&inbound);
    }
    0
}

/// The uniform number that was drawn for the next session's port, if it has not been used.
#[inline(always)]
pub fn draw() -> Option<u32> {
    of_this_cpu()?.draw()
}

/// Remembers that a session of the host `source` got a port out of `walk` at `address` (both in network order).
#[inline(always)]
pub fn remember(source: u32, address: u32, walk: &Walk) {
    if let Some(foresight) = of_this_cpu() {
        // SAFETY: the helper takes no arguments.
        foresight.remember(source, address, walk, unsafe { bpf_get_prandom_u32() });
    }
}

#[inline(always)]
fn of_this_cpu() -> Option<&'static mut Foresight> {
    // SAFETY: the entry is this CPU's own, and only one packet at a time is looked at on it.
    FORESIGHT.get_ptr_mut(0).map(|foresight| unsafe { &mut *foresight })
}
