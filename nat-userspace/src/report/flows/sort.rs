//! The order of sessions.

use std::{cmp::Ordering, net::Ipv4Addr};

use clap::ValueEnum;

use super::{FlowProtocol, FlowReport};

/// What sessions are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlowSort {
    /// Source address and port
    #[default]
    Source,
    /// Destination address and port
    Destination,
    /// Seconds since the first packet
    Age,
    /// Seconds since the last packet
    Idle,
    /// Packets of both directions
    Packets,
    /// Bytes of both directions
    Bytes,
}

impl FlowSort {
    /// Sorts `flows`, lowest first, or highest first if `reverse`. What is equal stands in the order of sources, so
    /// that the same sessions always stand in the same order.
    pub fn sort(self, flows: &mut [FlowReport<'_>], reverse: bool) {
        flows.sort_unstable_by(|a, b| {
            let order = self.compare(a, b);
            let order = if reverse { order.reverse() } else { order };
            order.then_with(|| source(a).cmp(&source(b)))
        });
    }

    fn compare(self, a: &FlowReport<'_>, b: &FlowReport<'_>) -> Ordering {
        match self {
            Self::Source => source(a).cmp(&source(b)),
            Self::Destination => destination(a).cmp(&destination(b)),
            Self::Age => a.age_seconds.cmp(&b.age_seconds),
            Self::Idle => a.idle_seconds.cmp(&b.idle_seconds),
            Self::Packets => packets(a).cmp(&packets(b)),
            Self::Bytes => bytes(a).cmp(&bytes(b)),
        }
    }
}

/// Different for every session of a VPC.
fn source(flow: &FlowReport<'_>) -> (Ipv4Addr, u16, Ipv4Addr, u16, FlowProtocol) {
    (flow.source, flow.source_port, flow.destination, flow.destination_port, flow.protocol)
}

fn destination(flow: &FlowReport<'_>) -> (Ipv4Addr, u16) {
    (flow.destination, flow.destination_port)
}

fn packets(flow: &FlowReport<'_>) -> u64 {
    flow.packets_out.saturating_add(flow.packets_in)
}

fn bytes(flow: &FlowReport<'_>) -> u64 {
    flow.bytes_out.saturating_add(flow.bytes_in)
}
