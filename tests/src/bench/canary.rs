//! A canary: a fixed piece of work before every run, which takes longer when something else disturbs the core.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bench::cpu::Core;

/// Watches one core.
pub struct Canary {
    best: Duration,
    patience: u32,
}

impl Canary {
    /// Learns how fast the core is at its best; `patience` is how often to wait for that.
    ///
    /// # Errors
    /// When this process cannot run on the core.
    pub fn new(core: &Core, patience: u32) -> Result<Self> {
        let mut best = Duration::MAX;
        for _ in 0..10 {
            best = best.min(core.canary()?);
        }
        Ok(Self { best, patience })
    }

    /// Waits until the core is quiet; `false` if it does not become so.
    ///
    /// # Errors
    /// When this process cannot run on the core.
    pub fn quiet(&mut self, core: &Core) -> Result<bool> {
        for attempt in 0..=self.patience {
            let now = core.canary()?;
            self.best = self.best.min(now);
            if is_quiet(now, self.best) {
                return Ok(true);
            }
            if attempt < self.patience {
                thread::sleep(PAUSE);
            }
        }
        Ok(false)
    }
}

/// Whether a canary's time is near the best.
fn is_quiet(now: Duration, best: Duration) -> bool {
    now.as_secs_f64() <= best.as_secs_f64() * TOLERANCE
}

const TOLERANCE: f64 = 1.25;
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_more_than_the_best_is_quiet_and_a_third_more_is_not() {
        let best = Duration::from_millis(30);
        assert!(is_quiet(Duration::from_millis(37), best));
        assert!(!is_quiet(Duration::from_millis(40), best));
    }
}
