//! What the data plane leaves to the controller.

use nat_common::{fragment, slow};
use nat_userspace::datapath::{Datapath, SlowMaps, SlowRing, packet_of};

use super::rig::Rig;

/// Packets that were handed over, and the records of first fragments.
pub(super) struct Handed {
    ring: SlowRing,
    maps: SlowMaps,
}

impl Handed {
    /// Those of this data plane.
    pub(super) fn by(datapath: &mut Datapath) -> Self {
        let ring = datapath.take_slow().expect("nobody else reads the slow path");
        Self { ring, maps: SlowMaps::new(&datapath.maps).expect("FRAGMENTS can be mapped") }
    }
}

impl Rig {
    /// The packets that the data plane has left to the controller since the last call.
    ///
    /// # Panics
    /// If one is shorter than it says.
    pub fn slow(&mut self) -> Vec<(slow::Head, Vec<u8>)> {
        let mut packets = Vec::new();
        while let Some(record) = self.handed.ring.next() {
            let (head, bytes) = packet_of(&record).expect("a packet is as long as its head says");
            packets.push((head, bytes.to_vec()));
        }
        packets
    }

    /// Has the data plane forget all first fragments.
    pub fn forget_fragments(&self) {
        self.handed.maps.forget();
    }

    /// What the controller finds of the first fragment of this one's datagram.
    #[must_use]
    pub fn slow_record(&self, head: &slow::Head, bytes: &[u8]) -> Option<fragment::Record> {
        self.handed.maps.record(&fragment::Key {
            source: head.key.source,
            destination: head.key.destination,
            identification: u16::from_ne_bytes([bytes[4], bytes[5]]),
            protocol: head.key.protocol,
            zone: head.key.zone,
        })
    }
}
