//! Loading: programs into the kernel, state taken over from the pin directory where there is some.

use std::{path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{Map, MapData, RingBuf},
    programs::{SchedClassifier, Xdp},
};
use nat_common::ports;

use super::{
    DatapathError, Maps, Pins,
    age::Pass,
    burst::BurstMaps,
    error::{answer, with_sources},
    maps::create_applied,
    refusal::refused,
    slow::{self, SlowRing},
    table,
};
use crate::plan::MAX_INTERFACES;

/// The program that translates, at the XDP hook.
pub(super) const PROGRAM: &str = "natgw";
/// The program that sends packets ahead, at the XDP hook.
pub(super) const AHEAD: &str = "natgw_ahead";
/// The program that translates them, as they leave.
pub(super) const BURST: &str = "natgw_burst";
/// The program that translates, at the TC hook.
pub(super) const TC: &str = "natgw_tc";
/// The program that ends idle sessions.
pub(super) const AGE: &str = "natgw_age";
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/natgw-xdp"));
/// Where `struct __sk_buff` has the priority.
const SK_BUFF_PRIORITY: usize = 32;
/// Bytes of `struct __sk_buff` up to `ifindex`, where that is, and the kernel takes the rest as zero.
const SK_BUFF: usize = SK_BUFF_IFINDEX + 4;
const SK_BUFF_IFINDEX: usize = 40;

/// Which of the translating programs to load. Each takes the kernel a fifth of a second to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// Those of both hooks.
    All,
    /// That of the XDP hook.
    Xdp,
    /// That of the TC hook.
    Tc,
}

/// How to load the data plane.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Sessions the flow table shall hold; a table taken over keeps its size.
    pub max_sessions: u32,
    /// Datagrams in fragments that may be under way at a time; a table taken over keeps its size.
    pub max_fragmented_datagrams: u32,
    /// Rare events to log, as `aya_log::Level` numbers; 0: none, at no cost.
    pub log_level: u8,
    /// What packets shall be translated by.
    pub programs: Programs,
    /// Whether they may be translated in bursts.
    pub bursts: bool,
    /// Whether there shall be room for what resets at expiry need.
    pub resets_at_expiry: bool,
}

/// The ring buffer that the data plane's events come through.
pub type EventRing = RingBuf<MapData>;

/// A loaded data plane.
pub struct Datapath {
    /// The programs.
    pub(super) object: Ebpf,
    /// Its maps.
    pub maps: Maps,
    events: Option<MapData>,
    slow: Option<MapData>,
    /// The pass of ageing under way.
    pub(super) pass: Pass,
    /// What bursts need, or why it is not there.
    pub(super) bursts: Result<BurstMaps, &'static str>,
    resets_at_expiry: bool,
}

impl Datapath {
    /// Loads a data plane of its own, which ends with this value: for tests and benchmarks.
    ///
    /// # Errors
    /// [`DatapathError::Setup`] or [`DatapathError::Load`] if the kernel refuses.
    pub fn private(options: &LoadOptions) -> Result<Self, DatapathError> {
        Self::load(options, None)
    }

    /// Loads the data plane onto the state pinned under `pins`, or begins it there.
    ///
    /// # Errors
    /// [`DatapathError::Setup`], [`DatapathError::Load`] if the kernel refuses; [`DatapathError::Map`] if what is
    /// pinned does not fit.
    pub fn pinned(options: &LoadOptions, pins: &Pins) -> Result<Self, DatapathError> {
        pins.create()?;
        Self::load(options, Some(pins))
    }

