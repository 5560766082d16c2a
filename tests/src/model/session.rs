//! The sessions, and how far a TCP connection has got (RFC 7857 §2).

use std::{collections::HashMap, net::Ipv4Addr};

use super::{
    mutation::Mutation,
    packet::flag::{ACK, FIN, RST, SYN},
    world::Timeouts,
};

/// Address and port; of an ICMP query, the identifier is the port of the side that asks, and the other has 0.
pub type Endpoint = (Ipv4Addr, u16);
/// IP protocol number.
pub type Protocol = u8;

/// How far a TCP connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The handshake is not complete.
    Opening,
    /// Both directions carry data.
    Established,
    /// One direction has ended.
    HalfClosed,
    /// Both have, or it was reset.
    Closing,
}

/// One direction of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Half {
    /// When its last packet came.
    pub last: u64,
    /// How many came.
    pub packets: u64,
    /// How many bytes of IP they had.
    pub bytes: u64,
    /// Under which configuration it was last asked whether it may pass.
    pub judged: u64,
    any: bool,
    plain: bool,
    fin: bool,
    rst: bool,
}

impl Half {
    /// A direction that begins now, allowed under this configuration.
    pub fn begun(last: u64, judged: u64) -> Self {
        Self { last, judged, ..Self::default() }
    }

    /// Takes note of a segment's flags.
    fn segment(&mut self, flags: u8, mutation: Option<Mutation>) {
        if flags & SYN != 0 && mutation != Some(Mutation::SynBeginsNothing) {
            // A SYN begins anew: a tuple may be used again within TIME_WAIT.
            *self = Self { any: true, plain: false, fin: false, rst: false, ..*self };
            return;
        }
        self.any = true;
        self.fin |= flags & FIN != 0;
        self.rst |= flags & RST != 0;
        self.plain |= flags & (SYN | FIN | RST) == 0;
    }
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// IP protocol number.
    pub protocol: Protocol,
    /// The private host.
    pub internal: Endpoint,
    /// The Elastic IP and the port lent.
    pub external: Endpoint,
    /// The far end.
    pub remote: Endpoint,
    /// What the host sends.
    pub outbound: Half,
    /// What the remote sends.
    pub inbound: Half,
    /// Where the host's stream ended, if it has.
    pub end: Option<u32>,
}

/// What can be seen of a session from outside the gateway's code.
pub type Summary = (Protocol, Endpoint, Endpoint, Endpoint, Option<Phase>, [u64; 4]);

impl Session {
    /// How far its connection has got; `None` unless it is TCP.
    pub fn phase(&self, mutation: Option<Mutation>) -> Option<Phase> {
        if self.protocol != 6 {
            return None;
        }
        let (host, remote) = (self.outbound, self.inbound);
        let closed = host.fin && remote.fin;
        let half_closed = host.fin || remote.fin;
        let closing = closed || (half_closed && mutation == Some(Mutation::OneFinCloses));
        Some(if host.rst || remote.rst || closing {
            Phase::Closing
        } else if half_closed {
            Phase::HalfClosed
        } else if remote.any && host.plain {
            Phase::Established
        } else {
            Phase::Opening
        })
    }

    /// Whether it was closed by both sides in good order.
    pub fn is_closed(&self) -> bool {
        self.outbound.fin && self.inbound.fin && !self.outbound.rst && !self.inbound.rst
    }

    /// Takes note of a packet.
    pub fn seen(&mut self, outward: bool, now: u64, bytes: u64, tcp: Option<u8>, mutation: Option<Mutation>) {
        let half = if outward { &mut self.outbound } else { &mut self.inbound };
        half.packets += 1;
        half.bytes += bytes;
        if outward || mutation != Some(Mutation::InboundRefreshesNothing) {
            half.last = now;
        }
        if let Some(flags) = tcp {
            half.segment(flags, mutation);
        }
    }

    /// Since when no packet has come.
    pub fn last(&self) -> u64 {
        self.outbound.last.max(self.inbound.last)
    }

    /// Whether it was idle for longer than it may be.
    pub fn is_over(&self, now: u64, timeouts: &Timeouts, mutation: Option<Mutation>) -> bool {
        let timeout = match (self.protocol, self.phase(mutation)) {
            (_, Some(Phase::Opening)) => timeouts.transitory,
            (_, Some(Phase::Closing)) if mutation == Some(Mutation::ClosedLivesOn) => timeouts.established,
            (_, Some(Phase::Closing)) => timeouts.closing,
            (_, Some(Phase::Established | Phase::HalfClosed)) => timeouts.established,
            (17, None) => timeouts.udp,
            (_, None) => timeouts.icmp,
        };
        now - self.last() > timeout
    }

    /// What can be seen of it.
    pub fn summary(&self) -> Summary {
        let Self { outbound, inbound, .. } = self;
        let traffic = [outbound.packets, outbound.bytes, inbound.packets, inbound.bytes];
        (self.protocol, self.internal, self.external, self.remote, self.phase(None), traffic)
    }
}

/// All sessions, found from either side.
#[derive(Clone, Debug, Default)]
pub struct Table {
    sessions: HashMap<(Protocol, Endpoint, Endpoint), Session>,
    inward: HashMap<(Protocol, Endpoint, Endpoint), Endpoint>,
}

impl Table {
    /// The session of a host's endpoint toward a remote.
    pub fn outbound(&mut self, of: Protocol, internal: Endpoint, remote: Endpoint) -> Option<&mut Session> {
        self.sessions.get_mut(&(of, internal, remote))
    }

    /// The session of an external endpoint toward a remote.
    pub fn inbound(&mut self, of: Protocol, external: Endpoint, remote: Endpoint) -> Option<&mut Session> {
        let internal = self.inward.get(&(of, external, remote))?;
        self.sessions.get_mut(&(of, *internal, remote))
    }

    /// Any session of an external endpoint with this remote address.
    pub fn inbound_from(
        &mut self,
        of: Protocol,
        external: Endpoint,
        remote: Ipv4Addr,
    ) -> Option<&mut Session> {
        let fits = |session: &&mut Session| {
            session.protocol == of && session.external == external && session.remote.0 == remote
        };
        self.sessions.values_mut().find(fits)
    }

    /// Whether an external endpoint is taken toward a remote.
    pub fn is_taken(&self, of: Protocol, external: Endpoint, remote: Endpoint) -> bool {
        self.inward.contains_key(&(of, external, remote))
    }

    /// Begins a session.
    pub fn insert(&mut self, session: Session) {
        let Session { protocol, internal, external, remote, .. } = session;
        self.inward.insert((protocol, external, remote), internal);
        self.sessions.insert((protocol, internal, remote), session);
    }

    /// Ends a session.
    pub fn remove(&mut self, session: &Session) {
        self.inward.remove(&(session.protocol, session.external, session.remote));
        self.sessions.remove(&(session.protocol, session.internal, session.remote));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }
}

/// Whether a segment is one that a connection begins with.
pub const fn is_syn(flags: u8) -> bool {
    flags & (SYN | ACK | FIN | RST) == SYN
}
