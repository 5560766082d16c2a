//! Fragments: the first one goes the way of a whole packet, and the others follow it (RFC 4787 §11).

use super::{
    nat::{Leave, Model, Packet, Stop},
    packet::{self, Content},
    rewrite,
    wire::word,
};

/// Bytes of the longest IP packet.
const LONGEST: usize = 65_535;

/// What datagram a fragment is of: source, destination, identification, protocol, and whether it comes from inside.
pub type Key = ([u8; 8], u16, u8, bool);

/// Where a first fragment has gone.
#[derive(Clone, Debug)]
pub struct Trail {
    ports: [u16; 2],
    generation: u64,
    /// The first one as it came and as it left.
    came: Vec<u8>,
    left: Leave,
    /// Bytes of content that have passed, and where the datagram ends, once that is known.
    passed: usize,
    end: usize,
}

impl Trail {
    /// Whether all of the datagram seems to have passed.
    const fn is_whole(&self) -> bool {
        self.end != 0 && self.passed >= self.end
    }
}

impl Model {
    /// A fragment.
    pub(super) fn fragment(&mut self, packet: &Packet<'_>, outward: bool) -> Result<Leave, Stop> {
        let ip = &packet.ip;
        let place = word(packet.frame, ip.ip + 6);
        let (offset, more) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
        let bytes = ip.end - ip.transport;
        let first =
            self.check(packet, outward, offset, more).map_err(|reason| self.host_or(packet, reason))?;
        let addresses = packet.frame[ip.ip + 12..ip.ip + 20].try_into().expect("two addresses");
        let key: Key = (addresses, word(packet.frame, ip.ip + 4), ip.protocol, outward);
        if let Some((content, ports)) = first {
            let known = self.trails.get(&key);
            if known.is_some_and(|trail| trail.ports != ports && !trail.is_whole()) {
                return Err(self.host_or(packet, "fragment_overlap"));
            }
            let left = if outward { self.outward(packet, content) } else { self.inward(packet, content) }?;
            let came = packet.frame.to_vec();
            let trail =
                Trail { ports, generation: self.generation, came, left: left.clone(), passed: bytes, end: 0 };
            self.trails.insert(key, trail);
            return Ok(left);
        }
        let generation = self.generation;
        let Some(trail) = self.trails.get_mut(&key) else { return Err(self.unknown(packet, outward)) };
        if trail.generation != generation {
            return Err(Stop::Refuse("fragment_unknown"));
        }
        trail.passed += bytes;
        trail.end += if more { 0 } else { offset + bytes };
        if ip.ttl <= 1 {
            return Err(Stop::Refuse("ttl_expired"));
        }
        Ok(follow(packet, trail))
    }

    /// Refuses what no honest host sends; what a first one carries, and its ports.
    fn check(
        &self,
        packet: &Packet<'_>,
        outward: bool,
        offset: usize,
        more: bool,
    ) -> Result<Option<(Content, [u16; 2])>, &'static str> {
        let ip = &packet.ip;
        let bytes = ip.end - ip.transport;
        let least = match ip.protocol {
            6 => 20,
            1 | 17 => 8,
            _ => return Err("protocol"),
        };
        if outward && self.world.is_elastic(ip.destination) {
            return Err("fragment_hairpin");
        }
        if bytes == 0 || ip.transport - ip.ip + offset + bytes > LONGEST || (more && !bytes.is_multiple_of(8))
        {
            return Err("fragment_malformed");
        }
        if offset != 0 {
            // It would lie over what was checked of the first one (RFC 1858 §4).
            return if offset < least { Err("fragment_overlap") } else { Ok(None) };
        }
        if bytes < least {
            return Err("fragment_tiny");
        }
        let body = &packet.frame[ip.transport..ip.end];
        let content = match ip.protocol {
            // Its length is the datagram's.
            17 if word(body, 4) < 8 => return Err("udp_length"),
            17 => Content::Udp { ports: [word(body, 0), word(body, 2)] },
            1 if matches!(body[0], 3 | 11 | 12) => return Err("fragment_icmp_error"),
            1 if !matches!(body[0], packet::kind::ECHO | packet::kind::ECHO_REPLY) => {
                return Err("icmp_type");
            }
            _ => packet::content(packet.frame, ip)?,
        };
        let ports = super::forward::endpoints(ip, content).map(|(_, port)| port);
        Ok(Some((content, ports)))
    }

    /// A fragment whose first one has not come: the controller holds it, if it may come to anything.
    fn unknown(&self, packet: &Packet<'_>, outward: bool) -> Stop {
        let ip = &packet.ip;
        if self.world.is_host(ip.destination) {
            return Stop::Stack;
        }
        if !outward {
            let is_ours = self.world.is_elastic(ip.destination);
            return if is_ours { Stop::Held } else { Stop::Refuse("not_for_gateway") };
        }
        match self.world.subnet(ip.source) {
            Some(subnet) if subnet.side == packet.arrives => Stop::Held,
            _ => Stop::Refuse("source_not_in_subnet"),
        }
    }
}

/// A fragment with the addresses and the identification of its first one, one hop on.
fn follow(packet: &Packet<'_>, trail: &Trail) -> Leave {
    let ip = &packet.ip;
    let mut frame = packet.frame.to_vec();
    for (at, outward) in [(12, true), (16, false)] {
        // Both IP headers begin where the link header ends.
        let new = super::wire::address(&trail.left.frame, ip.ip + at);
        if new != super::wire::address(&trail.came, ip.ip + at) {
            rewrite::replace_address(&mut frame, ip, outward, new);
        }
    }
    rewrite::identification(&mut frame, ip, word(&trail.left.frame, ip.ip + 4));
    rewrite::lower_ttl(&mut frame, ip);
    frame[..12].copy_from_slice(&trail.left.frame[..12]);
    Leave { counted: trail.left.counted, side: trail.left.side, frame }
}
