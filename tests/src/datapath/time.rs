//! Time that passes without waiting.

use std::{thread::sleep, time::Duration};

use nat_common::clock::TICK_SHIFT;
use nix::time::{ClockId, clock_gettime};

use super::rig::Rig;

/// How late a CPU's clock may be, and some more.
const LATE: u64 = 250_000_000;

impl Rig {
    /// Waits for the beginning of a tick, after which the clocks of all CPUs stand still for half a second at least.
    ///
    /// # Panics
    /// Without a monotonic clock.
    pub fn wait_for_a_tick(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has it");
        let now = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        let into = now % (1 << TICK_SHIFT);
        if !(LATE..2 * LATE).contains(&into) {
            let wait = (1_u64 << TICK_SHIFT) + LATE - into;
            sleep(Duration::from_nanos(wait % (1 << TICK_SHIFT)));
        }
    }

    /// Runs an ageing pass `ticks` ahead that ends nothing: the ticks from then on until one may, by what it found.
    ///
    /// # Panics
    /// If the ageing program cannot be run.
    pub fn left(&mut self, ticks: u32) -> u32 {
        self.datapath.age(false, ticks).expect("the ageing program can be run")
    }

    /// Has so many ticks of the data plane's clock pass for every session. Nothing ends until it is aged.
    ///
    /// # Panics
    /// If the table cannot be written.
    pub fn let_pass(&mut self, ticks: u32) {
        self.datapath.maps.let_pass(ticks).expect("FLOWS4 can be written");
    }

    /// Has everything end that is due, and looks no further: what a first ageing pass lets go of ends in a second.
    ///
    /// # Panics
    /// If the ageing program cannot be run.
    pub fn end_idle(&mut self) {
        for _ in 0..2 {
            self.datapath.age(false, 0).expect("the ageing program can be run");
        }
    }
}
