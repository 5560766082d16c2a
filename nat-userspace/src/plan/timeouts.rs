//! Idle timeouts in ticks.

use nat_common::{
    clock::{SHORTEST_TIMEOUT, ticks_from_seconds},
    config as map,
};

use crate::config;

/// The idle timeouts as the data plane counts them, in ticks.
#[must_use]
pub fn timeouts(seconds: &config::Timeouts) -> map::Timeouts {
    let config::Timeouts {
        tcp_established,
        tcp_transitory,
        tcp_closing,
        udp,
        icmp,
        inbound_refresh,
        fragments,
    } = *seconds;
    map::Timeouts {
        tcp_established: timeout(tcp_established),
        tcp_transitory: timeout(tcp_transitory),
        tcp_closing: timeout(tcp_closing),
        udp: timeout(udp),
        icmp: timeout(icmp),
        outbound_alone: (!inbound_refresh).into(),
        fragments: ticks_from_seconds(fragments),
    }
}

/// Ageing tells a session in use from an idle one by two ticks at least.
fn timeout(seconds: u64) -> u32 {
    ticks_from_seconds(seconds).max(SHORTEST_TIMEOUT)
}
