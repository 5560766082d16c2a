//! Typed handles of the maps. aya takes a pinned map for what the program declares without looking; here every map's
//! sizes are compared first.

use std::{net::Ipv4Addr, os::fd::AsFd, path::Path};

use aya::{
    Ebpf, Pod,
    maps::{Array, DevMap, HashMap, Map, MapData, MapError, PerCpuArray, lpm_trie::LpmTrie},
};
use aya_obj::generated::{bpf_devmap_val, bpf_map_type};
use nat_common::{
    block::{Base, Holder, Position, Rules},
    config::{APPLIED_PAGE, APPLIED_PAGES, Ageing, Config, Interface, VlanKey},
    counter::{Counters, PerCpu},
    drop::{DropReason, DropSample},
    flow::{FlowKey4, raw},
    fragment::Bucket4,
    host::{Limits, Record},
    nacl::{self, NaclList, PortRanges},
    neighbour::Neighbour,
    pool::{Choice, ElasticIp, ElasticIpKey, Gateway, Lent, PortRange},
    ports::{Bucket, PortMap4},
    route::{Prefix, Subnet, Target},
    rss::Rss,
    slow,
    table::FlowGroup4,
};

use super::{DatapathError, Pins, now, table};

/// One page of [`Maps::applied`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Page(pub [u8; APPLIED_PAGE]);

// SAFETY: an array of bytes.
unsafe impl Pod for Page {}

/// Every map that user space reads or writes. What each one is stands in the data plane's `maps` module.
pub struct Maps {
    pub(super) flows: MapData,
    pub(super) generation: Array<MapData, u32>,
    pub(super) config: Array<MapData, Config>,
    pub(super) interfaces: Array<MapData, Interface>,
    pub(super) all_interfaces: MapData,
    pub(super) devices: DevMap<MapData>,
    pub(super) vlans: HashMap<MapData, VlanKey, u32>,
    pub(super) locals: HashMap<MapData, [u8; 16], u8>,
    pub(super) subnets: LpmTrie<MapData, Prefix, Subnet>,
    pub(super) routes: LpmTrie<MapData, Prefix, Target>,
    pub(super) nacls: Array<MapData, NaclList>,
    pub(super) nacl_prefixes: LpmTrie<MapData, Prefix, PortRanges>,
    pub(super) nacl_ports: Array<MapData, nacl::PortRange>,
    pub(super) gateways: Array<MapData, Gateway>,
    pub(super) sources: LpmTrie<MapData, Prefix, Choice>,
    pub(super) usage: HashMap<MapData, u32, u64>,
    pub(super) block_rules: Array<MapData, Rules>,
    pub(super) block_bases: HashMap<MapData, u32, Base>,
    pub(super) blocks: MapData,
    pub(super) holders: HashMap<MapData, FlowKey4, Holder>,
    pub(super) positions: LpmTrie<MapData, Prefix, Position>,
    pub(super) limits: Array<MapData, Limits>,
    pub(super) hosts: HashMap<MapData, FlowKey4, Record>,
    pub(super) lent: Array<MapData, Lent>,
    pub(super) pool: Array<MapData, PortRange>,
    pub(super) busy: MapData,
    pub(super) ports: MapData,
    pub(super) rss: Array<MapData, Rss>,
    pub(super) elastic_ips: HashMap<MapData, ElasticIpKey, ElasticIp>,
    pub(super) ageing: Array<MapData, Ageing>,
    pub(super) counters: PerCpuArray<MapData, PerCpu>,
    pub(super) drops: PerCpuArray<MapData, u64>,
    pub(super) samples: Array<MapData, DropSample>,
    pub(super) unanswered: HashMap<MapData, Neighbour, u32>,
    pub(super) fragments: MapData,
    pub(super) slow_counts: Array<MapData, slow::Counts>,
    /// `GENERATION`, `CONFIG` and `SLOW_COUNTS` once more, for who works beside these handles.
    pub(super) shared: [MapData; 3],
    pub(super) applied: Array<MapData, Page>,
}

