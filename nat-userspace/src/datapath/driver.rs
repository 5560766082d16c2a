//! The benchmark's driver: a second object that makes packets and tail-calls the program under measurement.

use std::time::Duration;

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{Array, MapData, ProgramArray},
    programs::ProgramFd,
};
use nat_common::{bench::Orders, flow::FlowKey4};

use super::{
    Datapath, DatapathError,
    error::{answer, with_sources},
    load::{PROGRAM, context, xdp},
    refusal::refused,
};

pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/natgw-bench"));
const DRIVER: &str = "bench_driver";
const EMPTY: &str = "bench_empty";
const BARE: &str = "bench_bare";
/// The smallest Ethernet frame, without its checksum.
const FRAME: [u8; 60] = [0; 60];

/// A loaded driver.
pub struct Driver {
    object: Ebpf,
    orders: Array<MapData, Orders>,
    flows: Array<MapData, FlowKey4>,
    target: ProgramArray<MapData>,
}

impl Driver {
    /// Loads a driver that can cycle through up to `flows` flows.
    ///
    /// # Errors
    /// [`DatapathError::Setup`] or [`DatapathError::Load`] if the kernel refuses.
    pub fn load(flows: u32) -> Result<Self, DatapathError> {
        let setup = |error: aya::EbpfError| DatapathError::Setup(with_sources(&error));
        let mut object =
            EbpfLoader::new().map_max_entries("BENCH_FLOWS", flows).load(OBJECT).map_err(setup)?;
        for program in [DRIVER, EMPTY, BARE] {
            let loaded = xdp(&mut object, program).load();
            loaded.map_err(refused(program))?;
        }
        let orders = take(&mut object, "BENCH_ORDERS")?;
        let flows = take(&mut object, "BENCH_FLOWS")?;
        let target = take(&mut object, "BENCH_TARGET")?;
        Ok(Self { object, orders, flows, target })
    }

    /// Sets the flows to cycle through.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn set_flows(&mut self, flows: &[FlowKey4]) -> Result<(), DatapathError> {
        for (number, flow) in flows.iter().enumerate() {
            self.flows.set(number as u32, flow, 0).map_err(DatapathError::access("write", "BENCH_FLOWS"))?;
        }
        Ok(())
    }

    /// Aims at the translating program of `datapath`.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn aim_at(&mut self, datapath: &mut Datapath) -> Result<(), DatapathError> {
        let program =
            xdp(&mut datapath.object, PROGRAM).fd().and_then(|fd| fd.try_clone().map_err(Into::into));
        self.set_target(&program.map_err(DatapathError::access("read", "BENCH_TARGET"))?)
    }

    /// Aims at the program that does nothing.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn aim_at_nothing(&mut self) -> Result<(), DatapathError> {
        self.aim_at_own(EMPTY)
    }

    /// Aims at the program that only forwards: MACs and a redirect.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn aim_at_bare_forwarding(&mut self) -> Result<(), DatapathError> {
        self.aim_at_own(BARE)
    }

    fn aim_at_own(&mut self, program: &'static str) -> Result<(), DatapathError> {
        let program = xdp(&mut self.object, program).fd().and_then(|fd| fd.try_clone().map_err(Into::into));
        self.set_target(&program.map_err(DatapathError::access("read", "BENCH_TARGET"))?)
    }

    fn set_target(&mut self, program: &ProgramFd) -> Result<(), DatapathError> {
        self.target.set(0, program, 0).map_err(DatapathError::access("write", "BENCH_TARGET"))
    }

    /// Sends `packets` packets, cycling through the first `flows` flows from the first one on, in on the interface
    /// with index `ingress`. The last packet's verdict, and the mean time of one packet, in whole nanoseconds.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses.
    pub fn send(&mut self, flows: u32, packets: u32, ingress: u32) -> Result<(u32, Duration), DatapathError> {
        self.orders
            .set(0, Orders { flows, next: 0 }, 0)
            .map_err(DatapathError::access("write", "BENCH_ORDERS"))?;
        let context = context(FRAME.len(), ingress);
        let options = TestRunOptions {
            data_in: Some(&FRAME),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::new()
        };
        let result = xdp(&mut self.object, DRIVER).test_run(options);
        let result =
            result.map_err(|error| DatapathError::TestRun { program: DRIVER, cause: answer(error) })?;
        Ok((result.return_value, result.duration))
    }
}

pub(super) fn take<M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<M, DatapathError> {
    let map = object.take_map(name).ok_or(DatapathError::Map { name, problem: "is missing".into() })?;
    M::try_from(map).map_err(DatapathError::access("open", name))
}
