//! The sessions, and how far a TCP connection has got (RFC 7857 §2).

use std::{collections::HashMap, net::Ipv4Addr};

use super::{
    mutation::Mutation,
    packet::{
        Content,
        flag::{ACK, FIN, RST, SYN},
    },
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
    /// A SYN, a plain segment, a FIN was carried, since the latest beginning.
    syn: bool,
    plain: bool,
    fin: bool,
    /// It has carried a believable RST and nothing but resets since; the same of the other direction's.
    rst: bool,
    reset: bool,
    /// How far its stream has got, in units of 64 KiB.
    position: u16,
}

/// How far a stream may get ahead at once, in these units: 1 MiB.
const REACH: u16 = 16;

impl Half {
    /// A direction that begins now, allowed under this configuration.
    pub fn begun(last: u64, judged: u64) -> Self {
        Self { last, judged, ..Self::default() }
    }

    /// Whether it has carried anything but resets.
    const fn has_carried(&self) -> bool {
        self.syn || self.plain || self.fin
    }

    /// Whether a sequence number is within some 64 KiB of where the stream is.
    const fn is_near(&self, sequence: u32) -> bool {
        let ahead = ((sequence >> 16) as u16).wrapping_sub(self.position);
        ahead.wrapping_add(1) <= 2
    }

    /// Takes note of a segment that is no RST and whose packet ends at `end` of the stream, its headers counted in.
    fn segment(&mut self, flags: u8, end: u32, mutation: Option<Mutation>) {
        let position = (end >> 16) as u16;
        if flags & SYN != 0 {
            let anew = !self.plain || self.fin || self.rst || self.reset;
            // In the midst of a connection it changes nothing (RFC 5961 §4.2).
            if anew && mutation != Some(Mutation::SynBeginsNothing) {
                let Self { last, packets, bytes, judged, .. } = *self;
                *self = Self { last, packets, bytes, judged, syn: true, position, ..Self::default() };
            }
            return;
        }
        if position.wrapping_sub(self.position) <= REACH {
            self.position = position;
        }
        // A connection that goes on was not reset (RFC 7857 §2.2).
        (self.rst, self.reset) = (false, false);
        if flags & FIN != 0 {
            self.fin = true;
        } else {
            self.plain = true;
        }
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
        let reset = host.rst && remote.reset || remote.rst && host.reset;
        Some(if reset || closing {
            Phase::Closing
        } else if half_closed {
            Phase::HalfClosed
        } else if remote.has_carried() && host.plain {
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
    pub fn seen(
        &mut self,
        outward: bool,
        now: u64,
        bytes: u64,
        content: Content,
        mutation: Option<Mutation>,
    ) {
        let (half, other) = match outward {
            true => (&mut self.outbound, &mut self.inbound),
            false => (&mut self.inbound, &mut self.outbound),
        };
        half.packets += 1;
        half.bytes += bytes;
        if outward || mutation != Some(Mutation::InboundRefreshesNothing) {
            half.last = now;
        }
        let Content::Tcp { flags, sequence, acknowledgement, data, .. } = content else { return };
        if flags & RST != 0 {
            let believed = match half.has_carried() {
                true => half.is_near(sequence) || mutation == Some(Mutation::AnyResetIsBelieved),
                // Of a connection that was not accepted yet, by what it acknowledges (RFC 9293 §3.10.7.3).
                false => flags & ACK != 0 && other.is_near(acknowledgement),
            };
            half.rst |= believed;
            other.reset |= believed;
            return;
        }
        let known = *half;
        half.segment(flags, sequence.wrapping_add(bytes as u32), mutation);
        let ends = flags & FIN != 0 && flags & SYN == 0;
        if outward && ends && (half.fin, half.rst, half.reset) != (known.fin, known.rst, known.reset) {
            self.end = Some(sequence.wrapping_add(data).wrapping_add(1));
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
