//! Changes in batches, so that a burst of them causes one reaction.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::HostChange;

/// Collects the changes that follow one another within `window` of the first; repetitions are dropped, and of
/// one neighbour only the latest news is kept. Ends when `changes` does.
pub fn batched<S>(changes: S, window: Duration) -> impl Stream<Item = Vec<HostChange>>
where
    S: Stream<Item = HostChange> + Unpin,
{
    stream::unfold(changes, move |mut changes| async move {
        let mut batch = vec![changes.next().await?];
        let end = Instant::now() + window;
        while let Ok(Some(change)) = timeout_at(end, changes.next()).await {
            add(&mut batch, change);
        }
        Some((batch, changes))
    })
}

/// Adds a change in the place of the one it supersedes. Of a neighbour, the address before the first change of the
/// batch is what counts as the address before.
fn add(batch: &mut Vec<HostChange>, mut change: HostChange) {
    batch.retain(|earlier| match (&mut change, earlier) {
        (
            HostChange::Neighbour { ifindex, address, before, .. },
            HostChange::Neighbour { ifindex: index, address: other, before: first, .. },
        ) if (*ifindex, *address) == (*index, *other) => {
            *before = *first;
            false
        }
        (change, earlier) => *change != *earlier,
    });
    batch.push(change);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn neighbour(before: Option<u8>, now: Option<u8>) -> HostChange {
        let [before, mac] = [before, now].map(|byte| byte.map(|byte| [2, 0, 0, 0, 0, byte]));
        HostChange::Neighbour { ifindex: 3, address: Ipv4Addr::new(192, 0, 2, 1), before, mac }
    }

    #[tokio::test]
    async fn a_burst_becomes_one_batch_without_repetitions() {
        let (lost, found) = (neighbour(Some(1), None), neighbour(None, Some(2)));
        let burst = [HostChange::Route, lost, HostChange::Address, HostChange::Route, found];
        let batches: Vec<_> = batched(stream::iter(burst), Duration::from_millis(10)).collect().await;
        assert_eq!(batches, [vec![HostChange::Address, HostChange::Route, neighbour(Some(1), Some(2))]]);
    }

    #[tokio::test]
    async fn changes_further_apart_than_the_window_come_separately() {
        let slow = Box::pin(stream::unfold(0, |count| async move {
            tokio::time::sleep(Duration::from_millis(40)).await;
            (count < 2).then_some((HostChange::Route, count + 1))
        }));
        let batches: Vec<_> = batched(slow, Duration::from_millis(5)).collect().await;
        assert_eq!(batches, [[HostChange::Route], [HostChange::Route]]);
    }
}
