//! Running the ageing program over the flow table, slice by slice.

use std::thread::sleep;

use aya::TestRunOptions;
use nat_common::config::Ageing;

use super::{Datapath, DatapathError, Maps, apply::GRACE, load::AGE};

/// Groups that ageing visits in one run, during which its CPU handles no packets: some 30 microseconds.
const SLICE: u32 = 512;
/// A frame for programs that look at none.
const NO_FRAME: [u8; 64] = [0; 64];

/// How far a pass over the table has got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// The group where it goes on.
    next: u32,
    /// What its slices have answered.
    left: u32,
}

impl Pass {
    /// The next one, from the first group on.
    pub(super) const NEXT: Self = Self { next: 0, left: Ageing::NEVER };
}

impl Datapath {
    /// Ages the whole table at once, `ahead` ticks later than now; with `withdrawn`, sessions whose Elastic IP is no
    /// longer configured end however busy they are. What [`Datapath::age_next`] answers in the end.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses to run it.
    pub fn age(&mut self, withdrawn: bool, ahead: u32) -> Result<u32, DatapathError> {
        self.pass = Pass::NEXT;
        let orders = Ageing { withdrawn: withdrawn.into(), ahead, ..Ageing::default() };
        loop {
            if let Some(left) = self.age_slice(orders)? {
                return Ok(left);
            }
        }
    }

    /// Ages the next slice of the table. After the last one: the ticks from when they were looked at until the first of
    /// the entries that there were may have to end, if nothing changes; 0 after something has ended,
    /// [`Ageing::NEVER`] if there were none.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses to run it.
    pub fn age_next(&mut self) -> Result<Option<u32>, DatapathError> {
        self.age_slice(Ageing::default())
    }

    /// Has every session counted where the configuration in force says. Packets that were judged before that are waited
    /// for, whose sessions are counted as the one before said.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses to run it.
    pub fn recount(&mut self) -> Result<(), DatapathError> {
        sleep(GRACE);
        self.pass = Pass::NEXT;
        while self.age_slice(Ageing { recount: 1, ..Ageing::default() })?.is_none() {}
        Ok(())
    }

    fn age_slice(&mut self, orders: Ageing) -> Result<Option<u32>, DatapathError> {
        let Pass { next, left } = self.pass;
        let rest = self.maps.max_sessions()? - next;
        let groups = rest.min(SLICE);
        self.maps.set_ageing(Ageing { left, first: next, groups, ..orders })?;
        let run = self.run(AGE, TestRunOptions { data_in: Some(&NO_FRAME), ..TestRunOptions::new() })?;
        let last = groups == rest;
        self.pass = if last { Pass::NEXT } else { Pass { next: next + groups, left: run.return_value } };
        Ok(last.then_some(run.return_value))
    }
}

impl Maps {
    /// Whether ageing has run since the last call: for tests, which tell so whether a controller rests. Forgets the
    /// orders of the last run.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn has_aged(&mut self) -> Result<bool, DatapathError> {
        let orders = self.ageing.get(&0, 0).map_err(DatapathError::access("read", "AGEING"))?;
        self.set_ageing(Ageing::default())?;
        Ok(orders.groups != 0)
    }
}
