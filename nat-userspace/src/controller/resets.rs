//! Resets at expiry: both ends of an idle TCP session learn that it has ended.

use std::time::{Duration, Instant};

use nat_common::event::Expired;

use crate::host::Resets as Socket;

/// Sessions whose ends are told in a second at most: where many end at once, their hosts may learn of it by sending.
const PER_SECOND: u32 = 1_000;

/// The resets of this second.
pub(super) struct Resets {
    /// Opened with the first one.
    socket: Option<Socket>,
    since: Instant,
    left: u32,
}

impl Resets {
    pub(super) fn new() -> Self {
        Self { socket: None, since: Instant::now(), left: PER_SECOND }
    }

    /// Tells both ends of each session, as far as this second allows.
    pub(super) fn tell(&mut self, sessions: &[Expired]) {
        for session in sessions {
            if !self.is_allowed() {
                return;
            }
            if let Err(error) = self.send(session) {
                // An interface that has gone takes its sessions along.
                tracing::debug!("the ends of an idle session cannot be told: {error}");
            }
        }
    }

    fn send(&mut self, session: &Expired) -> std::io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open()?,
        };
        self.socket.insert(socket).send(session)
    }

    fn is_allowed(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { socket: self.socket.take(), ..Self::new() };
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_told_in_a_second() {
        let mut resets = Resets::new();
        let allowed = (0..PER_SECOND * 2).filter(|_| resets.is_allowed()).count();
        assert_eq!(allowed, PER_SECOND as usize);
        resets.since -= Duration::from_secs(1);
        assert!(resets.is_allowed());
    }
}
