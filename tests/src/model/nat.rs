//! The model itself: one packet in, and what must come of it out.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
};

use crate::datapath::{Outcome, Side, Verdict};

use super::{
    fragment::{Key, Trail},
    mutation::Mutation,
    packet::{self, Content, Datagram, Read},
    reply::{self, Reply},
    session::{Endpoint, Protocol, Summary, Table},
    wire::word,
    world::{DeadEnd, World},
};

/// A NAT.
pub struct Model {
    pub(super) world: World,
    pub(super) table: Table,
    pub(super) now: u64,
    pub(super) generation: u64,
    pub(super) mutation: Option<Mutation>,
    /// Which Elastic IP a host begins with.
    pub(super) homes: HashMap<Ipv4Addr, Ipv4Addr>,
    /// The external endpoint of an internal one, where that does not depend on the remote.
    pub(super) mappings: HashMap<(Protocol, Endpoint), Endpoint>,
    /// Where first fragments have gone.
    pub(super) trails: HashMap<Key, Trail>,
    /// The identifications that have left lately, with Elastic IP, remote and protocol.
    numbers: VecDeque<([u8; 8], u8, u16)>,
    pub(super) moved: Vec<(&'static str, u64)>,
    pub(super) complaint: Option<String>,
}

/// What must come of a frame.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame as it leaves.
    pub frame: Vec<u8>,
    /// The drop reason that is counted.
    pub reason: Option<&'static str>,
    /// The counters that move, and by how much.
    pub moved: Vec<(&'static str, u64)>,
    /// What the data plane chose and may not choose.
    pub complaint: Option<String>,
}

/// A packet under way: where it came, its frame, and what left the data plane.
pub(super) struct Packet<'a> {
    pub arrives: Side,
    pub frame: &'a [u8],
    pub ip: Datagram,
    pub left: &'a Outcome,
    pub opened: &'a Opened<'a>,
}

/// Who knows what external endpoint the data plane has given to a session: asked for protocol, private host and remote.
pub type Opened<'a> = dyn Fn(Protocol, Endpoint, Endpoint) -> Option<Endpoint> + 'a;

/// Why a packet does not leave.
pub(super) enum Stop {
    /// It is for the gateway's host.
    Stack,
    /// It is refused.
    Refuse(&'static str),
    /// Its sender is answered.
    Reply(Reply),
    /// The controller holds it until its first fragment has passed.
    Held,
    /// Its sender gets a RST, or it is refused as a segment that opens nothing.
    Reset,
}

impl From<DeadEnd> for Stop {
    fn from(DeadEnd { reason, code }: DeadEnd) -> Self {
        code.map_or(Self::Refuse(reason), |code| Self::Reply(Reply::told(code, reason)))
    }
}

/// A packet that leaves: counted as what, by which interface, and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    pub counted: (&'static str, &'static str),
    pub side: Side,
    pub frame: Vec<u8>,
}

pub(super) const OUTBOUND: (&str, &str) = ("outbound_packets", "outbound_bytes");
pub(super) const INBOUND: (&str, &str) = ("inbound_packets", "inbound_bytes");
pub(super) const HAIRPIN: (&str, &str) = ("hairpin_packets", "hairpin_bytes");
pub(super) const LOCAL: (&str, &str) = ("local_packets", "local_bytes");

impl Model {
    /// A NAT without sessions, with a mistake or without.
    #[must_use]
    pub fn new(world: World, mutation: Option<Mutation>) -> Self {
        Self {
            world,
            table: Table::default(),
            now: 0,
            generation: 1,
            mutation,
            homes: HashMap::new(),
            mappings: HashMap::new(),
            trails: HashMap::new(),
            numbers: VecDeque::new(),
            moved: Vec::new(),
            complaint: None,
        }
    }

    /// From now on it makes this mistake, or none.
    pub fn mistake(&mut self, mutation: Option<Mutation>) {
        self.mutation = mutation;
    }

    /// Forgets all sessions and begins with this configuration.
    pub fn reset(&mut self, world: World) {
        *self = Self::new(world, self.mutation);
    }

