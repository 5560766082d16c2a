//! `UNANSWERED`: next hops that were asked for their MAC address and did not answer.

use bytemuck::{Pod, Zeroable};

/// Next hops that `UNANSWERED` remembers; beyond that, those used least are forgotten.
pub const MAX_UNANSWERED: u32 = 4_096;

/// How long a next hop counts as one that does not answer, in ticks since it was last found not to. The kernel gives up
/// after three seconds, and whoever still waits for it has it asked again.
pub const UNANSWERED_LIFETIME: u32 = 10;

/// Key of `UNANSWERED`; the value is the tick at which it was found not to answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Neighbour {
    /// The interface it would be reached by.
    pub ifindex: u32,
    /// Network order.
    pub address: u32,
}
