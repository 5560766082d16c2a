//! Sessions, joined from their two flows.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use nat_common::{
    clock,
    flow::{self, Direction, FlowEntry4, FlowKey4},
    mapping::{is_mapping, protocol_of},
    protocol,
    tcp::{self, Phase},
};
use nix::time::{ClockId, clock_gettime};

use super::{DatapathError, Maps, table};

/// One direction of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets translated.
    pub packets: u64,
    /// Bytes of IP translated.
    pub bytes: u64,
    /// Tick of the last packet.
    pub last_seen: u32,
}

/// A session. For ICMP the ports of the internal and external endpoints are identifiers, and the remote's is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// IP protocol number.
    pub protocol: u8,
    /// The VPC, counted from 1.
    pub zone: u8,
    /// The private host.
    pub internal: SocketAddrV4,
    /// The Elastic IP and the port lent to the session.
    pub external: SocketAddrV4,
    /// The far end.
    pub remote: SocketAddrV4,
    /// How far a TCP connection has got; `None` for other protocols.
    pub phase: Option<Phase>,
    /// Tick of the first packet.
    pub opened: u32,
    /// What went out.
    pub outbound: Flow,
    /// What came in.
    pub inbound: Flow,
}

/// A mapping that does not depend on the remote. For ICMP the ports are identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// IP protocol number.
    pub protocol: u8,
    /// The VPC, counted from 1.
    pub zone: u8,
    /// The private host.
    pub internal: SocketAddrV4,
    /// The Elastic IP and the port lent to it.
    pub external: SocketAddrV4,
    /// Sessions that keep it.
    pub sessions: u32,
    /// Tick of its beginning.
    pub opened: u32,
}

impl Session {
    /// Ticks since the last packet of either direction.
    #[must_use]
    pub fn idle(&self, now: u32) -> u32 {
        let last = self.outbound.last_seen.max(self.inbound.last_seen);
        now.saturating_sub(last)
    }

    /// The sessions whose `flows` these are, in no order.
    #[must_use]
    pub fn join(flows: &[FlowEntry4]) -> Vec<Self> {
        // A map of the outbound ones too: a flow that ends and begins anew during a walk may be seen twice.
        let by_key = flows.iter().map(|flow| (flow.key(), *flow));
        let (outbound, inbound): (HashMap<_, _>, HashMap<_, _>) =
            by_key.partition(|(key, _)| key.direction() == Direction::Outbound);
        let outbound = outbound.iter().filter(|(key, _)| !is_mapping(key.protocol));
        let sessions = outbound.map(|(key, entry)| {
            let other = inbound.get(&entry.other_key(key)).copied().unwrap_or_default();
            join(key, entry, &other)
        });
        sessions.collect()
    }
}

/// The tick of this moment, as the data plane counts them.
#[must_use]
pub fn now() -> u32 {
    clock::ticks(nanoseconds())
}

/// The millisecond of this moment on the same clock, which every process of the host reads alike.
#[must_use]
pub fn milliseconds() -> u64 {
    nanoseconds() / 1_000_000
}

fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .unwrap_or_else(|_| unreachable!("every Linux has this clock"));
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

impl Maps {
    /// Every session that is open now, in no order.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn sessions(&self) -> Result<Vec<Session>, DatapathError> {
        Ok(Session::join(&self.flows()?))
    }

    /// Every mapping that does not depend on the remote, in no order.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn mappings(&self) -> Result<Vec<Mapping>, DatapathError> {
        let mut mappings = Vec::new();
        table::for_each(&self.flows, |flow| {
            let key = flow.key();
            if is_mapping(key.protocol) && key.direction() == Direction::Outbound {
                mappings.push(Mapping {
                    protocol: protocol_of(key.protocol),
                    zone: key.zone,
                    internal: endpoint(key.source_address(), key.source_port),
                    external: endpoint(flow::address(flow.address), flow.port),
                    sessions: flow.packets,
                    opened: flow.opened,
                });
            }
        })?;
        Ok(mappings)
    }

    /// Has every session look as if `ticks` more had passed since its last packet: tests let time pass without waiting.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn let_pass(&self, ticks: u32) -> Result<(), DatapathError> {
        table::let_pass(&self.flows, ticks)
    }

    /// Every flow as it stands in the table.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn flows(&self) -> Result<Vec<FlowEntry4>, DatapathError> {
        let mut flows = Vec::new();
        table::for_each(&self.flows, |flow| flows.push(*flow))?;
        Ok(flows)
    }
}