    /// Another configuration comes into force.
    pub fn configure(&mut self, world: World) {
        self.world = world;
        self.generation += 1;
        self.homes.clear();
    }

    /// Every session asks anew whether it may go on.
    pub fn renew(&mut self) {
        self.generation += 1;
    }

    /// The clock, in ticks since any moment.
    pub fn set_clock(&mut self, now: u64) {
        self.now = now;
    }

    /// The external endpoint of a session.
    pub fn external(&mut self, of: Protocol, internal: Endpoint, remote: Endpoint) -> Option<Endpoint> {
        self.table.outbound(of, internal, remote).map(|session| session.external)
    }

    /// All sessions, in order.
    #[must_use]
    pub fn sessions(&self) -> Vec<Summary> {
        let mut sessions: Vec<_> = self.table.iter().map(|session| session.summary()).collect();
        sessions.sort_unstable();
        sessions
    }

    /// Ends what was idle for too long; the counters that move.
    pub fn age(&mut self) -> Vec<(&'static str, u64)> {
        let (now, timeouts, mutation) = (self.now, self.world.timeouts, self.mutation);
        let over = |session: &&super::session::Session| session.is_over(now, &timeouts, mutation);
        let ended: Vec<_> = self.table.iter().filter(over).copied().collect();
        for session in &ended {
            self.release(session);
        }
        self.forget_mappings();
        std::mem::take(&mut self.moved)
    }

    /// What must come of a frame that arrives on this interface, given what left the data plane. Where that
    /// does not show what was chosen, `opened` does.
    pub fn process(&mut self, arrives: Side, frame: &[u8], left: &Outcome, opened: &Opened<'_>) -> Answer {
        let (mut length, result) = (None, self.read(arrives, frame, left, opened));
        let result = match result {
            Ok((ip, result)) => {
                length = Some((ip.end - ip.ip) as u64);
                self.check_identification(&ip, &result);
                self.answered(arrives, frame, &ip, result)
            }
            Err(stop) => Err((stop, None)),
        };
        let mut answer = Answer {
            verdict: Verdict::Drop,
            frame: frame.to_vec(),
            reason: None,
            moved: std::mem::take(&mut self.moved),
            complaint: self.complaint.take(),
        };
        let mut count = |name, by| answer.moved.push((name, by));
        match result {
            Ok(leave) => {
                answer.verdict = if leave.side == arrives { Verdict::Tx } else { Verdict::Redirect };
                count(leave.counted.0, 1);
                count(leave.counted.1, length.unwrap_or_default());
                answer.frame = leave.frame;
            }
            Err((Stop::Stack, _)) => {
                answer.verdict = Verdict::Pass;
                count("stack_packets", 1);
                count("stack_bytes", frame.len() as u64);
            }
            Err((Stop::Held, _)) => {
                count("held_packets", 1);
                count("held_bytes", length.unwrap_or_default());
            }
            Err((Stop::Reset, _)) => unreachable!("it was answered or refused"),
            Err((Stop::Refuse(reason) | Stop::Reply(Reply { reason, .. }), told)) => {
                answer.reason = Some(reason);
                if let Some(length) = length {
                    count("dropped_bytes", length);
                }
                if let Some(told) = told {
                    (answer.verdict, answer.frame) = (Verdict::Tx, told);
                }
            }
        }
        answer.verdict = answer.verdict.at_this_hook();
        answer
    }

    /// What leaves by an Elastic IP and may be fragmented has an identification that no other has had lately toward the same
    /// remote (RFC 6864 §5.3.1). Fragments that follow have their first one's.
    fn check_identification(&mut self, ip: &Datagram, result: &Result<Leave, Stop>) {
        const LATELY: usize = 1_000;
        let Ok(Leave { counted: OUTBOUND, frame, .. }) = result else { return };
        let follows = word(frame, ip.ip + 6) & 0x1fff != 0;
        if follows || (ip.atomic && !ip.fragment) {
            return;
        }
        let ends = frame[ip.ip + 12..ip.ip + 20].try_into().expect("two addresses");
        let number = (ends, ip.protocol, word(frame, ip.ip + 4));
        if self.numbers.contains(&number) {
            self.complain(format!("identification {:#x} comes twice", number.2));
        }
        if self.numbers.len() == LATELY {
            self.numbers.pop_front();
        }
        self.numbers.push_back(number);
    }

