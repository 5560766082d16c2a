//! The comparison's programs: a third object with a generator, a sink, and gateways that only redirect.
//!
//! Interfaces are those of the calling thread's network namespace.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{Array, DevMap, Map, MapData, PerCpuArray, PerCpuValues},
    programs::{
        ProgramError, SchedClassifier, TcAttachType, TestRunAttrs, XdpMode, tc::SchedClassifierLink,
        xdp::XdpLink,
    },
};
use nat_common::rig::{Expectation, Orders, Seen, Tally, Way};

use super::{
    DatapathError, Pins, batch,
    driver::take,
    error::with_sources,
    load::{context, xdp},
    refusal::refused,
};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/natgw-rig"));
const GENERATOR: &str = "rig_generate";
const SINK: &str = "rig_sink";
const PASS: &str = "rig_pass";
const TC: &str = "rig_tc";
/// Frames that the generator hands on at once.
const BATCH: u32 = 64;

/// Cache lines that the gateway which looks one up has for each flow: as many as natgw's table.
pub const LINES: u32 = 4;

/// A gateway that only redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// MACs and a redirect, at the XDP hook.
    Bare,
    /// With a lookup in the kernel's routing table, at the XDP hook.
    Fib,
    /// With one cache line of a table for each flow, at the XDP hook.
    Line,
    /// The same with the instructions of a translation, which do nothing, at the XDP hook.
    Work,
    /// MACs and a redirect, at the TC hook.
    Tc,
}

