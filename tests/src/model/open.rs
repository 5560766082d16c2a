//! Packets from inside that belong to no session, and the ports that new sessions get.

use std::net::Ipv4Addr;

use crate::datapath::Verdict;

use super::{
    mapping::Answer,
    mutation::Mutation,
    nat::{Leave, Model, Packet, Stop},
    packet::{Content, flag},
    reply::{Reply, is_martian},
    session::{Endpoint, Half, Session, is_syn},
    wire::{address, word},
    world::{ElasticIp, Target},
};

impl Model {
    /// For the host, for another subnet, or the beginning of a session.
    pub(super) fn open(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        internal: Endpoint,
        remote: Endpoint,
    ) -> Result<Leave, Stop> {
        let ip = &packet.ip;
        if self.world.is_host(ip.destination) {
            return Err(Stop::Stack);
        }
        if is_martian(ip.destination) || is_martian(ip.source) {
            return Err(Stop::Refuse("martian"));
        }
        let target = self.may_leave(packet, remote.1, true)?;
        if ip.ttl <= 1 {
            return Err(Stop::Reply(Reply::EXCEEDED));
        }
        if target == Target::Local {
            self.arrive(packet, (ip.destination, remote.1))?;
            return self.local(packet);
        }
        self.out_of_public(packet, remote.1)?;
        if content == Content::Bare {
            return Err(Stop::Reply(Reply::NO_PROTOCOL));
        }
        let answer = if self.may_begin(content) { Answer::Opens } else { self.answer(content, internal) };
        if answer == Answer::Stray {
            let is_reset = matches!(content, Content::Tcp { flags, .. } if flags & flag::RST != 0);
            let is_told = matches!(content, Content::Tcp { .. }) && !is_reset;
            return Err(if is_told { Stop::Reset } else { Stop::Refuse("not_opening") });
        }
        if !self.world.is_elastic(ip.destination) {
            self.world.way_out(ip.destination).map_err(Stop::from)?;
        }
        if let Answer::Passes(external) = answer {
            return self.go_out(packet, content, external);
        }
        let external = match self.world.independent {
            Some(_) => self.map(packet, internal, remote)?,
            None => self.choose(packet, content, internal, remote)?,
        };
        self.begin(packet, content, internal, external, remote);
        self.go_out(packet, content, external)
    }

    /// Whether a packet may begin a session.
    fn may_begin(&self, content: Content) -> bool {
        match content {
            Content::Tcp { flags, .. } => is_syn(flags) || self.mutation == Some(Mutation::AnySegmentOpens),
            Content::Query { reply, .. } => !reply || self.mutation == Some(Mutation::ReplyOpens),
            Content::Udp { .. } => true,
            Content::Error | Content::Bare | Content::Other => false,
        }
    }

    fn begin(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        internal: Endpoint,
        external: Endpoint,
        remote: Endpoint,
    ) {
        let mut session = Session {
            protocol: packet.ip.protocol,
            internal,
            external,
            remote,
            outbound: Half::begun(self.now, self.generation),
            inbound: Half::begun(self.now, 0),
            end: None,
        };
        session.seen(true, self.now, (packet.ip.end - packet.ip.ip) as u64, content, self.mutation);
        self.table.insert(session);
        self.moved.push(("sessions_opened", 1));
        if matches!(content, Content::Tcp { .. }) {
            self.moved.push(("connection_attempts", 1));
        }
    }

    /// The external endpoint of the internal one toward everybody, or one that is nobody's yet.
    fn map(&mut self, packet: &Packet<'_>, internal: Endpoint, remote: Endpoint) -> Result<Endpoint, Stop> {
        let of = packet.ip.protocol;
        let known = self.mapped(of, internal).filter(|external| self.world.is_elastic(external.0));
        if let Some(external) = known {
            return Ok(external);
        }
        let Some(chosen) = self.seen_to_leave(packet, internal, remote) else {
            let elastic_ips = self.world.elastic_ips.clone();
            if let Some(ip) = elastic_ips.iter().find(|ip| self.has_room(packet, ip, remote)) {
                self.complain(format!("no mapping, though {} has a free port", ip.address));
            }
            return Err(Stop::Reply(Reply::NO_PORT));
        };
        self.check_lent(packet, chosen, remote);
        if let Some(owner) = self.owner(of, chosen) {
            if self.is_in_use(of, owner) {
                self.complain(format!("{chosen:?} is the mapping of {owner:?}"));
            }
            self.mappings.remove(&(of, owner));
        }
        self.mappings.insert((of, internal), chosen);
        Ok(chosen)
    }

    /// Whether an Elastic IP has a port for a new session toward a remote, or for a new mapping.
    fn has_room(&self, packet: &Packet<'_>, ip: &ElasticIp, remote: Endpoint) -> bool {
        let of = packet.ip.protocol;
        let is_taken = |port| match self.world.independent {
            Some(_) => self.owner(of, (ip.address, port)).is_some(),
            None => self.table.is_taken(of, (ip.address, port), remote),
        };
        (ip.ports.0..=ip.ports.1).any(|port| !is_taken(port))
    }

