//! Fragments that came before their first one, until that one has passed or their time is up.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use nat_common::fragment::Key;

/// Fragments held at a time,
const FRAGMENTS: usize = 2_048;
/// and bytes of them;
const BYTES: usize = 4 * 1024 * 1024;
/// fragments of one source,
const OF_SOURCE: usize = 512;
/// and of one datagram: more than the largest has at an MTU of 1,500.
const OF_DATAGRAM: usize = 64;
/// How long after its first fragment was held a datagram is looked for again at the earliest.
const SOON: Duration = Duration::from_millis(1);

/// The fragments of one datagram.
struct Waiting {
    since: Instant,
    /// When its first fragment is looked for again.
    due: Instant,
    packets: Vec<Vec<u8>>,
}

/// All that wait.
#[derive(Default)]
pub struct Held {
    datagrams: HashMap<Key, Waiting>,
    /// The datagrams in the order in which they began to wait; some have gone meanwhile.
    order: VecDeque<(Instant, Key)>,
    of_source: HashMap<u32, usize>,
    fragments: usize,
    bytes: usize,
}

impl Held {
    /// Holds a fragment; how many had to go for it, itself counted if there was no room. A flood displaces what is oldest,
    /// which honest fragments, held for the moment that packets need to overtake each other, seldom are.
    pub fn hold(&mut self, key: Key, packet: Vec<u8>, now: Instant) -> usize {
        let of_source = self.of_source.get(&key.source).copied().unwrap_or(0);
        let of_datagram = self.datagrams.get(&key).map_or(0, |waiting| waiting.packets.len());
        if of_source >= OF_SOURCE || of_datagram >= OF_DATAGRAM {
            return 1;
        }
        let mut gone = 0;
        while self.fragments >= FRAGMENTS || self.bytes + packet.len() > BYTES {
            let Some((since, oldest)) = self.order.pop_front() else { return 1 };
            gone += self.end(since, &oldest);
        }
        self.fragments += 1;
        self.bytes += packet.len();
        *self.of_source.entry(key.source).or_default() += 1;
        let order = &mut self.order;
        let waiting = self.datagrams.entry(key).or_insert_with(|| {
            order.push_back((now, key));
            Waiting { since: now, due: now + SOON, packets: Vec::new() }
        });
        waiting.packets.push(packet);
        gone
    }

    /// Takes all fragments of a datagram.
    pub fn take(&mut self, key: &Key) -> Vec<Vec<u8>> {
        let Some(Waiting { packets, .. }) = self.datagrams.remove(key) else { return Vec::new() };
        self.fragments -= packets.len();
        self.bytes -= packets.iter().map(Vec::len).sum::<usize>();
        if let Some(of_source) = self.of_source.get_mut(&key.source) {
            *of_source -= packets.len();
            if *of_source == 0 {
                self.of_source.remove(&key.source);
            }
        }
        packets
    }

    /// How many fragments have waited longer than `lifetime`; they are gone.
    pub fn expire(&mut self, now: Instant, lifetime: Duration) -> usize {
        let mut gone = 0;
        while let Some((since, key)) = self.order.front().copied()
            && now.saturating_duration_since(since) > lifetime
        {
            self.order.pop_front();
            gone += self.end(since, &key);
        }
        gone
    }

    /// Ends the wait of the datagram that began then, if it has not ended: how many fragments had to go.
    fn end(&mut self, since: Instant, key: &Key) -> usize {
        match self.datagrams.get(key) {
            Some(waiting) if waiting.since == since => self.take(key).len(),
            _ => 0,
        }
    }

    /// The datagrams whose first fragments are to be looked for now. The longer one has waited, the seldomer.
    pub fn due(&mut self, now: Instant) -> Vec<Key> {
        let mut keys = Vec::new();
        for (key, waiting) in &mut self.datagrams {
            if waiting.due <= now {
                waiting.due = now + SOON.max(now.saturating_duration_since(waiting.since) / 4);
                keys.push(*key);
            }
        }
        keys
    }

    /// When that is next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.datagrams.values().map(|waiting| waiting.due).min()
    }
}