    fn load(options: &LoadOptions, pins: Option<&Pins>) -> Result<Self, DatapathError> {
        let flows = pins.map(|pins| pins.map(table::NAME));
        let hash = table::hash(flows.as_deref(), options.max_sessions)?;
        let groups = hash.groups as u32;
        let buckets = ports::buckets(groups);
        let records = pins.map(|pins| pins.map(slow::NAME));
        let fragments = slow::buckets_of(records.as_deref(), options.max_fragmented_datagrams)?;
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(table::NAME, table::entries(options.max_sessions))
            .map_max_entries("HOSTS", host_records(groups))
            .map_max_entries("STREAMS", if options.resets_at_expiry { table::places(groups) } else { 1 })
            .map_max_entries("INTERFACES", MAX_INTERFACES)
            .map_max_entries("DEVICES", MAX_INTERFACES)
            .map_max_entries("LEADS", if options.bursts { MAX_INTERFACES } else { 1 })
            .override_global("FLOW_SECRET", &hash.secret, true)
            .override_global("FLOW_GROUPS", &groups, true)
            .map_max_entries("BUSY", buckets)
            .map_max_entries("PORTS4", buckets * ports::BUCKET)
            .override_global("BUSY_BUCKETS", &buckets, true)
            .map_max_entries(slow::NAME, fragments)
            .override_global("FRAGMENT_BUCKETS", &fragments, true)
            .override_global("AYA_LOG_LEVEL", &options.log_level, false);
        if let Some(pins) = pins {
            for name in PINNED {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut object = loader.load(OBJECT).map_err(|error| DatapathError::Setup(with_sources(&error)))?;
        let needed: &[_] = match options.programs {
            Programs::All => &[PROGRAM, TC, AGE],
            Programs::Xdp => &[PROGRAM, AGE],
            Programs::Tc => &[TC, AGE],
        };
        for &program in needed {
            let loaded = match program {
                TC => tc(&mut object).load(),
                _ => xdp(&mut object, program).load(),
            };
            loaded.map_err(refused(program))?;
        }
        // While the object still has all maps: programs find them by its handles.
        let bursts = if options.bursts { load_bursts(&mut object) } else { Err(NO_BURSTS) };
        let applied = match pins {
            Some(pins) => pinned_applied(&pins.map("APPLIED"))?,
            None => create_applied()?,
        };
        let mut ring = |name| match object.take_map(name) {
            Some(Map::RingBuf(data)) => Some(data),
            _ => None,
        };
        let (events, slow) = (ring("EVENTS"), ring("SLOW"));
        let maps = Maps::of_object(&mut object, applied)?;
        table::remember(&maps.flows, &hash)?;
        let resets_at_expiry = options.resets_at_expiry;
        Ok(Self { object, maps, events, slow, pass: Pass::NEXT, bursts, resets_at_expiry })
    }

    /// Whether it has room for what resets at expiry need.
    #[must_use]
    pub const fn resets_at_expiry(&self) -> bool {
        self.resets_at_expiry
    }

    /// The events that the data plane tells; the first caller gets them.
    ///
    /// # Errors
    /// [`DatapathError::Map`] if they are taken or missing.
    pub fn take_events(&mut self) -> Result<EventRing, DatapathError> {
        open_ring("EVENTS", self.events.take())
    }

    /// The packets that the data plane leaves to the controller; the first caller gets them.
    ///
    /// # Errors
    /// [`DatapathError::Map`] if they are taken or missing.
    pub fn take_slow(&mut self) -> Result<SlowRing, DatapathError> {
        open_ring("SLOW", self.slow.take())
    }

    /// Runs the translating program of the XDP hook on a frame, as if it came in on that `queue` of the interface with
    /// index `ingress` of this thread's network namespace; the verdict, and the frame as the program left it.
    ///
    /// # Errors
    /// [`DatapathError::TestRun`] if the kernel refuses, as it does for frames below 14 bytes and queues that the
    /// interface lacks.
    pub fn translate(
        &mut self,
        frame: &[u8],
        ingress: u32,
        queue: u32,
    ) -> Result<(u32, Vec<u8>), DatapathError> {
        self.translate_split(frame, frame.len(), ingress, queue)
    }

    /// The same of a frame whose first buffer holds its first `linear` bytes, or as many as one can hold: some 3,500.
    ///
    /// # Errors
    /// As for [`Datapath::translate`]; kernels before 6.18 know no smaller first buffer than the largest.
    pub fn translate_split(
        &mut self,
        frame: &[u8],
        linear: usize,
        ingress: u32,
        queue: u32,
    ) -> Result<(u32, Vec<u8>), DatapathError> {
        let mut context = context(linear, ingress);
        context[16..20].copy_from_slice(&queue.to_ne_bytes());
        self.translate_by(PROGRAM, frame, &context)
    }

    /// The same as [`Datapath::translate`] at the TC hook; the verdict is one of TC's, and a frame whose destination is not the interface's own MAC
    /// address counts as another host's.
    ///
    /// # Errors
    /// As for [`Datapath::translate`].
    pub fn translate_tc(&mut self, frame: &[u8], ingress: u32) -> Result<(u32, Vec<u8>), DatapathError> {
        self.translate_by(TC, frame, &buffer(ingress, 0))
    }

    /// The verdict of [`Datapath::translate`], and how long the program took, as the kernel measures it.
    ///
    /// # Errors
    /// As for [`Datapath::translate`].
    pub fn time(&mut self, frame: &[u8], ingress: u32) -> Result<(u32, Duration), DatapathError> {
        let context = context(frame.len(), ingress);
        let options =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), ..TestRunOptions::new() };
        let result = self.run(PROGRAM, options)?;
        Ok((result.return_value, result.duration))
    }

