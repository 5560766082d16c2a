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
            batch.retain(|earlier| !supersedes(change, *earlier));
            batch.push(change);
        }
        Some((batch, changes))
    })
}

fn supersedes(later: HostChange, earlier: HostChange) -> bool {
    use HostChange::Neighbour;
    match (later, earlier) {
        (Neighbour { ifindex, address, .. }, Neighbour { ifindex: index, address: other, .. }) => {
            (ifindex, address) == (index, other)
        }
        _ => later == earlier,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn neighbour(last_byte: u8) -> HostChange {
        let mac = Some([2, 0, 0, 0, 0, last_byte]);
        HostChange::Neighbour { ifindex: 3, address: Ipv4Addr::new(192, 0, 2, 1), mac }
    }

    #[tokio::test]
    async fn a_burst_becomes_one_batch_without_repetitions() {
        let burst = [HostChange::Route, neighbour(1), HostChange::Address, HostChange::Route, neighbour(2)];
        let batches: Vec<_> = batched(stream::iter(burst), Duration::from_millis(10)).collect().await;
        assert_eq!(batches, [vec![HostChange::Address, HostChange::Route, neighbour(2)]]);
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