fn join(key: &FlowKey4, outbound: &FlowEntry4, inbound: &FlowEntry4) -> Session {
    let flow = |entry: &FlowEntry4| Flow {
        packets: entry.packet_count(),
        bytes: entry.byte_count(),
        last_seen: entry.last_seen,
    };
    let phase = (key.protocol == protocol::TCP).then(|| tcp::phase(outbound.tcp_seen, inbound.tcp_seen));
    Session {
        protocol: key.protocol,
        zone: key.zone,
        internal: endpoint(key.source_address(), key.source_port),
        external: endpoint(flow::address(outbound.address), outbound.port),
        remote: endpoint(key.destination_address(), key.destination_port),
        phase,
        opened: outbound.opened,
        outbound: flow(outbound),
        inbound: flow(inbound),
    }
}

fn endpoint(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, u16::from_be(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outbound and the inbound flow of a TCP session that has got as far as SYN and SYN-ACK.
    fn flows() -> [FlowEntry4; 2] {
        let internal = flow::raw(Ipv4Addr::new(10, 0, 1, 5));
        let key = FlowKey4 {
            source: internal,
            destination: flow::raw(Ipv4Addr::new(192, 0, 2, 80)),
            source_port: 40_000_u16.to_be(),
            destination_port: 443_u16.to_be(),
            protocol: protocol::TCP,
            zone: 1,
            spare: [0; 2],
        };
        let external = flow::raw(Ipv4Addr::new(203, 0, 113, 10));
        let outbound = FlowEntry4 {
            address: external,
            port: 1_024_u16.to_be(),
            tcp_seen: tcp::SYN,
            vpc: 1,
            opened: 5,
            last_seen: 6,
            packets: 1,
            ..FlowEntry4::of(&key)
        };
        let inbound = FlowEntry4 {
            address: internal,
            port: key.source_port,
            tcp_seen: tcp::SYN,
            vpc: 1,
            opened: 5,
            last_seen: 9,
            packets: 2,
            ..FlowEntry4::of(&outbound.other_key(&key))
        };
        [outbound, inbound]
    }

    #[test]
    fn the_two_flows_of_a_session_are_joined_into_one() {
        let sessions = Session::join(&flows());
        let [session] = sessions[..] else { panic!("{sessions:?}") };
        assert_eq!(session.internal, "10.0.1.5:40000".parse().unwrap());
        assert_eq!(session.external, "203.0.113.10:1024".parse().unwrap());
        assert_eq!(session.remote, "192.0.2.80:443".parse().unwrap());
        assert_eq!((session.outbound.packets, session.inbound.packets), (1, 2));
        assert_eq!((session.phase, session.idle(10)), (Some(Phase::Opening), 1));
    }

    #[test]
    fn a_flow_that_a_walk_saw_twice_is_one_session() {
        let [outbound, inbound] = flows();
        assert_eq!(Session::join(&[outbound, inbound, outbound, inbound]).len(), 1);
    }

    #[test]
    fn a_session_whose_inbound_flow_was_missed_is_shown_without_it() {
        let [outbound, inbound] = flows();
        let sessions = Session::join(&[outbound]);
        assert_eq!((sessions.len(), sessions[0].inbound), (1, Flow::default()));
        assert!(Session::join(&[inbound]).is_empty());
    }
}
