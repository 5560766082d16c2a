//! What the data plane tells: next hops to be resolved, blocks of ports lent, and sessions that were idle too long.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use nat_common::{
    event::{Event, Expired},
    flow,
};
use tokio::io::unix::AsyncFd;

use crate::{
    datapath::{Block, EventRing, Maps},
    host::Host,
};

/// A next hop is asked for at most this often, however many packets wait for it.
const INTERVAL: Duration = Duration::from_millis(200);

/// What there is to do.
#[derive(Default)]
pub(super) struct Told {
    /// Next hops to be resolved: interface and address.
    pub(super) missing: Vec<(u32, Ipv4Addr)>,
    /// Sessions whose ends are to be told.
    pub(super) expired: Vec<Expired>,
}

/// The events, and the next hops asked for lately.
pub(super) struct Events {
    ring: AsyncFd<EventRing>,
    asked: HashMap<(u32, Ipv4Addr), Instant>,
}

impl Events {
    pub(super) fn new(ring: EventRing) -> std::io::Result<Self> {
        // SAFETY: the ring owns its descriptor, and gives it to nobody else, until it is dropped.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(std::io::Error::from)?;
        Ok(Self { ring, asked: HashMap::new() })
    }

    /// Waits for something to do. Whoever stops waiting loses nothing.
    pub(super) async fn next(&mut self) -> std::io::Result<Told> {
        let mut told = Told::default();
        let mut ready = self.ring.readable_mut().await?;
        while let Some(record) = ready.get_inner_mut().next() {
            match bytemuck::try_pod_read_unaligned::<Event>(&record) {
                Ok(event) if event.kind & 0xff == Event::BLOCK_LENT => Block::of_event(&event).tell_lent(),
                Ok(event) => told.missing.push((event.ifindex, flow::address(event.address))),
                Err(_) => told.expired.extend(bytemuck::try_pod_read_unaligned::<Expired>(&record)),
            }
        }
        ready.clear_ready();
        Ok(told)
    }

    /// Has the kernel resolve them, and the data plane know which it has given up: their senders are told.
    pub(super) async fn resolve(&mut self, host: &Host, maps: &mut Maps, missing: Vec<(u32, Ipv4Addr)>) {
        self.asked.retain(|_, when| when.elapsed() < INTERVAL);
        for next_hop in missing {
            if self.asked.insert(next_hop, Instant::now()).is_some() {
                continue;
            }
            let (ifindex, address) = next_hop;
            let noted = match host.resolve(ifindex, address).await {
                Ok(true) => continue,
                Ok(false) => maps.note_unanswered(ifindex, address).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = noted {
                tracing::warn!("next hop {address} cannot be resolved: {error}");
            }
        }
    }
}