/// Where maps come from: a freshly loaded object, or the pin directory.
enum Source<'a> {
    Object(&'a mut Ebpf),
    Pins(&'a Pins),
}

impl Source<'_> {
    fn take(&mut self, name: &'static str) -> Result<Map, DatapathError> {
        let missing = || DatapathError::Map { name, problem: "is missing".into() };
        match self {
            Self::Object(object) => object.take_map(name).ok_or_else(missing),
            Self::Pins(pins) => {
                let path = pins.map(name);
                if !path.exists() {
                    return Err(missing());
                }
                let data = MapData::from_pin(&path).map_err(DatapathError::access("open", name))?;
                Map::from_map_data(data).map_err(DatapathError::access("open", name))
            }
        }
    }

    fn open<M>(&mut self, name: &'static str, key: usize, value: usize) -> Result<M, DatapathError>
    where
        M: TryFrom<Map, Error = MapError>,
    {
        let map = self.take(name)?;
        check(name, data(&map), key, value)?;
        M::try_from(map).map_err(DatapathError::access("open", name))
    }

    /// A map that is read with system calls of our own.
    fn open_data(&mut self, name: &'static str, key: usize, value: usize) -> Result<MapData, DatapathError> {
        let map = self.take(name)?;
        check(name, data(&map), key, value)?;
        again(data(&map), name)
    }
}

/// Compares the kernel's sizes of a map with those this program was built with.
fn check(name: &'static str, map: &MapData, key: usize, value: usize) -> Result<(), DatapathError> {
    let info = map.info().map_err(DatapathError::access("look at", name))?;
    let (has_key, has_value) = (info.key_size() as usize, info.value_size() as usize);
    if (has_key, has_value) == (key, value) {
        return Ok(());
    }
    let problem = format!("has keys of {has_key} and values of {has_value} bytes, and not {key} and {value}");
    Err(DatapathError::Map { name, problem })
}

/// Another handle of the same map: not by its number, which would ask for CAP_SYS_ADMIN.
pub(super) fn again(map: &MapData, name: &'static str) -> Result<MapData, DatapathError> {
    let file = map.fd().as_fd().try_clone_to_owned().map_err(DatapathError::access("open", name))?;
    MapData::from_fd(file).map_err(DatapathError::access("open", name))
}

/// Another handle of the same array.
pub(super) fn array<T: Pod>(map: &MapData, name: &'static str) -> Result<Array<MapData, T>, DatapathError> {
    Array::try_from(Map::Array(again(map, name)?)).map_err(DatapathError::access("open", name))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the object is compiled with this crate and has these kinds"
)]
fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::Unsupported(data) => data,
        other => unreachable!("the data plane has no {other:?}"),
    }
}

impl Maps {
    /// The maps of a freshly loaded object; `applied` is the one that the programs do not know.
    pub(super) fn of_object(object: &mut Ebpf, applied: MapData) -> Result<Self, DatapathError> {
        Self::open(Source::Object(object), Some(applied))
    }

    /// The maps pinned under `root`, which any process may read that is allowed to.
    ///
    /// # Errors
    /// [`DatapathError::NotRunning`] if nothing is pinned there, [`DatapathError::Map`] if what is pinned is not of
    /// this version.
    pub fn of_pins(root: &Path) -> Result<Self, DatapathError> {
        let pins = Pins::new(root);
        if !pins.exist() {
            return Err(DatapathError::NotRunning(root.to_owned()));
        }
        Self::open(Source::Pins(&pins), None)
    }

