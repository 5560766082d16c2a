//! When the table of sessions is aged: pass after pass while something may have to end, and seldom while nothing can.

use std::time::{Duration, Instant};

use nat_common::clock::TICK_SHIFT;

use super::Controller;

/// How often all sessions are aged at most, unless that takes more than its [`SHARE`] of a CPU.
const AGEING: Duration = Duration::from_secs(1);
/// The longest timeouts need it no more often than this.
const SELDOM: Duration = Duration::from_secs(4);
/// Slices of the table that are aged in a row, with the CPU's packets between them. Whoever slept after each would wake
/// hundreds of times a second, which costs the applications of a small machine an eighth of their TCP throughput.
const TURN: usize = 16;
/// Whoever walks the table of sessions rests this many times as long as it has walked.
pub(super) const SHARE: u32 = 20;

/// When the next slices are due.
pub(super) struct Rhythm {
    due: Instant,
    /// When the pass under way has begun.
    begun: Option<Instant>,
    /// Whether what the pass under way finds is true no longer.
    outdated: bool,
}

impl Rhythm {
    /// That of a controller which starts `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now + AGEING, begun: None, outdated: false }
    }

    /// Waits for the next slices.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.due.into()).await;
    }

    /// Slices were aged from `begin` to `end`; `left` is what the pass has found, if these were its last: the ticks until
    /// something may have to end.
    fn turned(&mut self, begin: Instant, end: Instant, left: Option<u32>, shortest: Duration) {
        let begun = *self.begun.get_or_insert(begin);
        self.due = end + (end - begin) * SHARE;
        let Some(left) = left else { return };
        let left = if self.outdated { 0 } else { left };
        self.due = self.due.max(begun + pause(left, shortest));
        self.begun = None;
        self.outdated = false;
    }

    /// Another configuration has come into force `now`: sessions may have to end earlier than was found.
    pub(super) fn hurry(&mut self, now: Instant, shortest: Duration) {
        if self.begun.is_some() {
            self.outdated = true;
        } else {
            self.due = self.due.min(now + period(shortest));
        }
    }
}

/// How long after the beginning of one pass the next one begins, where something may have to end meanwhile: sessions end
/// late by a sixteenth of the shortest timeout, or by the length of a pass.
fn period(shortest: Duration) -> Duration {
    (shortest / 16).clamp(AGEING, SELDOM)
}

/// The same after a pass which found that nothing has to end for so many ticks. What is opened or closed after it was
/// looked at has the shortest timeout at least.
fn pause(left: u32, shortest: Duration) -> Duration {
    let left = Duration::from_nanos(u64::from(left) << TICK_SHIFT);
    period(shortest).max(left.min(shortest))
}

impl Controller {
    /// Ages a few slices of the table.
    pub(super) fn age(&mut self) {
        let begin = Instant::now();
        let left = (0..TURN).find_map(|_| {
            self.datapath.age_next().unwrap_or_else(|error| {
                tracing::warn!("sessions cannot be aged: {error}");
                Some(0)
            })
        });
        let shortest = self.shortest_timeout();
        self.rhythm.turned(begin, Instant::now(), left, shortest);
    }

    /// The shortest timeout of sessions.
    pub(super) fn shortest_timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeouts.shortest())
    }
}

#[cfg(test)]
mod tests {
    use nat_common::config::Ageing;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pass_follows_when_something_may_have_to_end_but_not_without_pause() {
        assert_eq!(pause(10, MINUTE).as_millis(), 10_737, "ten ticks");
        assert_eq!(pause(3, MINUTE).as_millis(), 3_750, "a sixteenth of the shortest timeout");
        assert_eq!(pause(0, MINUTE).as_millis(), 3_750);
        assert_eq!(pause(0, Duration::from_secs(2)), AGEING);
        assert_eq!(pause(0, MINUTE * 60), SELDOM);
    }

    #[test]
    fn nothing_rests_longer_than_the_shortest_timeout() {
        assert_eq!(pause(Ageing::NEVER, MINUTE), MINUTE);
        assert_eq!(pause(56, MINUTE), MINUTE);
        assert_eq!(pause(55, MINUTE).as_millis(), 59_055);
        assert_eq!(pause(Ageing::NEVER, Duration::from_secs(1)), AGEING);
    }

    #[test]
    fn slices_rest_twenty_times_their_length_and_a_pause_counts_from_the_beginning_of_its_pass() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rhythm = Rhythm::new(start);
        assert_eq!(rhythm.due, at(1_000));
        rhythm.turned(at(1_000), at(1_010), None, MINUTE);
        assert_eq!(rhythm.due, at(1_210));
        rhythm.turned(at(1_210), at(1_220), Some(Ageing::NEVER), MINUTE);
        assert_eq!(rhythm.due, at(61_000));
        rhythm.turned(at(61_000), at(61_300), Some(0), MINUTE);
        assert_eq!(rhythm.due, at(67_300), "a pass that takes longer than the pause");
        rhythm.turned(at(68_000), at(68_001), Some(0), MINUTE);
        assert_eq!(rhythm.due, at(71_750));
    }

    #[test]
    fn another_configuration_ends_a_rest() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rhythm = Rhythm::new(start);
        rhythm.turned(at(1_000), at(1_001), Some(Ageing::NEVER), MINUTE);
        rhythm.hurry(at(5_000), Duration::from_secs(2));
        assert_eq!(rhythm.due, at(6_000));
        rhythm.hurry(at(5_500), MINUTE);
        assert_eq!(rhythm.due, at(6_000), "it does not put off what is due");
    }

    #[test]
    fn a_pass_that_another_configuration_has_overtaken_is_followed_soon() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rhythm = Rhythm::new(start);
        rhythm.turned(at(1_000), at(1_010), None, MINUTE);
        rhythm.hurry(at(1_100), MINUTE);
        assert_eq!(rhythm.due, at(1_210));
        rhythm.turned(at(1_210), at(1_220), Some(Ageing::NEVER), MINUTE);
        assert_eq!(rhythm.due, at(4_750));
        rhythm.turned(at(4_750), at(4_751), Some(Ageing::NEVER), MINUTE);
        assert_eq!(rhythm.due, at(64_750));
    }
}
