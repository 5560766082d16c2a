//! Packets of sessions, and between subnets.

use std::net::Ipv4Addr;

use crate::datapath::{Side, mac_of};

use super::{
    mutation::Mutation,
    nat::{HAIRPIN, INBOUND, LOCAL, Leave, Model, OUTBOUND, Packet, Stop},
    packet::{Content, Datagram},
    reply::{Reply, is_martian},
    rewrite,
    session::{Endpoint, Session},
    wire::{put, word},
    world::{Target, allows},
};

/// The two endpoints of a packet, source first. The side that an ICMP query is put to has no port.
pub(super) fn endpoints(ip: &Datagram, content: Content) -> [Endpoint; 2] {
    let [source, destination] = match content {
        Content::Tcp { ports, .. } | Content::Udp { ports } => ports,
        Content::Query { reply: false, identifier } => [identifier, 0],
        Content::Query { reply: true, identifier } => [0, identifier],
        Content::Error | Content::Bare | Content::Other => [0; 2],
    };
    [(ip.source, source), (ip.destination, destination)]
}

/// Whether a packet is an ICMP error: those are not turned round.
fn errs(packet: &Packet<'_>) -> bool {
    packet.ip.protocol == 1 && matches!(packet.frame[packet.ip.transport], 3 | 11 | 12)
}

impl Model {
    /// A packet from inside that is no ICMP error.
    pub(super) fn outward(&mut self, packet: &Packet<'_>, content: Content) -> Result<Leave, Stop> {
        let [internal, remote] = endpoints(&packet.ip, content);
        let known = self.table.outbound(packet.ip.protocol, internal, remote).copied();
        // What answers a query from outside belongs to no session: none is let in.
        let known = known.filter(|_| !matches!(content, Content::Query { reply: true, .. }));
        let Some(session) = known else { return self.open(packet, content, internal, remote) };
        self.check_ttl(packet)?;
        let judged = session.outbound.judged == self.generation;
        let target = self.may_leave(packet, remote.1, !judged);
        let allowed = target.and_then(|target| self.through(packet, target, session.external, remote.1));
        self.remember(packet, &session, true, content, allowed.is_ok());
        allowed?;
        self.go_out(packet, content, session.external)
    }

    /// A packet that may leave from this external endpoint.
    pub(super) fn go_out(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        external: Endpoint,
    ) -> Result<Leave, Stop> {
        if self.world.is_elastic(packet.ip.destination) {
            return self.turn_round(packet, content, external);
        }
        Ok(self.translated(packet, true, external))
    }

    /// A packet from outside that is no ICMP error.
    pub(super) fn inward(&mut self, packet: &Packet<'_>, content: Content) -> Result<Leave, Stop> {
        let [remote, external] = endpoints(&packet.ip, content);
        let internal = self.enter(packet, content, remote, external)?;
        Ok(self.translated(packet, false, internal))
    }

    /// The private host that a packet from a remote to an external endpoint is for, if it may get it.
    pub(super) fn enter(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        remote: Endpoint,
        external: Endpoint,
    ) -> Result<Endpoint, Stop> {
        let protocol = packet.ip.protocol;
        let known = match self.mutation {
            Some(Mutation::AnyRemotePort) => self.table.inbound_from(protocol, external, remote.0).copied(),
            _ => self.table.inbound(protocol, external, remote).copied(),
        };
        let is_request = matches!(content, Content::Query { reply: false, .. });
        let Some(session) = known.filter(|_| !is_request) else {
            return self.enter_unasked(packet, content, remote, external);
        };
        self.check_ttl(packet)?;
        let allowed = self.may_enter(packet, session.internal, external.1);
        self.remember(packet, &session, false, content, allowed.is_ok());
        allowed?;
        Ok(session.internal)
    }

    /// The same without a session.
    fn enter_unasked(
        &mut self,
        packet: &Packet<'_>,
        content: Content,
        remote: Endpoint,
        external: Endpoint,
    ) -> Result<Endpoint, Stop> {
        if self.mutation == Some(Mutation::OutsideOpens) && packet.ip.protocol == 17 {
            self.moved.push(("sessions_opened", 1));
        }
        // What was turned round here has an Elastic IP for its source; nobody outside has.
        let turned = packet.arrives != Side::External;
        if let Some(spoofed) = self.spoofed(remote.0).filter(|_| !turned) {
            return Err(self.host_or(packet, spoofed));
        }
        if !self.world.is_elastic(external.0) {
            return Err(self.host_or(packet, "not_for_gateway"));
        }
        let Some(internal) = self.let_in(packet.ip.protocol, content, remote, external) else {
            return Err(Stop::Refuse("no_session"));
        };
        self.check_ttl(packet)?;
        self.may_enter(packet, internal, external.1)?;
        Ok(internal)
    }

