//! The controller's life: signals, the host's changes, the data plane's events, ageing.

use std::{pin::pin, time::Duration};

use anyhow::Result;
use futures_util::StreamExt;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, sleep},
};

use super::{Controller, busy, events::Events, resets::Resets, slow, spare::REREAD};
use crate::{
    api::{Api, Call},
    datapath::forward_log,
    host::{HostChange, batched},
};

/// Changes of the host are acted upon in batches of this length.
const BATCH: Duration = Duration::from_millis(100);
/// How often neighbours that the kernel has not heard of lately are asked again: what XDP forwards, the kernel does
/// not see.
const CONFIRM: Duration = Duration::from_secs(30);
/// How often blocks of ports are looked through. One comes back after it was without sessions for that long, and twice
/// that at most.
const BLOCKS: Duration = Duration::from_secs(60);

impl Controller {
    /// Keeps the gateway in operation until a signal ends it.
    ///
    /// # Errors
    /// What makes it impossible to go on; the data plane goes on all the same.
    pub async fn run(mut self) -> Result<()> {
        let mut signals = Signals::new()?;
        let mut events = Events::new(self.datapath.take_events()?)?;
        let mut resets = Resets::new();
        let _slow = slow::Task::start(&mut self.datapath)?;
        let log = forward_log(&mut self.datapath)?;
        let mut log = pin!(async {
            log.await;
            std::future::pending::<()>().await;
        });
        let mut changes = pin!(batched(self.host.watch().await?, BATCH));
        let mut confirm = pin!(sleep(CONFIRM));
        let mut busy = tokio::time::interval(busy::PERIOD);
        busy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sockets = pin!(sleep(REREAD));
        let mut blocks = interval(BLOCKS);
        let mut api = self.api.take();
        loop {
            tokio::select! {
                end = signals.next() => match end {
                    Order::Reload => self.reload_and_tell().await,
                    Order::End if self.args.detach_on_exit => {
                        // Its socket must not outlive the lock.
                        drop(api);
                        return self.detach().await;
                    }
                    Order::End => {
                        self.end_bursts_with_controller();
                        return Ok(());
                    }
                    Order::HandOver => return Ok(()),
                },
                Some(batch) = changes.next() => self.react(&batch).await,
                Some(call) = next_call(&mut api) => {
                    // Who has asked may have gone meanwhile.
                    let _ = call.answer.send(self.answer(call.request).await);
                }
                () = self.watch.due() => self.watch_draining().await,
                told = events.next() => {
                    let told = told?;
                    resets.tell(&told.expired);
                    events.look_again(&self.host, &mut self.datapath.maps, told.overdue).await;
                    events.resolve(&self.host, &mut self.datapath.maps, told.missing).await;
                }
                () = self.rhythm.due() => self.age(),
                () = confirm.as_mut() => {
                    self.confirm_neighbours().await;
                    confirm.as_mut().reset(tokio::time::Instant::now() + CONFIRM);
                }
                () = sockets.as_mut() => {
                    self.follow_sockets().await;
                    sockets.as_mut().reset(tokio::time::Instant::now() + REREAD);
                }
                _ = busy.tick() => {
                    self.busy.keep(&self.plan);
                    self.keep_bursts();
                    keep_fib_lookup();
                }
                _ = blocks.tick() => {
                    if let Err(error) = self.datapath.maps.return_blocks() {
                        tracing::warn!("blocks of ports do not come back: {error}");
                    }
                }
                () = log.as_mut() => {}
            }
        }
    }

    /// The two lines that whoever has sent SIGHUP waits for.
    async fn reload_and_tell(&mut self) {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading]);
        match self.reload().await {
            Ok(generation) => println!("reloaded generation={generation}"),
            Err(error) => eprintln!("reload refused: {error:#}"),
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    async fn react(&mut self, batch: &[HostChange]) {
        tracing::debug!(?batch, "the host has changed");
        if batch.iter().all(is_discovery) {
            return;
        }
        let concerned = batch.iter().any(|change| self.concerns_hops(change));
        if let Err(error) = self.follow_host(concerned).await {
            tracing::warn!("the host has changed and the gateway cannot follow: {error:#}");
        }
    }

    /// Whether packets of the gateway may leave otherwise after a change.
    fn concerns_hops(&self, change: &HostChange) -> bool {
        match change {
            HostChange::Route | HostChange::Missed => true,
            HostChange::Address => false,
            HostChange::Link { ifindex } | HostChange::Neighbour { ifindex, .. } => {
                self.plan.interfaces.contains_key(ifindex) || self.plan.devices.contains(ifindex)
            }
        }
    }

    async fn confirm_neighbours(&self) {
        let neighbours = self.host.neighbours().await.unwrap_or_default();
        for found in neighbours.iter().filter(|found| self.plan.interfaces.contains_key(&found.ifindex)) {
            if found.mac.is_some() {
                let _ = self.host.resolve(found.ifindex, found.address).await;
            }
        }
    }
}

/// Whoever writes net.ipv4.ip_forward switches it off, and nothing tells.
fn keep_fib_lookup() {
    if let Err(error) = crate::host::enable_fib_lookup() {
        tracing::warn!("{error}");
    }
}

/// The next request of the API, if it is served.
async fn next_call(api: &mut Option<Api>) -> Option<Call> {
    match api {
        Some(api) => api.next().await,
        None => None,
    }
}

/// Whether a neighbour has merely been found: no flow remembers another MAC address of it, for that would have been
/// forgotten when the neighbour was lost.
const fn is_discovery(change: &HostChange) -> bool {
    matches!(change, HostChange::Neighbour { before: None, mac: Some(_), .. })
}

/// What a signal asks for.
enum Order {
    Reload,
    End,
    HandOver,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hand_over: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.hangup.recv() => Order::Reload,
            _ = self.terminate.recv() => Order::End,
            _ = self.interrupt.recv() => Order::End,
            _ = self.hand_over.recv() => Order::HandOver,
        }
    }
}
