//! A canary: a fixed piece of work before every run, which takes longer when something else disturbs the core.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::bench::cpu::Core;

/// Watches one core.
pub struct Canary {
    readings: Vec<Duration>,
    patience: u32,
}

impl Canary {
    /// Learns how fast the core usually is; `patience` is how often to wait for that.
    ///
    /// # Errors
    /// When this process cannot run on the core.
    pub fn new(core: &Core, patience: u32) -> Result<Self> {
        let readings = (0..LEARNT).map(|_| core.canary()).collect::<Result<_>>()?;
        Ok(Self { readings, patience })
    }

    /// Waits until the core is quiet; `false` if it does not become so.
    ///
    /// # Errors
    /// When this process cannot run on the core.
    pub fn quiet(&mut self, core: &Core) -> Result<bool> {
        for attempt in 0..=self.patience {
            let now = core.canary()?;
            let usual = median(&self.readings);
            self.readings.push(now);
            if is_quiet(now, usual) {
                return Ok(true);
            }
            if attempt < self.patience {
                thread::sleep(PAUSE);
            }
        }
        Ok(false)
    }
}

/// The middle of all readings: the best of them is a stroke of luck of a shared cache, which nothing after it matches.
fn median(readings: &[Duration]) -> Duration {
    let mut sorted = readings.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(Duration::MAX)
}

/// Whether a canary's time is near what it usually is.
fn is_quiet(now: Duration, usual: Duration) -> bool {
    now.as_secs_f64() <= usual.as_secs_f64() * TOLERANCE
}

const LEARNT: usize = 11;
const TOLERANCE: f64 = 1.25;
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_more_than_usual_is_quiet_and_a_third_more_is_not() {
        let usual = Duration::from_millis(30);
        assert!(is_quiet(Duration::from_millis(37), usual));
        assert!(!is_quiet(Duration::from_millis(40), usual));
    }

    #[test]
    fn one_lucky_reading_does_not_make_all_others_noisy() {
        let readings = [20, 31, 30, 29, 30].map(Duration::from_millis);
        assert!(is_quiet(Duration::from_millis(30), median(&readings)));
    }
}