    fn open(mut source: Source<'_>, applied: Option<MapData>) -> Result<Self, DatapathError> {
        macro_rules! open {
            ($name:literal, $key:ty, $value:ty) => {
                source.open($name, size_of::<$key>(), size_of::<$value>())?
            };
        }
        type Trie = aya::maps::lpm_trie::Key<Prefix>;
        let shared = [
            source.open_data("GENERATION", size_of::<u32>(), size_of::<u32>())?,
            source.open_data("CONFIG", size_of::<u32>(), size_of::<Config>())?,
            source.open_data("SLOW_COUNTS", size_of::<u32>(), size_of::<slow::Counts>())?,
        ];
        let all_interfaces = source.open_data("INTERFACES", size_of::<u32>(), size_of::<Interface>())?;
        Ok(Self {
            flows: source.open_data(table::NAME, size_of::<u32>(), size_of::<FlowGroup4>())?,
            generation: array(&shared[0], "GENERATION")?,
            config: array(&shared[1], "CONFIG")?,
            interfaces: array(&all_interfaces, "INTERFACES")?,
            all_interfaces,
            devices: source.open("DEVICES", size_of::<u32>(), size_of::<bpf_devmap_val>())?,
            vlans: open!("VLANS", VlanKey, u32),
            locals: open!("LOCALS", [u8; 16], u8),
            subnets: open!("SUBNETS", Trie, Subnet),
            routes: open!("ROUTES4", Trie, Target),
            nacls: open!("NACLS", u32, NaclList),
            nacl_prefixes: open!("NACL_PREFIXES", Trie, PortRanges),
            nacl_ports: open!("NACL_PORTS", u32, nacl::PortRange),
            gateways: open!("GATEWAYS", u32, Gateway),
            sources: open!("SOURCES", Trie, Choice),
            usage: open!("USAGE", u32, u64),
            block_rules: open!("BLOCK_RULES", u32, Rules),
            block_bases: open!("BLOCK_BASES", u32, Base),
            blocks: source.open_data("BLOCKS", size_of::<u32>(), size_of::<u64>())?,
            holders: open!("HOLDERS", FlowKey4, Holder),
            positions: open!("POSITIONS", Trie, Position),
            limits: open!("LIMITS", u32, Limits),
            hosts: open!("HOSTS", FlowKey4, Record),
            lent: open!("LENT", u32, Lent),
            pool: open!("POOL", u32, PortRange),
            busy: source.open_data("BUSY", size_of::<u32>(), size_of::<Bucket>())?,
            ports: source.open_data("PORTS4", size_of::<u32>(), size_of::<PortMap4>())?,
            rss: open!("RSS", u32, Rss),
            elastic_ips: open!("ELASTIC_IPS", ElasticIpKey, ElasticIp),
            ageing: open!("AGEING", u32, Ageing),
            counters: open!("COUNTERS", u32, PerCpu),
            drops: open!("DROPS", u32, u64),
            samples: open!("SAMPLES", u32, DropSample),
            unanswered: open!("UNANSWERED", Neighbour, u32),
            fragments: source.open_data("FRAGMENTS", size_of::<u32>(), size_of::<Bucket4>())?,
            slow_counts: array(&shared[2], "SLOW_COUNTS")?,
            shared,
            applied: match applied {
                Some(applied) => {
                    Array::try_from(Map::Array(applied)).map_err(DatapathError::access("open", "APPLIED"))?
                }
                None => open!("APPLIED", u32, Page),
            },
        })
    }

    /// The generation in force; 0 before the first configuration.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn generation(&self) -> Result<u32, DatapathError> {
        self.generation.get(&0, 0).map_err(DatapathError::access("read", "GENERATION"))
    }

    /// The counters, all CPUs together.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        let values = self.counters.get(&0, 0).map_err(DatapathError::access("read", "COUNTERS"))?;
        let mut sum = Counters::default();
        values.iter().for_each(|value| sum.add(&value.counters));
        Ok(sum)
    }

    /// What the controller has made of the packets that the data plane left to it.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn slow_counts(&self) -> Result<slow::Counts, DatapathError> {
        self.slow_counts.get(&0, 0).map_err(DatapathError::access("read", "SLOW_COUNTS"))
    }

    /// Packets refused for `reason`, all CPUs together.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn drops(&self, reason: DropReason) -> Result<u64, DatapathError> {
        let values = self.drops.get(&(reason as u32), 0).map_err(DatapathError::access("read", "DROPS"))?;
        Ok(values.iter().sum())
    }

    /// The latest packet refused for `reason`, if there was one.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn drop_sample(&self, reason: DropReason) -> Result<Option<DropSample>, DatapathError> {
        let sample =
            self.samples.get(&(reason as u32), 0).map_err(DatapathError::access("read", "SAMPLES"))?;
        Ok((sample.tick != 0).then_some(sample))
    }

    /// Notes that `address` was asked for on interface `ifindex` just now, and did not answer.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn note_unanswered(&mut self, ifindex: u32, address: Ipv4Addr) -> Result<(), DatapathError> {
        let key = Neighbour { ifindex, address: raw(address) };
        self.unanswered.insert(key, now(), 0).map_err(DatapathError::access("write", "UNANSWERED"))
    }

    /// Sessions that are open now, by the data plane's own count.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn session_count(&self) -> Result<u64, DatapathError> {
        let counters = self.counters()?;
        Ok(counters.sessions_opened.saturating_sub(counters.sessions_released))
    }

    /// Sessions the flow table has room for.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn max_sessions(&self) -> Result<u32, DatapathError> {
        table::groups(&self.flows)
    }
}

/// Creates the map that holds the configuration in force as JSON; no program knows it.
pub(super) fn create_applied() -> Result<MapData, DatapathError> {
    let kind = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
    let definition = aya_obj::Map::new_from_params(kind, 4, APPLIED_PAGE as u32, APPLIED_PAGES, 0);
    MapData::create(definition, "APPLIED", None).map_err(DatapathError::access("create", "APPLIED"))
}