    /// Reads a frame; what becomes of a packet whose IP header can be believed comes with that header.
    fn read(
        &mut self,
        arrives: Side,
        frame: &[u8],
        left: &Outcome,
        opened: &Opened<'_>,
    ) -> Result<(Datagram, Result<Leave, Stop>), Stop> {
        match packet::read(frame) {
            Read::Datagram(ip) => {
                let result = self.route(&Packet { arrives, frame, ip, left, opened });
                Ok((ip, result))
            }
            Read::Link => Err(Stop::Stack),
            Read::Ipv6(address) if self.world.is_host_ipv6(address) => Err(Stop::Stack),
            Read::Ipv6(_) => Err(Stop::Refuse("ipv6")),
            Read::Unsound(reason) => Err(Stop::Refuse(reason)),
        }
    }

    /// Makes the answer that is due.
    fn answered(
        &mut self,
        arrives: Side,
        frame: &[u8],
        ip: &Datagram,
        result: Result<Leave, Stop>,
    ) -> Result<Leave, (Stop, Option<Vec<u8>>)> {
        let is_due = reply::is_due(ip) && !self.world.is_host(ip.source);
        let told = match result {
            Err(Stop::Reply(told)) => told,
            Err(Stop::Reset) if is_due => {
                let frame = reply::reset(frame, ip);
                self.moved.push(("resets_sent", 1));
                return Ok(Leave { counted: ("replied_packets", "replied_bytes"), side: arrives, frame });
            }
            Err(Stop::Reset) => return Err((Stop::Refuse("not_opening"), None)),
            other => return other.map_err(|stop| (stop, None)),
        };
        let is_due = is_due && !(told.inside && arrives == Side::External);
        let own = self.world.own(arrives).filter(|_| is_due);
        let answer = own.map(|own| reply::frame(frame, ip, told, own));
        match answer {
            Some(frame) if !told.refusal => {
                Ok(Leave { counted: ("replied_packets", "replied_bytes"), side: arrives, frame })
            }
            answer => Err((Stop::Reply(told), answer)),
        }
    }

    /// The way of a packet.
    fn route(&mut self, packet: &Packet<'_>) -> Result<Leave, Stop> {
        let outward = match packet.arrives {
            Side::Internal | Side::InternalB => true,
            Side::External => false,
            Side::Unconfigured | Side::Nic => return Err(self.host_or(packet, "not_configured")),
        };
        if packet.ip.fragment {
            if packet.ip.group {
                return Err(self.host_or(packet, "link_broadcast"));
            }
            return self.fragment(packet, outward);
        }
        let content = packet::content(packet.frame, &packet.ip);
        let content = content.map_err(|reason| self.host_or(packet, reason))?;
        if packet.ip.group {
            return Err(self.host_or(packet, "link_broadcast"));
        }
        match (content, outward) {
            (Content::Other, _) if self.world.is_host(packet.ip.destination) => Err(Stop::Stack),
            (Content::Other, false) => Err(Stop::Refuse("protocol")),
            (Content::Other, true) => Err(self.unserved(packet)),
            (Content::Error, _) => self.error(packet, outward),
            (_, true) => self.outward(packet, content),
            (_, false) => self.inward(packet, content),
        }
    }

    /// A protocol that is never translated: a private host is told.
    fn unserved(&self, packet: &Packet<'_>) -> Stop {
        match self.world.subnet(packet.ip.source) {
            Some(subnet) if subnet.side == packet.arrives => Stop::Reply(Reply::NO_PROTOCOL),
            _ => Stop::Refuse("source_not_in_subnet"),
        }
    }

    /// What is for the gateway's host goes to its stack.
    pub(super) fn host_or(&self, packet: &Packet<'_>, reason: &'static str) -> Stop {
        if self.world.is_host(packet.ip.destination) { Stop::Stack } else { Stop::Refuse(reason) }
    }
}
