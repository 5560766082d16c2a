//! What the data plane says in words: rare events, for a person who looks for a fault. Off unless the controller asks
//! for a level at load, and then the verifier removes it from the program: it costs nothing.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::{debug, error, info, warn};
use nat_common::drop::DropReason;

use crate::parse::Parsed;

/// A packet was refused for a reason that somebody may have to do something about.
#[inline(always)]
pub fn refused<C: EbpfContext>(context: &C, reason: DropReason, parsed: &Parsed) {
    let source = u32::from_be(parsed.key.source);
    let destination = u32::from_be(parsed.key.destination);
    let port = u16::from_be(parsed.key.destination_port);
    match reason {
        DropReason::NotConfigured => error!(context, "a packet met no configuration"),
        DropReason::TableFull => {
            error!(context, "the session table is full: {:i} to {:i}:{}", source, destination, port)
        }
        DropReason::ErrorPortAllocation => {
            warn!(context, "no free port: {:i} to {:i}:{}", source, destination, port);
        }
        DropReason::Unreachable => info!(context, "no way: {:i} to {:i}", source, destination),
        DropReason::NoNeighbour => debug!(context, "next hop unknown: {:i} to {:i}", source, destination),
        _ => {}
    }
}
