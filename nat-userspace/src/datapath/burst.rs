//! Bursts: two programs in the place of one, the first of which sends packets ahead to the second.
//!
//! A packet that was sent ahead and does not meet the second program is lost. The kernel runs that of the first frame which
//! it has collected for a device. So every frame goes by a device with that program before the first is sent ahead, and
//! until the last one has gone.

use std::{collections::BTreeMap, io, thread::sleep};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::ProgramFd,
};
use nat_common::burst::{Lead, Reach};

use super::{
    Datapath, DatapathError, Hook, Pins,
    apply::GRACE,
    driver::take,
    load::{AHEAD, BURST, PROGRAM, context, xdp},
};
use crate::plan::Bursts;

/// What the first program decides by.
pub(super) struct BurstMaps {
    leads: Array<MapData, Lead>,
    reach: Array<MapData, Reach>,
}

impl BurstMaps {
    pub(super) fn of_object(object: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self { leads: take(object, "LEADS")?, reach: take(object, "REACH")? })
    }
}

impl Datapath {
    /// Why there can be no bursts, if so.
    #[must_use]
    pub fn without_bursts(&self) -> Option<&'static str> {
        self.bursts.as_ref().err().copied()
    }

    /// Begins to translate in bursts on these devices, by index and name: all that there are, all at the XDP hook in the
    /// driver.
    ///
    /// # Errors
    /// As the kernel refuses. [`Datapath::end_bursts`] leads back from there.
    pub fn begin_bursts(
        &mut self,
        pins: &Pins,
        devices: &BTreeMap<u32, String>,
        bursts: &Bursts,
    ) -> Result<(), DatapathError> {
        let program =
            xdp(&mut self.object, BURST).fd().and_then(|program| program.try_clone().map_err(Into::into));
        let program = program.map_err(DatapathError::access("read", "DEVICES"))?;
        self.put_at_devices(devices, Some(&program))?;
        wait_for_packets();
        self.set_bursts(bursts)?;
        devices.values().try_for_each(|name| self.exchange(pins, name, AHEAD))
    }

    /// Has the first program send ahead what `bursts` says.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn set_bursts(&mut self, bursts: &Bursts) -> Result<(), DatapathError> {
        let Ok(maps) = &mut self.bursts else { return Ok(()) };
        maps.reach.set(0, *bursts.reach, 0).map_err(DatapathError::access("write", "REACH"))?;
        for (index, lead) in &bursts.leads {
            maps.leads.set(*index, lead, 0).map_err(DatapathError::access("write", "LEADS"))?;
        }
        Ok(())
    }

    /// As [`Datapath::translate`], by the first program.
    ///
    /// # Errors
    /// As for [`Datapath::translate`]; also where it was not loaded.
    pub fn send_ahead(&mut self, frame: &[u8], ingress: u32) -> Result<(u32, Vec<u8>), DatapathError> {
        self.translate_by(AHEAD, frame, &context(frame.len(), ingress))
    }

    /// Goes back to translating packets one by one.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn end_bursts(&mut self, pins: &Pins, devices: &BTreeMap<u32, String>) -> Result<(), DatapathError> {
        if let Ok(maps) = &mut self.bursts {
            for index in devices.keys() {
                let set = maps.leads.set(*index, Lead::default(), 0);
                set.map_err(DatapathError::access("write", "LEADS"))?;
            }
        }
        // Where that fails, as at a device that has gone, nothing is sent ahead all the same.
        let exchanged = every(devices.values().map(|name| self.exchange(pins, name, PROGRAM)));
        exchanged.and(self.settle_bursts(devices))
    }

    /// Has frames leave by these devices as they are, when the last one that was sent ahead has gone. Nothing may be sent
    /// ahead any more.
    ///
    /// # Errors
    /// As the kernel refuses.
    pub fn settle_bursts(&mut self, devices: &BTreeMap<u32, String>) -> Result<(), DatapathError> {
        wait_for_packets();
        self.put_at_devices(devices, None)
    }

    /// Has frames that leave by these devices meet `program`.
    fn put_at_devices(
        &mut self,
        devices: &BTreeMap<u32, String>,
        program: Option<&ProgramFd>,
    ) -> Result<(), DatapathError> {
        every(devices.keys().map(|index| {
            let set = self.maps.devices.set(*index, *index, program, 0);
            set.map_err(DatapathError::access("write", "DEVICES"))
        }))
    }

    /// Puts another program in the place of the one at `interface`.
    fn exchange(&mut self, pins: &Pins, interface: &str, program: &str) -> Result<(), DatapathError> {
        if self.replace(&pins.link(interface), Hook::XdpNative, program)? {
            return Ok(());
        }
        let cause = format!("the program {program} cannot take the place of the one that is there");
        Err(DatapathError::Attach { interface: interface.to_owned(), cause, remedy: "", held: false })
    }
}

/// Does all of it, and tells what has failed first.
fn every(steps: impl Iterator<Item = Result<(), DatapathError>>) -> Result<(), DatapathError> {
    steps.fold(Ok(()), Result::and)
}

/// Returns when no packet is under way in the data plane any more that was when this was called: the kernel waits for all
/// processors to have been out of their receive loops.
fn wait_for_packets() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes two numbers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if answer != 0 {
        tracing::debug!("membarrier: {}", io::Error::last_os_error());
        sleep(GRACE);
    }
}