    /// Whether an endpoint is one that the NAT gateway lends, and of the Elastic IP that the host must have.
    fn check_lent(&mut self, packet: &Packet<'_>, chosen: Endpoint, remote: Endpoint) {
        let lent = self.world.elastic_ips.iter().find(|ip| ip.address == chosen.0).copied();
        match lent {
            Some(ip) if (ip.ports.0..=ip.ports.1).contains(&chosen.1) => {
                self.check_home(packet, chosen.0, remote);
            }
            _ => self.complain(format!("{chosen:?} is not lent")),
        }
    }

    /// The external endpoint that the data plane has chosen, if it was free to.
    fn choose(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        internal: Endpoint,
        remote: Endpoint,
    ) -> Result<Endpoint, Stop> {
        let Some(chosen) = self.seen_to_leave(packet, internal, remote) else {
            let elastic_ips = self.world.elastic_ips.clone();
            if let Some(ip) = elastic_ips.iter().find(|ip| self.has_room(packet, ip, remote)) {
                let address = ip.address;
                self.complain(format!("no session, though {address} has a free port toward {remote:?}"));
            }
            return Err(Stop::Reply(Reply::NO_PORT));
        };
        let protocol = packet.ip.protocol;
        self.check_lent(packet, chosen, remote);
        if self.table.is_taken(protocol, chosen, remote) {
            self.reclaim(packet, content, chosen, remote);
        }
        let elsewhere =
            self.table.iter().any(|session| (session.protocol, session.external) == (protocol, chosen));
        if elsewhere && self.mutation == Some(Mutation::PortLentOnce) {
            self.complain(format!("{chosen:?} is lent to another session"));
        }
        Ok(chosen)
    }

    /// The source endpoint of what left the data plane, if that is an Elastic IP's.
    fn seen_to_leave(&self, packet: &Packet<'_>, internal: Endpoint, remote: Endpoint) -> Option<Endpoint> {
        if self.world.is_elastic(remote.0) {
            // Whether it got there or not, the session is opened.
            return (packet.opened)(packet.ip.protocol, internal, remote);
        }
        let left = packet.left;
        if !matches!(left.verdict, Verdict::Tx | Verdict::Redirect) || left.frame.len() < packet.ip.end {
            return None;
        }
        let source = address(&left.frame, packet.ip.ip + 12);
        let port_at = if packet.ip.protocol == 1 { 4 } else { 0 };
        // Whatever has no private and no own address of the gateway was meant for the outside.
        let outside = source.octets()[0] != 10 && !self.world.is_host(source);
        outside.then(|| (source, word(&left.frame, packet.ip.transport + port_at)))
    }

    /// A host keeps its Elastic IP while that has ports (RFC 4787 REQ-2, "paired").
    fn check_home(&mut self, packet: &Packet<'_>, chosen: Ipv4Addr, remote: Endpoint) {
        let host = packet.ip.source;
        let has_room = |ip: &ElasticIp| self.has_room(packet, ip, remote);
        if let Some(home) = self.homes.get(&host).copied() {
            let home_has_room =
                self.world.elastic_ips.iter().find(|ip| ip.address == home).is_some_and(has_room);
            if home != chosen && home_has_room {
                self.complain(format!("{host} had {home} before, which has a free port toward {remote:?}"));
            }
        } else if self.world.elastic_ips.iter().all(has_room) {
            self.homes.insert(host, chosen);
        }
    }

    /// A port that is taken may be lent once more if its session is over, though not aged yet; or if both sides have
    /// closed it, and the remote must take this SYN for a newer one (RFC 1122 §4.2.2.13).
    fn reclaim(&mut self, packet: &Packet<'_>, content: Content, chosen: Endpoint, remote: Endpoint) {
        let Some(session) = self.table.inbound(packet.ip.protocol, chosen, remote).copied() else { return };
        let newer = match (content, session.end) {
            (Content::Tcp { sequence, .. }, Some(end)) => (1..1 << 31).contains(&sequence.wrapping_sub(end)),
            _ => false,
        };
        let closed = session.is_closed() && newer && self.now > session.last();
        if !closed && !session.is_over(self.now, &self.world.timeouts, self.mutation) {
            self.complain(format!("{chosen:?} is taken toward {remote:?}"));
        }
        self.release(&session);
    }

    /// Ends a session, and counts that.
    pub(super) fn release(&mut self, session: &Session) {
        use super::session::Phase;
        self.table.remove(session);
        self.moved.push(("sessions_released", 1));
        if !matches!(session.phase(self.mutation), None | Some(Phase::Closing)) {
            self.moved.push(("idle_timeouts", 1));
        }
    }

    pub(super) fn complain(&mut self, what: String) {
        self.complaint.get_or_insert(what);
    }
}
