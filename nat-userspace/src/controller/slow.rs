//! The slow path at work: a task of its own, so that packets do not wait for what else the controller does.

use std::time::Instant;

use nat_common::fragment::{Key, Record};
use tokio::{io::unix::AsyncFd, task::JoinHandle, time::sleep_until};

use crate::{
    datapath::{Datapath, SlowMaps, SlowRing, packet_of},
    slow::{Records, Slow, Socket},
};

/// Packets taken from the ring before anything else gets its turn.
const BATCH: usize = 256;

impl Records for SlowMaps {
    fn record(&self, key: &Key) -> Option<Record> {
        self.record(key)
    }

    fn generation(&self) -> u32 {
        self.generation()
    }

    fn lifetime(&self) -> u32 {
        self.lifetime()
    }
}

/// The running task; it ends with this value.
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// Begins to send on what the data plane leaves to the controller.
    ///
    /// # Errors
    /// If the ring or a packet socket cannot be had.
    pub(super) fn start(datapath: &mut Datapath) -> anyhow::Result<Self> {
        let ring = datapath.take_slow()?;
        let maps = SlowMaps::new(&datapath.maps)?;
        let slow = Slow::new(Socket::open()?, maps.counts());
        // SAFETY: the ring owns its descriptor, and gives it to nobody else, until it is dropped.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(std::io::Error::from)?;
        Ok(Self(tokio::spawn(async move {
            if let Err(error) = work(ring, maps, slow).await {
                tracing::warn!("fragments are no longer held, nor packets fragmented: {error}");
            }
        })))
    }
}

async fn work(
    mut ring: AsyncFd<SlowRing>,
    mut maps: SlowMaps,
    mut slow: Slow<Socket>,
) -> std::io::Result<()> {
    let mut written = slow.counts();
    loop {
        let due = slow.next();
        tokio::select! {
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                if !take(ready.get_inner_mut(), &mut slow, &maps) {
                    ready.clear_ready();
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
        slow.look(&maps, Instant::now());
        if slow.counts() != written {
            written = slow.counts();
            if let Err(error) = maps.set_counts(written) {
                tracing::debug!("{error}");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Takes a batch of packets: whether there may be more.
fn take(ring: &mut SlowRing, slow: &mut Slow<Socket>, maps: &SlowMaps) -> bool {
    for _ in 0..BATCH {
        let Some(record) = ring.next() else { return false };
        if let Some((head, bytes)) = packet_of(&record) {
            slow.take(&head, bytes, maps, Instant::now());
        }
    }
    true
}
