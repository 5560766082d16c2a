//! Packets that the data plane leaves to the controller: fragments that come before their first one are held until that
//! one has passed, and packets too big for the next link are fragmented. Both are translated here as they would have been
//! there, and nothing leaves untranslated. Frames that are ready, but could not be sent from where they were, are sent.

mod divide;
mod held;
mod packet;
mod send;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use nat_common::{
    clock::TICK_SHIFT,
    flow::{Direction, Hop, OUTSIDE},
    fragment::{Key, Record},
    slow::{Counts, Head},
};

pub use divide::divide;
pub use held::Held;
pub use packet::{Place, Rewrite, translate};
pub use send::{Send, Socket, frame};

/// What is known of first fragments.
pub trait Records {
    /// What became of the first fragment of `key`'s datagram, if it has passed under the configuration in force.
    fn record(&self, key: &Key) -> Option<Record>;
    /// The generation in force.
    fn generation(&self) -> u32;
    /// Ticks that a record lives.
    fn lifetime(&self) -> u32;
}

/// The slow path.
pub struct Slow<S> {
    held: Held,
    socket: S,
    counts: Counts,
}

impl<S: Send> Slow<S> {
    /// One that sends by `socket`, and goes on from these counts.
    pub fn new(socket: S, counts: Counts) -> Self {
        Self { held: Held::default(), socket, counts }
    }

    /// What became of packets so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// When [`Slow::look`] is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.held.next()
    }

    /// Takes a packet from the data plane.
    pub fn take(&mut self, head: &Head, bytes: &[u8], records: &impl Records, now: Instant) {
        // What was left to an earlier controller, or judged under another configuration, comes too late.
        if head.generation != records.generation() {
            return self.fail();
        }
        if head.flags & Head::FRAME != 0 {
            if self.socket.send(head.hop.ifindex(), bytes).is_err() {
                self.fail();
            }
            return;
        }
        let identification = packet::identification_of(bytes);
        let Some(identification) = identification else { return self.fail() };
        if head.mtu != Head::HELD {
            let rewrite = Rewrite {
                direction: head.key.direction(),
                address: head.address,
                port: head.port,
                identification: head.identification,
                pending: head.flags & Head::PENDING_CHECKSUM != 0,
            };
            return match self.forward(bytes.to_vec(), &rewrite, &head.hop, head.mtu.into()) {
                true => self.counts.divided += 1,
                false => self.fail(),
            };
        }
        let key = Key {
            source: head.key.source,
            destination: head.key.destination,
            identification,
            protocol: head.key.protocol,
            zone: head.key.zone,
        };
        self.counts.expired += self.held.hold(key, bytes.to_vec(), now) as u64;
        if let Some(record) = records.record(&key) {
            self.release(&key, &record);
        }
    }

    /// Looks for the first fragments of what is held, and ends what has waited too long.
    pub fn look(&mut self, records: &impl Records, now: Instant) {
        for key in self.held.due(now) {
            if let Some(record) = records.record(&key) {
                self.release(&key, &record);
            }
        }
        let lifetime = Duration::from_nanos(u64::from(records.lifetime()) << TICK_SHIFT);
        self.counts.expired += self.held.expire(now, lifetime) as u64;
    }

    /// Sends what is held of a datagram, in order.
    fn release(&mut self, key: &Key, record: &Record) {
        let mut packets = self.held.take(key);
        packets.sort_by_key(|packet| Place::of(packet).map_or(0, |place| place.offset));
        let rewrite = Rewrite {
            direction: if key.zone == OUTSIDE { Direction::Inbound } else { Direction::Outbound },
            address: record.address,
            port: 0,
            identification: record.identification,
            pending: false,
        };
        let mtu = if record.mtu == 0 { usize::MAX } else { record.mtu.into() };
        for packet in packets {
            match self.forward(packet, &rewrite, &record.hop, mtu) {
                true => self.counts.released += 1,
                false => self.fail(),
            }
        }
    }

    /// Translates a packet and sends it, in fragments where it is too big: whether all of it has gone.
    fn forward(&mut self, mut packet: Vec<u8>, rewrite: &Rewrite, hop: &Hop, mtu: usize) -> bool {
        if !translate(&mut packet, rewrite) {
            return false;
        }
        let Ok(carried) = self.socket.mtu(hop.ifindex()) else { return false };
        let pieces = divide(&packet, mtu.min(carried));
        let sent = pieces.iter().all(|piece| match self.socket.send(hop.ifindex(), &frame(hop, piece)) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("a packet of the slow path cannot be sent: {error}");
                false
            }
        });
        sent && !pieces.is_empty()
    }

    const fn fail(&mut self) {
        self.counts.failed += 1;
    }
}
