//! Sessions, joined from their two flows.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use nat_common::{
    clock,
    flow::{self, Direction, FlowEntry4, FlowKey4},
    protocol,
    tcp::{self, Phase},
};
use nix::time::{ClockId, clock_gettime};

use super::{DatapathError, Maps, batch};

const NAME: &str = "FLOWS4";

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

impl Session {
    /// Ticks since the last packet of either direction.
    #[must_use]
    pub fn idle(&self, now: u32) -> u32 {
        let last = self.outbound.last_seen.max(self.inbound.last_seen);
        now.saturating_sub(last)
    }

    /// The sessions whose `flows` these are, in no order.
    #[must_use]
    pub fn join(flows: &[(FlowKey4, FlowEntry4)]) -> Vec<Self> {
        // Maps, because a walk may see an entry twice.
        let (outbound, inbound): (HashMap<_, _>, HashMap<_, _>) =
            flows.iter().copied().partition(|(key, _)| key.direction() == Direction::Outbound);
        let sessions = outbound.iter().map(|(key, entry)| {
            let other = inbound.get(&entry.other_key(key)).copied().unwrap_or_default();
            join(key, entry, &other)
        });
        sessions.collect()
    }
}

/// The tick of this moment, as the data plane counts them.
#[must_use]
pub fn now() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .unwrap_or_else(|_| unreachable!("every Linux has this clock"));
    clock::ticks(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl Maps {
    /// Every session that is open now, in no order.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn sessions(&self) -> Result<Vec<Session>, DatapathError> {
        Ok(Session::join(&self.flows()?))
    }

    /// Every flow as it stands in the table.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn flows(&self) -> Result<Vec<(FlowKey4, FlowEntry4)>, DatapathError> {
        let mut flows = Vec::new();
        batch::for_each(&self.flows, |key, entry| flows.push((*key, *entry)))
            .map_err(DatapathError::access("read", NAME))?;
        Ok(flows)
    }
}

fn join(key: &FlowKey4, outbound: &FlowEntry4, inbound: &FlowEntry4) -> Session {
    let flow =
        |entry: &FlowEntry4| Flow { packets: entry.packets, bytes: entry.bytes, last_seen: entry.last_seen };
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