/// An attachment; it ends with this value.
pub struct Link(#[expect(dead_code, reason = "an attachment lasts as long as it is held")] Attachment);

#[expect(dead_code, reason = "an attachment lasts as long as it is held")]
enum Attachment {
    Xdp(XdpLink),
    Tc(SchedClassifierLink),
}

/// The loaded programs and their maps.
pub struct Rig {
    object: Ebpf,
    orders: Array<MapData, Orders>,
    expectation: Array<MapData, Expectation>,
    seen: MapData,
    tally: PerCpuArray<MapData, Tally>,
    ways: Array<MapData, Way>,
    devices: DevMap<MapData>,
}

impl Rig {
    /// Loads the programs, for up to `flows` flows.
    ///
    /// # Errors
    /// [`DatapathError::Setup`] or [`DatapathError::Load`] if the kernel refuses.
    pub fn load(flows: u32) -> Result<Self, DatapathError> {
        let setup = |error: aya::EbpfError| DatapathError::Setup(with_sources(&error));
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("RIG_SEEN", flows).map_max_entries("RIG_LINES", flows.saturating_mul(LINES));
        let mut object = loader.load(OBJECT).map_err(setup)?;
        let redirects =
            [Redirect::Bare, Redirect::Fib, Redirect::Line, Redirect::Work].map(Redirect::program);
        for program in [GENERATOR, SINK, PASS].into_iter().chain(redirects) {
            xdp(&mut object, program).load().map_err(refused(program))?;
        }
        classifier(&mut object).load().map_err(refused(TC))?;
        let Some(Map::Array(seen)) = object.take_map("RIG_SEEN") else {
            return Err(DatapathError::Map { name: "RIG_SEEN", problem: "is missing".into() });
        };
        Ok(Self {
            orders: take(&mut object, "RIG_ORDERS")?,
            expectation: take(&mut object, "RIG_EXPECT")?,
            seen,
            tally: take(&mut object, "RIG_TALLY")?,
            ways: take(&mut object, "RIG_WAYS")?,
            devices: take(&mut object, "RIG_DEVICES")?,
            object,
        })
    }

    /// Attaches the sink to `interface`, in native mode.
    ///
    /// # Errors
    /// [`DatapathError::Attach`] if the kernel refuses.
    pub fn attach_sink(&mut self, interface: &str) -> Result<Link, DatapathError> {
        self.attach_xdp(SINK, interface)
    }

    /// Attaches the program that lets everything pass to `interface`, in native mode.
    ///
    /// # Errors
    /// [`DatapathError::Attach`] if the kernel refuses.
    pub fn attach_pass(&mut self, interface: &str) -> Result<Link, DatapathError> {
        self.attach_xdp(PASS, interface)
    }

    /// Attaches a gateway to `interface`.
    ///
    /// # Errors
    /// [`DatapathError::Attach`] if the kernel refuses.
    pub fn attach(&mut self, redirect: Redirect, interface: &str) -> Result<Link, DatapathError> {
        if redirect != Redirect::Tc {
            return self.attach_xdp(redirect.program(), interface);
        }
        let program = classifier(&mut self.object);
        let id = program.attach(interface, TcAttachType::Ingress).map_err(attach(interface))?;
        program.take_link(id).map(|link| Link(Attachment::Tc(link))).map_err(attach(interface))
    }

    fn attach_xdp(&mut self, program: &str, interface: &str) -> Result<Link, DatapathError> {
        let program = xdp(&mut self.object, program);
        let id = program.attach(interface, XdpMode::Driver).map_err(attach(interface))?;
        program.take_link(id).map(|link| Link(Attachment::Xdp(link))).map_err(attach(interface))
    }

    /// Sets the ways, outbound and inbound, of all gateways that only redirect.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses, as it does for interfaces of another namespace.
    pub fn set_ways(&mut self, ways: [Way; 2]) -> Result<(), DatapathError> {
        for (slot, way) in (0..).zip(ways) {
            self.ways.set(slot, way, 0).map_err(DatapathError::access("write", "RIG_WAYS"))?;
            let set = self.devices.set(slot, way.egress, None, 0);
            set.map_err(DatapathError::access("write", "RIG_DEVICES"))?;
        }
        Ok(())
    }

    /// Tells the sink what to expect, and lets it count from zero.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn expect(&mut self, expectation: Expectation) -> Result<(), DatapathError> {
        let set = self.expectation.set(0, expectation, 0);
        set.map_err(DatapathError::access("write", "RIG_EXPECT"))?;
        let cpus = self.tally.get(&0, 0).map_err(DatapathError::access("read", "RIG_TALLY"))?.len();
        let zeros = PerCpuValues::try_from(vec![Tally::default(); cpus]);
        let zeros = zeros.map_err(DatapathError::access("write", "RIG_TALLY"))?;
        self.tally.set(0, zeros, 0).map_err(DatapathError::access("write", "RIG_TALLY"))
    }

    /// What has arrived since [`Rig::expect`].
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn tally(&self) -> Result<Tally, DatapathError> {
        let cpus = self.tally.get(&0, 0).map_err(DatapathError::access("read", "RIG_TALLY"))?;
        Ok(cpus.iter().fold(Tally::default(), |sum, cpu| Tally {
            packets: sum.packets + cpu.packets,
            strangers: sum.strangers + cpu.strangers,
            checked: sum.checked + cpu.checked,
            wrong_addresses: sum.wrong_addresses + cpu.wrong_addresses,
            wrong_ip_sums: sum.wrong_ip_sums + cpu.wrong_ip_sums,
            wrong_udp_sums: sum.wrong_udp_sums + cpu.wrong_udp_sums,
            until_sample: 0,
        }))
    }

    /// The sources of flows, by number, as the sink saw them when it last learned.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn seen(&self) -> Result<Vec<Seen>, DatapathError> {
        let mut all = Vec::new();
        let read = batch::for_each::<u32, Seen>(&self.seen, |_, seen| all.push(*seen));
        read.map_err(DatapathError::access("read", "RIG_SEEN"))?;
        Ok(all)
    }

    /// Sends `packets` packets of `length` bytes of IP out of the interface with index `interface`.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses.
    pub fn generate(&mut self, orders: Orders, packets: u32, interface: u32) -> Result<(), DatapathError> {
        self.orders.set(0, orders, 0).map_err(DatapathError::access("write", "RIG_ORDERS"))?;
        let frame = vec![0; orders.length as usize + 14];
        let context = context(frame.len(), interface);
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let run = xdp(&mut self.object, GENERATOR).test_run(options);
        run.map(drop).map_err(|error| {
            let cause = if let ProgramError::SyscallError(error) = error {
                error.io_error
            } else {
                std::io::Error::other(error)
            };
            DatapathError::TestRun { program: GENERATOR, cause }
        })
    }
}

/// Bytes of kernel memory that the map pinned under `pins` with this `name` takes by now.
///
/// # Errors
/// [`DatapathError::Access`] if there is no such map, or the kernel does not tell.
pub fn map_memory(pins: &Pins, name: &'static str) -> Result<u64, DatapathError> {
    let map = MapData::from_pin(pins.map(name)).map_err(DatapathError::access("open", name))?;
    let file = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(file).map_err(DatapathError::access("measure", name))?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.ok_or_else(|| DatapathError::Map { name, problem: "does not tell its memory".into() })
}

impl Redirect {
    const fn program(self) -> &'static str {
        match self {
            Self::Bare => "rig_bare",
            Self::Fib => "rig_fib",
            Self::Line => "rig_line",
            Self::Work => "rig_work",
            Self::Tc => TC,
        }
    }
}

fn classifier(object: &mut Ebpf) -> &mut SchedClassifier {
    object
        .program_mut(TC)
        .and_then(|program| program.try_into().ok())
        .unwrap_or_else(|| unreachable!("the object is compiled with this crate and has the TC program {TC}"))
}

fn attach<E: std::error::Error>(interface: &str) -> impl FnOnce(E) -> DatapathError {
    let interface = interface.to_owned();
    move |error| DatapathError::Attach { interface, cause: with_sources(&error), remedy: "", held: false }
}