    pub(super) fn translate_by(
        &mut self,
        program: &'static str,
        frame: &[u8],
        context: &[u8],
    ) -> Result<(u32, Vec<u8>), DatapathError> {
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(context),
            ..TestRunOptions::new()
        };
        let result = self.run(program, options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    pub(super) fn run(
        &mut self,
        program: &'static str,
        options: TestRunOptions<'_>,
    ) -> Result<aya::TestRunResult, DatapathError> {
        let result = match program {
            TC => tc(&mut self.object).test_run(options),
            _ => xdp(&mut self.object, program).test_run(options),
        };
        result.map_err(|error| DatapathError::TestRun { program, cause: answer(error) })
    }
}

/// Why there are no bursts where nobody has asked for what they need.
const NO_BURSTS: &str = "they were not possible at this start; they can begin at the next";

/// Loads what bursts need. A gateway does its work without.
fn load_bursts(object: &mut Ebpf) -> Result<BurstMaps, &'static str> {
    let loaded = [AHEAD, BURST]
        .into_iter()
        .try_for_each(|program| xdp(object, program).load().map_err(refused(program)))
        .and_then(|()| BurstMaps::of_object(object));
    loaded.map_err(|error| {
        tracing::warn!("packets are translated one by one: {error}");
        "the kernel refuses their programs, as the log tells"
    })
}

/// Records of hosts and remotes beside a table of so many groups. The kernel's hash map takes sixteen bytes for each from
/// the start, limits or none, and rounds up to a power of two: this is one already.
fn host_records(groups: u32) -> u32 {
    1 << groups.max(1).ilog2()
}

fn open_ring(name: &'static str, data: Option<MapData>) -> Result<RingBuf<MapData>, DatapathError> {
    let problem = |problem: String| DatapathError::Map { name, problem };
    let data = data.ok_or_else(|| problem("is already read elsewhere".into()))?;
    RingBuf::try_from(Map::RingBuf(data)).map_err(|error| problem(error.to_string()))
}

/// `struct xdp_md` with the length of the frame's first buffer and the interface.
pub(super) fn context(length: usize, ingress: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&(length as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ingress.to_ne_bytes());
    context
}

/// `struct __sk_buff` with the interface and a priority.
pub(super) fn buffer(ingress: u32, priority: u32) -> [u8; SK_BUFF] {
    let mut buffer = [0; SK_BUFF];
    buffer[SK_BUFF_PRIORITY..][..4].copy_from_slice(&priority.to_ne_bytes());
    buffer[SK_BUFF_IFINDEX..][..4].copy_from_slice(&ingress.to_ne_bytes());
    buffer
}

/// A program of our own object.
pub(super) fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    object.program_mut(name).and_then(|program| program.try_into().ok()).unwrap_or_else(|| {
        unreachable!("the object is compiled with this crate and has the XDP program {name}")
    })
}

/// The program of our own object for the TC hook.
pub(super) fn tc(object: &mut Ebpf) -> &mut SchedClassifier {
    classifier(object, TC)
}

/// A program for the TC hook of an object of ours.
pub(super) fn classifier<'a>(object: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    object.program_mut(name).and_then(|program| program.try_into().ok()).unwrap_or_else(|| {
        unreachable!("the object is compiled with this crate and has the TC program {name}")
    })
}

fn pinned_applied(path: &Path) -> Result<MapData, DatapathError> {
    if path.exists() {
        return MapData::from_pin(path).map_err(DatapathError::access("open", "APPLIED"));
    }
    let applied = create_applied()?;
    applied.pin(path).map_err(DatapathError::access("pin", "APPLIED"))?;
    Ok(applied)
}

/// The maps of the object that are pinned; the scratch buffers, the logs and what bursts and resets at
/// expiry need belong to one load.
const PINNED: [&str; 39] = [
    table::NAME,
    "GENERATION",
    "CONFIG",
    "INTERFACES",
    "DEVICES",
    "VLANS",
    "LOCALS",
    "SUBNETS",
    "ROUTES4",
    "NACLS",
    "NACL_PREFIXES",
    "NACL_PORTS",
    "GATEWAYS",
    "SOURCES",
    "USAGE",
    "BLOCK_RULES",
    "BLOCK_BASES",
    "BLOCKS",
    "HOLDERS",
    "POSITIONS",
    "LIMITS",
    "HOSTS",
    "LENT",
    "POOL",
    "BUSY",
    "PORTS4",
    "RSS",
    "ELASTIC_IPS",
    "AGEING",
    "COUNTERS",
    "DROPS",
    "SAMPLES",
    "EVENTS",
    "ALLOWANCE",
    "UNANSWERED",
    "IDENTIFICATIONS",
    "FRAGMENTS",
    "SLOW",
    "SLOW_COUNTS",
];
