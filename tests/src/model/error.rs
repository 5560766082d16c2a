//! ICMP errors on their way through (RFC 5508 §4): they belong to the session of the packet they quote, which is
//! translated too, and neither open nor refresh nor end one.

use super::{
    mutation::Mutation,
    nat::{HAIRPIN, Leave, Model, Packet, Stop},
    packet::{Datagram, IPV4, kind},
    reply::Reply,
    rewrite,
    session::{Endpoint, Session},
    wire::{add, address, carried, put, put_address, sum, word},
    world::Target,
};

/// Bytes of the quoted transport header that an error has at the least (RFC 792).
const LEAST: usize = 8;

/// The packet that an error quotes.
struct Quote {
    /// Where its IP header begins.
    ip: usize,
    /// Where its transport header begins.
    transport: usize,
    /// Where what is quoted of it ends.
    end: usize,
    protocol: u8,
    source: Endpoint,
    destination: Endpoint,
}

impl Model {
    /// An ICMP error.
    pub(super) fn error(&mut self, packet: &Packet<'_>, outward: bool) -> Result<Leave, Stop> {
        let Some(quote) = quote(packet.frame, &packet.ip) else {
            return Err(self.host_or(packet, "icmp_quote"));
        };
        // The quoted packet went the other way.
        let session = if outward {
            self.table.outbound(quote.protocol, quote.destination, quote.source)
        } else {
            self.table.inbound(quote.protocol, quote.source, quote.destination)
        };
        let session = session.copied();
        // What came in by a mapping belongs to no session.
        let mapped = self.mapped(quote.protocol, quote.destination).filter(|_| outward);
        let Some(external) = session.map(|session| session.external).or(mapped) else {
            return self.error_without_session(packet, outward);
        };
        // Any router on the way may complain, but only to whom the packet came from.
        if packet.ip.destination != quote.source.0 {
            return Err(Stop::Refuse("icmp_quote"));
        }
        if let Some(session) = session.filter(|_| !outward) {
            if let Some(spoofed) = self.spoofed(packet.ip.source) {
                return Err(Stop::Refuse(spoofed));
            }
            let allowed = self.may_enter(packet, (session.internal.0, 0), 0);
            self.believed(packet, &quote, allowed)?;
            self.err_in_session(&session);
            return Ok(self.translated_error(packet, &quote, false, session.internal));
        }
        let allowed =
            self.may_leave(packet, 0, true).and_then(|target| self.through(packet, target, external, 0));
        self.believed(packet, &quote, allowed)?;
        if self.world.is_elastic(packet.ip.destination) {
            return self.turned_error(packet, &quote, external);
        }
        if let Some(session) = session {
            self.err_in_session(&session);
        }
        Ok(self.translated_error(packet, &quote, true, external))
    }

    /// An error to an Elastic IP: it comes in as what its external endpoint complains of (RFC 5508 REQ-7).
    fn turned_error(
        &mut self,
        packet: &Packet<'_>,
        quote: &Quote,
        external: Endpoint,
    ) -> Result<Leave, Stop> {
        let session = self.table.inbound(quote.protocol, quote.source, external).copied();
        let Some(session) = session else { return Err(Stop::Refuse("icmp_no_session")) };
        let mut seen = Packet { ip: packet.ip, ..*packet };
        seen.ip.source = external.0;
        self.may_enter(&seen, (session.internal.0, 0), 0).map_err(untold)?;
        let mut frame = packet.frame.to_vec();
        rewrite::replace_address(&mut frame, &packet.ip, true, external.0);
        rewrite::replace_address(&mut frame, &packet.ip, false, session.internal.0);
        self.requote(&mut frame, packet, quote, true, external);
        self.requote(&mut frame, packet, quote, false, session.internal);
        Ok(Leave { counted: HAIRPIN, ..self.sent(packet, frame, false, session.internal) })
    }

    /// An error between subnets is forwarded as any packet; others are nobody's.
    fn error_without_session(&self, packet: &Packet<'_>, outward: bool) -> Result<Leave, Stop> {
        if !outward || self.world.is_host(packet.ip.destination) {
            return Err(self.host_or(packet, "icmp_no_session"));
        }
        if self.may_leave(packet, 0, true).map_err(untold)? != Target::Local {
            return Err(Stop::Refuse("icmp_no_session"));
        }
        self.arrive(packet, (packet.ip.destination, 0)).map_err(untold)?;
        self.ttl_left(packet, Ok(()), |_| Ok(()))?;
        self.local(packet).map_err(untold)
    }

    /// Whether an error is believed, and its way leads on: policy speaks first, then its TTL, which is not answered with
    /// another error (RFC 1812 §4.3.2.7), then its checksums (RFC 5508 REQ-3), then the network.
    fn believed(&self, packet: &Packet<'_>, quote: &Quote, allowed: Result<(), Stop>) -> Result<(), Stop> {
        self.ttl_left(packet, allowed, |model| model.sound(packet, quote))
    }

