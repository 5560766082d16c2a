//! What the data plane tells its controller.

use nat_common::event::{Event, Expired};
use nat_userspace::datapath::EventRing;

/// The ring of events, and what of it nobody has asked for yet.
pub struct Events {
    ring: EventRing,
    expired: Vec<Expired>,
}

impl Events {
    /// Reads this ring.
    #[must_use]
    pub fn new(ring: EventRing) -> Self {
        Self { ring, expired: Vec::new() }
    }

    /// The events since the last call, but sessions that have expired.
    ///
    /// # Panics
    /// If one is of no known length.
    pub fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(record) = self.ring.next() {
            if record.len() == size_of::<Expired>() {
                self.expired.push(bytemuck::pod_read_unaligned(&record));
            } else {
                events.push(bytemuck::pod_read_unaligned(&record));
            }
        }
        events
    }

    /// The sessions that have expired since the last call; other events are lost.
    pub fn take_expired(&mut self) -> Vec<Expired> {
        self.take();
        std::mem::take(&mut self.expired)
    }
}
