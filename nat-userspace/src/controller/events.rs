//! What the data plane tells: next hops to be resolved, blocks of ports lent, and sessions that were idle too long.

use std::{
    collections::HashMap,
    fmt::Display,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use nat_common::{
    event::{Event, Expired},
    flow,
    neighbour::MAX_UNANSWERED,
};
use tokio::{io::unix::AsyncFd, time::sleep_until};

use crate::{
    datapath::{Block, EventRing, Maps},
    host::{Host, Outcome},
};

/// A next hop is asked for at most this often, however many packets wait for it.
const INTERVAL: Duration = Duration::from_millis(200);
/// A next hop that is being asked for is looked at this often: the kernel asks for about three seconds, and where it does
/// so again and again by itself, rests for two.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to do.
#[derive(Default)]
pub(super) struct Told {
    /// Next hops to be resolved: interface and address.
    pub(super) missing: Vec<(u32, Ipv4Addr)>,
    /// Next hops to be looked at again.
    pub(super) overdue: Vec<(u32, Ipv4Addr)>,
    /// Sessions whose ends are to be told.
    pub(super) expired: Vec<Expired>,
}

impl Told {
    fn take(&mut self, record: &[u8]) {
        match bytemuck::try_pod_read_unaligned::<Event>(record) {
            Ok(event) if event.kind & 0xff == Event::BLOCK_LENT => Block::of_event(&event).tell_lent(),
            Ok(event) => self.missing.push((event.ifindex, flow::address(event.address))),
            Err(_) => self.expired.extend(bytemuck::try_pod_read_unaligned::<Expired>(record)),
        }
    }
}

/// The events, the next hops asked for lately, and when those that have not answered yet are looked at again.
pub(super) struct Events {
    ring: AsyncFd<EventRing>,
    asked: HashMap<(u32, Ipv4Addr), Instant>,
    awaited: HashMap<(u32, Ipv4Addr), Instant>,
}

impl Events {
    pub(super) fn new(ring: EventRing) -> std::io::Result<Self> {
        // SAFETY: the ring owns its descriptor, and gives it to nobody else, until it is dropped.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(std::io::Error::from)?;
        Ok(Self { ring, asked: HashMap::new(), awaited: HashMap::new() })
    }

    /// Waits for something to do. Whoever stops waiting loses nothing.
    pub(super) async fn next(&mut self) -> std::io::Result<Told> {
        let mut told = Told::default();
        let due = self.awaited.values().min().copied();
        tokio::select! {
            ready = self.ring.readable_mut() => {
                let mut ready = ready?;
                while let Some(record) = ready.get_inner_mut().next() {
                    told.take(&record);
                }
                ready.clear_ready();
            }
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                let now = Instant::now();
                told.overdue = self.awaited.extract_if(|_, due| *due <= now).map(|(hop, _)| hop).collect();
            }
        }
        Ok(told)
    }

    /// Has the kernel resolve them, and the data plane know which it has given up: their senders are told.
    pub(super) async fn resolve(&mut self, host: &Host, maps: &mut Maps, missing: Vec<(u32, Ipv4Addr)>) {
        self.asked.retain(|_, when| when.elapsed() < INTERVAL);
        for next_hop in missing {
            if self.asked.insert(next_hop, Instant::now()).is_some() {
                continue;
            }
            match host.resolve(next_hop.0, next_hop.1).await {
                Ok(true) => self.expect(next_hop),
                Ok(false) => note(maps, next_hop),
                Err(error) => warn(next_hop, &error),
            }
        }
    }

    /// Has the data plane know which next hops the kernel has given up meanwhile: the next packet's sender is told, not
    /// only the one after.
    pub(super) async fn look_again(&mut self, host: &Host, maps: &mut Maps, overdue: Vec<(u32, Ipv4Addr)>) {
        for next_hop in overdue {
            match host.outcome(next_hop.0, next_hop.1).await {
                Ok(Outcome::Asking) => self.expect(next_hop),
                Ok(Outcome::GivenUp) => note(maps, next_hop),
                Ok(Outcome::Settled) => {}
                Err(error) => warn(next_hop, &error),
            }
        }
    }

    fn expect(&mut self, next_hop: (u32, Ipv4Addr)) {
        if self.awaited.len() < MAX_UNANSWERED as usize {
            self.awaited.entry(next_hop).or_insert_with(|| Instant::now() + LOOK);
        }
    }
}

fn note(maps: &mut Maps, next_hop: (u32, Ipv4Addr)) {
    if let Err(error) = maps.note_unanswered(next_hop.0, next_hop.1) {
        warn(next_hop, &error);
    }
}

fn warn((_, address): (u32, Ipv4Addr), error: &dyn Display) {
    tracing::warn!("next hop {address} cannot be resolved: {error}");
}