    fn ttl_left(
        &self,
        packet: &Packet<'_>,
        allowed: Result<(), Stop>,
        sound: impl FnOnce(&Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        const NETWORK: [&str; 2] = ["unreachable", "no_neighbour"];
        match allowed.map_err(untold) {
            Err(Stop::Refuse(reason)) if !NETWORK.contains(&reason) => Err(Stop::Refuse(reason)),
            _ if packet.ip.ttl <= 1 => Err(Stop::Refuse("ttl_expired")),
            other => sound(self).and(other),
        }
    }

    fn sound(&self, packet: &Packet<'_>, quote: &Quote) -> Result<(), Stop> {
        if self.mutation == Some(Mutation::WrongErrorBelieved) {
            return Ok(());
        }
        if sum(&packet.frame[packet.ip.transport..packet.ip.end]) != 0xffff {
            return Err(Stop::Refuse("icmp_checksum"));
        }
        if sum(&packet.frame[quote.ip..quote.transport]) != 0xffff {
            return Err(Stop::Refuse("icmp_quote_checksum"));
        }
        Ok(())
    }

    /// Nothing happens to the session; unless by mistake.
    fn err_in_session(&mut self, of: &Session) {
        let now = self.now;
        let Some(session) = self.table.outbound(of.protocol, of.internal, of.remote) else { return };
        match self.mutation {
            Some(Mutation::ErrorRefreshes) => session.outbound.last = now,
            Some(Mutation::ErrorEnds) => self.table.remove(of),
            _ => {}
        }
    }

    fn translated_error(&self, packet: &Packet<'_>, quote: &Quote, outward: bool, new: Endpoint) -> Leave {
        let mut frame = packet.frame.to_vec();
        rewrite::replace_address(&mut frame, &packet.ip, outward, new.0);
        self.requote(&mut frame, packet, quote, outward, new);
        self.sent(packet, frame, outward, new)
    }

    /// Restores the quoted packet, and carries the checksum of the error along.
    fn requote(&self, frame: &mut [u8], packet: &Packet<'_>, quote: &Quote, outward: bool, new: Endpoint) {
        let body = packet.ip.transport..packet.ip.end;
        let around = |frame: &[u8]| {
            let body = &frame[body.clone()];
            add(sum(&body[..2]), sum(&body[4..]))
        };
        let before = around(frame);
        self.restore(frame, quote, quote.end, outward, new);
        let after = around(frame);
        let at = packet.ip.transport + 2;
        let checksum = carried(word(frame, at), before, after);
        put(frame, at, checksum);
    }

    /// Gives the quoted packet the endpoint that it has on the side where the error goes.
    fn restore(&self, frame: &mut [u8], quote: &Quote, end: usize, outward: bool, new: Endpoint) {
        // Outward the error is about what came in: its destination is the private host.
        let (address_at, port_at, old) =
            if outward { (16, 2, quote.destination) } else { (12, 0, quote.source) };
        let around = |frame: &[u8]| {
            let header = &frame[quote.ip..quote.transport];
            add(sum(&header[..10]), sum(&header[12..]))
        };
        let before = around(frame);
        put_address(frame, quote.ip + address_at, new.0);
        let after = around(frame);
        if self.mutation != Some(Mutation::QuotedSumStays) {
            let checksum = carried(word(frame, quote.ip + 10), before, after);
            put(frame, quote.ip + 10, checksum);
        }
        if self.mutation == Some(Mutation::QuotedPortStays) || matches!(quote.protocol, 47 | 50) {
            return;
        }
        let is_query = quote.protocol == 1;
        put(frame, quote.transport + if is_query { 4 } else { port_at }, new.1);
        let sum_of = |(address, port): Endpoint| {
            if is_query { port } else { add(sum(&address.octets()), port) }
        };
        let at = quote.transport + rewrite::checksum_at(quote.protocol);
        if at + 2 <= end {
            let checksum = rewrite::transport_sum(quote.protocol, word(frame, at), sum_of(old), sum_of(new));
            put(frame, at, checksum);
        }
    }
}

/// Errors are not answered.
fn untold(stop: Stop) -> Stop {
    match stop {
        Stop::Reply(Reply { reason, .. }) => Stop::Refuse(reason),
        Stop::Stack | Stop::Refuse(_) | Stop::Held | Stop::Reset => stop,
    }
}

/// Reads the quoted packet: an IP header with whatever options, whose checksum is not asked, and the beginning of the
/// transport header.
fn quote(frame: &[u8], outer: &Datagram) -> Option<Quote> {
    let ip = outer.transport + 8;
    let header = frame.get(ip..outer.end)?.get(..IPV4)?;
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < IPV4 || word(header, 6) & 0x1fff != 0 {
        return None;
    }
    let transport = ip + length;
    let first = frame.get(transport..outer.end)?.get(..LEAST)?;
    // What follows the quoted packet is padding (RFC 4884 §3).
    let end = outer.end.min(ip + usize::from(word(header, 2)));
    if transport + LEAST > end {
        return None;
    }
    let protocol = header[9];
    let [source_port, destination_port] = match (protocol, first[0]) {
        (6 | 17, _) => [word(first, 0), word(first, 2)],
        (47 | 50, _) => [0, 0],
        (1, kind::ECHO | kind::TIMESTAMP) => [word(first, 4), 0],
        (1, kind::ECHO_REPLY | kind::TIMESTAMP_REPLY) => [0, word(first, 4)],
        _ => return None,
    };
    Some(Quote {
        ip,
        transport,
        end,
        protocol,
        source: (address(header, 12), source_port),
        destination: (address(header, 16), destination_port),
    })
}
