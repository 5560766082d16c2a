//! Draining Elastic IPs: withdrawn when their time is up, or when no session is left on them.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Controller, Desired, ageing::SHARE, plan_for};
use crate::{
    datapath::{Applied, Count, milliseconds},
    plan::Draining,
};

/// How often what drains is looked at.
const CHECK: Duration = Duration::from_secs(1);
/// Longer than a packet that opens a session by the configuration before may take.
const SETTLE: Duration = Duration::from_millis(100);

/// When what drains is looked at, and the count of its sessions.
#[derive(Default)]
pub(super) struct Watch {
    due: Option<Instant>,
    since: Option<Instant>,
    count: Option<Count>,
}

impl Watch {
    /// Waits until something is to be done; for ever while nothing drains.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }

    /// A configuration has come into force in which these drain.
    pub(super) fn begin(&mut self, draining: &[Draining]) {
        self.count = None;
        self.since = Some(Instant::now());
        let due = self.due.unwrap_or_else(|| Instant::now() + CHECK);
        self.due = if draining.is_empty() { None } else { Some(due) };
    }
}

impl Controller {
    /// Withdraws what has drained, or counts on.
    pub(super) async fn watch_draining(&mut self) {
        let now = milliseconds();
        let mut desired = self.desired();
        let is_over = |drain: &Draining| drain.deadline <= now;
        let mut over: Vec<_> = desired.draining.iter().filter(|drain| is_over(drain)).cloned().collect();
        let mut rest = CHECK;
        if over.is_empty() {
            (over, rest) = self.count_on();
        }
        if !over.is_empty() {
            desired.draining.retain(|drain| !over.contains(drain));
            match self.end_draining(desired).await {
                Ok(()) => over.iter().for_each(|drain| tell_the_end(drain, now)),
                Err(error) => tracing::warn!("Elastic IPs that have drained stay: {error:#}"),
            }
        }
        let wait = next_look(&self.applied.draining, milliseconds(), rest);
        self.watch.due = wait.map(|wait| Instant::now() + wait);
    }

    /// Counts another slice; what was found to have no session after the last one, and how long to rest.
    fn count_on(&mut self) -> (Vec<Draining>, Duration) {
        if self.watch.since.is_some_and(|since| since.elapsed() < SETTLE) {
            return (Vec::new(), SETTLE);
        }
        let begin = Instant::now();
        let addresses = self.applied.draining.iter().map(Draining::address);
        let count = match self.watch.count.take() {
            Some(count) => Ok(count),
            None => Count::new(&self.datapath.maps, addresses),
        };
        let mut count = match count {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!("the sessions of draining Elastic IPs cannot be counted: {error}");
                return (Vec::new(), CHECK);
            }
        };
        if !count.go_on() {
            self.watch.count = Some(count);
            return (Vec::new(), begin.elapsed() * SHARE);
        }
        let unused = self.applied.draining.iter().filter(|drain| count.is_unused(drain.address()));
        (unused.cloned().collect(), CHECK)
    }

    async fn end_draining(&mut self, desired: Desired) -> Result<()> {
        let facts = self.facts_for(&desired.config).await?;
        let plan = plan_for(&self.args, &desired, &facts)?;
        self.put_into_force(desired, plan, &facts).await
    }
}

/// How long to wait after a look at the millisecond `now`: for the next deadline, but `rest` at most. One that has
/// passed could not be kept, and is tried again after a rest.
fn next_look(draining: &[Draining], now: u64, rest: Duration) -> Option<Duration> {
    let left = |drain: &Draining| drain.deadline.checked_sub(now).filter(|left| *left != 0);
    let next = draining.iter().filter_map(left).map(Duration::from_millis).min();
    (!draining.is_empty()).then(|| next.unwrap_or(rest).min(rest))
}

fn tell_the_end(drain: &Draining, now: u64) {
    let why = if drain.deadline <= now { "its time is up" } else { "no session is left on it" };
    tracing::info!("{} has drained and is withdrawn: {why}", drain.address());
}

/// Says what a configuration that was read has made of the Elastic IPs that there were `before`.
pub(super) fn report(before: &Applied, after: &Desired) {
    let uses = |address: &Ipv4Addr| after.config.owner(*address).is_some();
    for address in before.changes.added.iter().filter(|address| !uses(address)) {
        tracing::warn!("{address} was added with `natgw eip add`, and the configuration does not name it");
    }
    for address in before.changes.removed.iter().filter(|address| uses(address)) {
        tracing::warn!(
            "{address} was removed with `natgw eip remove`, and the configuration names it: new sessions get it again"
        );
    }
    for address in before.addresses().filter(|address| !uses(address)) {
        match after.draining.iter().find(|drain| drain.address() == address) {
            Some(drain) => {
                tracing::info!("{address} drains for {} s", drain.seconds_left(milliseconds()));
            }
            None => tracing::info!("{address} is withdrawn, and its sessions end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::applied;

    #[test]
    fn the_next_look_is_at_the_next_deadline_or_after_a_rest() {
        let until = |deadline| {
            let config = applied().config;
            let begun = config.addresses().next().and_then(|address| Draining::begin(&config, address, 0, 0));
            Draining { deadline, ..begun.unwrap() }
        };
        let wait = |draining: &[Draining]| next_look(draining, 10_000, CHECK).map(|wait| wait.as_millis());
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[until(99_000)]), Some(1_000));
        assert_eq!(wait(&[until(99_000), until(10_250)]), Some(250));
        assert_eq!(wait(&[until(9_000)]), Some(1_000), "a withdrawal that failed is not tried without end");
    }
}