    /// What is wrong with the source of a packet from outside, if anything is (RFC 2827).
    pub(super) fn spoofed(&self, source: Ipv4Addr) -> Option<&'static str> {
        if is_martian(source) {
            return Some("martian");
        }
        let ours = self.world.subnet(source).is_some() || self.world.is_elastic(source);
        ours.then_some("source_not_in_subnet")
    }

    fn check_ttl(&self, packet: &Packet<'_>) -> Result<(), Stop> {
        let least = if self.mutation == Some(Mutation::TtlOneLeaves) { 0 } else { 1 };
        if packet.ip.ttl <= least { Err(Stop::Reply(Reply::EXCEEDED)) } else { Ok(()) }
    }

    /// Notes a packet in its session. One that may not pass keeps nothing alive (RFC 7857 §7).
    fn remember(&mut self, packet: &Packet<'_>, of: &Session, outward: bool, content: Content, passed: bool) {
        let (now, mutation, generation) = (self.now, self.mutation, self.generation);
        let Some(session) = self.table.outbound(of.protocol, of.internal, of.remote) else { return };
        if !passed {
            if mutation == Some(Mutation::RefusedRefreshes) {
                session.outbound.last = now;
            }
            return;
        }
        session.seen(outward, now, (packet.ip.end - packet.ip.ip) as u64, content, mutation);
        if outward {
            session.outbound.judged = generation;
        }
        let ended = matches!(content, Content::Tcp { flags, .. } if flags & 4 != 0);
        if mutation == Some(Mutation::ResetEndsAtOnce) && ended {
            self.table.remove(of);
        }
    }

    /// Out of the private subnet: the source must be one of its interface (RFC 2827), its NACL must let it, and a route
    /// must lead on.
    pub(super) fn may_leave(&self, packet: &Packet<'_>, port: u16, ask_source: bool) -> Result<Target, Stop> {
        let ip = &packet.ip;
        let subnet = self.world.subnet(ip.source);
        let subnet = subnet.filter(|subnet| !ask_source || subnet.side == packet.arrives);
        let Some(subnet) = subnet else { return Err(Stop::Refuse("source_not_in_subnet")) };
        let denied = |acl: &super::Acl| !allows(&acl.outbound, ip.protocol, ip.destination, port);
        if subnet.acl.as_ref().is_some_and(denied) {
            return Err(Stop::Refuse("nacl_outbound"));
        }
        match self.world.route(ip.destination) {
            None => Err(Stop::Reply(Reply::NO_ROUTE)),
            Some(Target::Blackhole) => Err(Stop::Refuse("blackhole")),
            Some(target) => Ok(target),
        }
    }

    /// Through the NAT gateway that must still have the session's Elastic IP, out of its subnet, to the next hop.
    pub(super) fn through(
        &self,
        packet: &Packet<'_>,
        target: Target,
        external: Endpoint,
        port: u16,
    ) -> Result<(), Stop> {
        if target != Target::Gateway || !self.world.is_elastic(external.0) {
            return Err(Stop::Refuse("no_route"));
        }
        self.out_of_public(packet, port)?;
        if self.world.is_elastic(packet.ip.destination) && !errs(packet) {
            return Ok(());
        }
        self.world.way_out(packet.ip.destination).map(drop).map_err(Stop::from)
    }

    /// Out of the NAT gateway's subnet.
    pub(super) fn out_of_public(&self, packet: &Packet<'_>, port: u16) -> Result<(), Stop> {
        let ip = &packet.ip;
        let denied = |acl: &super::Acl| !allows(&acl.outbound, ip.protocol, ip.destination, port);
        if self.world.public.as_ref().is_some_and(denied) {
            return Err(Stop::Refuse("nacl_outbound"));
        }
        Ok(())
    }

    /// From outside to a private host: both NACLs.
    pub(super) fn may_enter(&self, packet: &Packet<'_>, to: Endpoint, port: u16) -> Result<(), Stop> {
        let ip = &packet.ip;
        if !self.world.is_elastic(ip.destination) {
            return Err(Stop::Refuse("no_session"));
        }
        let denied = |acl: &super::Acl| !allows(&acl.inbound, ip.protocol, ip.source, port);
        if self.world.public.as_ref().is_some_and(denied) {
            return Err(Stop::Refuse("nacl_inbound"));
        }
        self.arrive(packet, to)?;
        self.world.way_in(to.0).map(drop).map_err(Stop::from)
    }

    /// Into the subnet of a private host.
    pub(super) fn arrive(&self, packet: &Packet<'_>, (address, port): Endpoint) -> Result<(), Stop> {
        let Some(subnet) = self.world.subnet(address) else { return Err(Stop::Reply(Reply::NO_ROUTE)) };
        let denied = |acl: &super::Acl| !allows(&acl.inbound, packet.ip.protocol, packet.ip.source, port);
        if subnet.acl.as_ref().is_some_and(denied) {
            return Err(Stop::Refuse("nacl_inbound"));
        }
        Ok(())
    }

    /// The packet with one endpoint replaced, on the way to the next hop.
    pub(super) fn translated(&self, packet: &Packet<'_>, outward: bool, new: Endpoint) -> Leave {
        let mut frame = packet.frame.to_vec();
        rewrite::endpoint(&mut frame, &packet.ip, outward, new);
        self.spoil(packet, &mut frame);
        self.sent(packet, frame, outward, new)
    }

    /// A frame whose addresses are right by now, one hop on.
    pub(super) fn sent(
        &self,
        packet: &Packet<'_>,
        mut frame: Vec<u8>,
        outward: bool,
        new: Endpoint,
    ) -> Leave {
        if self.mutation != Some(Mutation::TtlStays) {
            rewrite::lower_ttl(&mut frame, &packet.ip);
        }
        if self.mutation == Some(Mutation::PaddingCut) {
            frame.truncate(packet.ip.end);
        }
        if outward
            && (!packet.ip.atomic || packet.ip.fragment)
            && self.mutation != Some(Mutation::IdentificationStays)
        {
            // Any that is not used yet: see `check_identification`.
            let left = &packet.left.frame;
            let own = if left.len() < packet.ip.end { 0 } else { word(left, packet.ip.ip + 4) };
            rewrite::identification(&mut frame, &packet.ip, own);
        }
        if outward {
            let hop = self.world.way_out(packet.ip.destination).unwrap_or(packet.ip.destination);
            rewrite::hop(&mut frame, Side::External, mac_of(hop));
            return Leave { counted: OUTBOUND, side: Side::External, frame };
        }
        let side = self.world.way_in(new.0).unwrap_or(Side::Internal);
        rewrite::hop(&mut frame, side, mac_of(new.0));
        Leave { counted: INBOUND, side, frame }
    }

    /// The packet with both endpoints replaced, on the way to another private host.
    pub(super) fn turned(&self, packet: &Packet<'_>, from: Endpoint, to: Endpoint) -> Leave {
        let mut frame = packet.frame.to_vec();
        rewrite::endpoint(&mut frame, &packet.ip, true, from);
        rewrite::endpoint(&mut frame, &packet.ip, false, to);
        self.spoil(packet, &mut frame);
        Leave { counted: HAIRPIN, ..self.sent(packet, frame, false, to) }
    }

    /// An untranslated packet between subnets, one hop on.
    pub(super) fn local(&self, packet: &Packet<'_>) -> Result<Leave, Stop> {
        let side = self.world.way_in(packet.ip.destination).map_err(Stop::from)?;
        let mut frame = packet.frame.to_vec();
        rewrite::lower_ttl(&mut frame, &packet.ip);
        rewrite::hop(&mut frame, side, mac_of(packet.ip.destination));
        Ok(Leave { counted: LOCAL, side, frame })
    }

    /// Makes the mistakes that concern transport checksums.
    fn spoil(&self, packet: &Packet<'_>, frame: &mut [u8]) {
        let at = packet.ip.transport + rewrite::checksum_at(packet.ip.protocol);
        let right = || match rewrite::right_sum(frame, &packet.ip) {
            0 if packet.ip.protocol == 17 => 0xffff,
            right => right,
        };
        match (self.mutation, packet.ip.protocol) {
            (Some(Mutation::ZeroChecksumComputed), 17) if word(frame, at) == 0 => {
                let right = right();
                put(frame, at, right);
            }
            (Some(Mutation::ChecksumsRepaired), 6 | 17) if word(frame, at) != 0 => {
                let right = right();
                put(frame, at, right);
            }
            _ => {}
        }
    }
}
