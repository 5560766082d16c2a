//! `flows`: sessions, filtered and sorted.

mod filter;
mod sort;

use std::{borrow::Cow, collections::HashMap, net::Ipv4Addr};

use clap::ValueEnum;
use nat_common::{clock::seconds_from_ticks, config::Timeouts, protocol, tcp::Phase};
use serde::Serialize;

pub use filter::{FlowFilter, NotFound};
pub use sort::FlowSort;

use crate::{
    datapath::{Applied, Session},
    plan,
};

/// One session. Where there are no ports, all of them are 0. For ICMP queries `source_port` is the host's identifier, `elastic_port` the one that the outside
/// sees, and `destination_port` 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowReport<'a> {
    /// What it speaks.
    pub protocol: FlowProtocol,
    /// The VPC of the private host; `zone N` if the VPC is no longer configured.
    pub vpc: Cow<'a, str>,
    /// The private host.
    pub source: Ipv4Addr,
    /// Its port.
    pub source_port: u16,
    /// What the outside sees in place of `source`.
    pub elastic_ip: Ipv4Addr,
    /// What the outside sees in place of `source_port`.
    pub elastic_port: u16,
    /// The remote.
    pub destination: Ipv4Addr,
    /// Its port.
    pub destination_port: u16,
    /// The NAT gateway that owns the Elastic IP; null if the address is no longer configured.
    pub nat_gateway: Option<&'a str>,
    /// How far the conversation has got.
    pub state: FlowState,
    /// Seconds since the first packet.
    pub age_seconds: u64,
    /// Seconds since the last packet of either direction.
    pub idle_seconds: u64,
    /// Seconds until the session ends, if no packet comes; 0 if it is due.
    pub expires_seconds: u64,
    /// Packets translated outbound.
    pub packets_out: u64,
    /// Bytes of IP in them.
    pub bytes_out: u64,
    /// Packets translated inbound.
    pub packets_in: u64,
    /// Bytes of IP in them.
    pub bytes_in: u64,
}

/// A protocol that is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum FlowProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP queries
    Icmp,
    /// GRE
    Gre,
    /// ESP
    Esp,
}

impl FlowProtocol {
    /// The written form, the same in JSON and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Gre => "gre",
            Self::Esp => "esp",
        }
    }

    /// The data plane opens sessions of these protocols only.
    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            protocol::TCP => Self::Tcp,
            protocol::UDP => Self::Udp,
            protocol::GRE => Self::Gre,
            protocol::ESP => Self::Esp,
            _ => Self::Icmp,
        }
    }
}

/// How far a session has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum FlowState {
    /// TCP before the handshake is complete
    Opening,
    /// TCP with data in both directions
    Established,
    /// TCP after one side's FIN
    #[value(alias = "half-closed")]
    HalfClosed,
    /// TCP after both sides' FIN, or a RST
    Closing,
    /// Everything but TCP, which has no states
    Active,
}

impl FlowState {
    /// The written form, the same in JSON and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::HalfClosed => "half_closed",
            Self::Closing => "closing",
            Self::Active => "active",
        }
    }

    const fn of(phase: Option<Phase>) -> Self {
        match phase {
            Some(Phase::Opening) => Self::Opening,
            Some(Phase::Established) => Self::Established,
            Some(Phase::HalfClosed) => Self::HalfClosed,
            Some(Phase::Closing) => Self::Closing,
            None => Self::Active,
        }
    }
}

/// Reports on `sessions` at the tick `now`, in their order.
#[must_use]
pub fn flows<'a>(applied: &'a Applied, sessions: &[Session], now: u32) -> Vec<FlowReport<'a>> {
    let names = Names::of(applied);
    sessions.iter().map(|session| names.report(session, now)).collect()
}

/// What a session's numbers mean under the configuration in force.
pub(super) struct Names<'a> {
    applied: &'a Applied,
    timeouts: Timeouts,
    gateways: HashMap<Ipv4Addr, &'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn of(applied: &'a Applied) -> Self {
        let in_use = applied.config.nat_gateways.iter();
        let in_use = in_use
            .flat_map(|gateway| gateway.elastic_ips.iter().map(|address| (*address, gateway.name.as_str())));
        let draining = applied.draining.iter().map(|drain| (drain.address(), drain.nat_gateway.as_str()));
        let gateways = in_use.chain(draining).collect();
        Self { applied, timeouts: plan::timeouts(&applied.config.timeouts), gateways }
    }

    fn report(&self, session: &Session, now: u32) -> FlowReport<'a> {
        let idle = session.idle(now);
        FlowReport {
            protocol: FlowProtocol::from_number(session.protocol),
            vpc: self.vpc(session.zone),
            source: *session.internal.ip(),
            source_port: session.internal.port(),
            elastic_ip: *session.external.ip(),
            elastic_port: session.external.port(),
            destination: *session.remote.ip(),
            destination_port: session.remote.port(),
            nat_gateway: self.gateway(*session.external.ip()),
            state: FlowState::of(session.phase),
            age_seconds: seconds_from_ticks(now.saturating_sub(session.opened)),
            idle_seconds: seconds_from_ticks(idle),
            expires_seconds: seconds_from_ticks(self.timeout(session).saturating_sub(idle)),
            packets_out: session.outbound.packets,
            bytes_out: session.outbound.bytes,
            packets_in: session.inbound.packets,
            bytes_in: session.inbound.bytes,
        }
    }

    /// In ticks.
    fn timeout(&self, session: &Session) -> u32 {
        // Without TCP no phase makes a difference.
        self.timeouts.of(session.protocol, session.phase.unwrap_or(Phase::Established))
    }

    /// The NAT gateway of an Elastic IP.
    pub(super) fn gateway(&self, address: Ipv4Addr) -> Option<&'a str> {
        self.gateways.get(&address).copied()
    }

    pub(super) fn vpc(&self, zone: u8) -> Cow<'a, str> {
        let vpc =
            usize::from(zone).checked_sub(1).and_then(|position| self.applied.config.vpcs.get(position));
        vpc.map_or_else(|| format!("zone {zone}").into(), |vpc| vpc.name.as_str().into())
    }
}

#[cfg(test)]
mod tests;
