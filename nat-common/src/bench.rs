//! What the benchmark driver needs to make packets of known flows.

use bytemuck::{Pod, Zeroable};

/// Flows the driver can cycle through.
pub const MAX_FLOWS: u32 = 1 << 20;

/// The driver's orders, the one entry of `BENCH_ORDERS`. The flows themselves stand in `BENCH_FLOWS` as
/// [`crate::flow::FlowKey4`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Orders {
    /// How many flows to cycle through, at least 1.
    pub flows: u32,
    /// Index of the next flow.
    pub next: u32,
}
