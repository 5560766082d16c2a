//! ICMP errors on their way through (RFC 5508 §4): they belong to the session of the packet they quote, which is
//! translated too, and neither open nor refresh nor end one.

use super::{
    mutation::Mutation,
    nat::{Leave, Model, Packet, Stop},
    packet::{Datagram, IPV4, kind},
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
        let Some(session) = session.copied() else { return self.error_without_session(packet, outward) };
        // Any router on the way may complain, but only to whom the packet came from.
        if packet.ip.destination != quote.source.0 {
            return Err(Stop::Refuse("icmp_quote"));
        }
        if outward {
            let target = self.may_leave(packet, 0, true)?;
            self.ttl_left(packet, |model| model.through(packet, target, session.external, 0))?;
        } else {
            self.ttl_left(packet, |model| model.may_enter(packet, (session.internal.0, 0), 0))?;
        }
        self.err_in_session(&session);
        Ok(self.translated_error(packet, &quote, &session, outward))
    }

    /// An error between subnets is forwarded as any packet; others are nobody's.
    fn error_without_session(&self, packet: &Packet<'_>, outward: bool) -> Result<Leave, Stop> {
        if !outward || self.world.is_host(packet.ip.destination) {
            return Err(self.host_or(packet, "icmp_no_session"));
        }
        if self.may_leave(packet, 0, true)? != Target::Local {
            return Err(Stop::Refuse("icmp_no_session"));
        }
        self.arrive(packet, (packet.ip.destination, 0))?;
        self.ttl_left(packet, |_| Ok(()))?;
        self.local(packet)
    }

    /// An error whose TTL has run out is not answered with another (RFC 1812 §4.3.2.7). Policy speaks before that, the
    /// network after it.
    fn ttl_left(
        &self,
        packet: &Packet<'_>,
        allowed: impl FnOnce(&Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        const NETWORK: [&str; 2] = ["unreachable", "no_neighbour"];
        match allowed(self) {
            Err(Stop::Refuse(reason)) if !NETWORK.contains(&reason) => Err(Stop::Refuse(reason)),
            _ if packet.ip.ttl <= 1 => Err(Stop::Refuse("ttl_expired")),
            other => other,
        }
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

    fn translated_error(
        &self,
        packet: &Packet<'_>,
        quote: &Quote,
        session: &Session,
        outward: bool,
    ) -> Leave {
        let mut frame = packet.frame.to_vec();
        let new = if outward { session.external } else { session.internal };
        rewrite::replace_address(&mut frame, &packet.ip, outward, new.0);
        let body = packet.ip.transport..packet.ip.end;
        let around = |frame: &[u8]| {
            let body = &frame[body.clone()];
            add(sum(&body[..2]), sum(&body[4..]))
        };
        let before = around(&frame);
        self.restore(&mut frame, quote, packet.ip.end, outward, new);
        let after = around(&frame);
        let at = packet.ip.transport + 2;
        let checksum = carried(word(&frame, at), before, after);
        put(&mut frame, at, checksum);
        self.sent(packet, frame, outward, new)
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
        if self.mutation == Some(Mutation::QuotedPortStays) {
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
    let protocol = header[9];
    let [source_port, destination_port] = match (protocol, first[0]) {
        (6 | 17, _) => [word(first, 0), word(first, 2)],
        (1, kind::ECHO) => [word(first, 4), 0],
        (1, kind::ECHO_REPLY) => [0, word(first, 4)],
        _ => return None,
    };
    Some(Quote {
        ip,
        transport,
        protocol,
        source: (address(header, 12), source_port),
        destination: (address(header, 16), destination_port),
    })
}
