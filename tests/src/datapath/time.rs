//! Time that passes without waiting.

use super::rig::Rig;

impl Rig {
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
