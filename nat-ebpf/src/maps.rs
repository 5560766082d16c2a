//! Every map. Unless it says otherwise, the controller writes and the data plane reads.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use nat_common::{
    block::{Base, Holder, MAX_BASES, MAX_HOLDERS, NUMBERS, Position, Rules},
    burst::{Lead, NOTED, Reach},
    config::{Ageing, Config, Interface, MAX_LOCALS, MAX_VLANS, SLOTS, VlanKey},
    counter::PerCpu,
    drop::{DropReason, DropSample},
    event::RING_BYTES,
    flow::FlowKey4,
    foresight::Foresight,
    fragment::Bucket4,
    host::{Limits, MAX_RECORDS, Record},
    nacl::{MAX_NACLS, MAX_PORT_RANGES, MAX_PREFIXES, NaclList, PortRange as NaclPorts, PortRanges},
    neighbour::{MAX_UNANSWERED, Neighbour},
    pool::{
        Choice, ElasticIp, ElasticIpKey, Gateway, Lent, MAX_ELASTIC_IPS, MAX_GATEWAYS, MAX_RANGES,
        MAX_SOURCES, PortRange,
    },
    ports::{BUCKET, Bucket, PortMap4},
    route::{MAX_ROUTES, MAX_SUBNETS, Prefix, Subnet, Target},
    rss::{MAX_DEVICES, Rss},
    slow,
    table::FlowGroup4,
};

use crate::{hops::Found, opening::Opening};

/// Both flows of every session, as [`crate::table`] finds them. Written by the data plane (open, refresh) and the ageing
/// program (release). Mappable, so that entries lie on cache lines and user space reads them without system calls.
#[map]
pub static FLOWS4: Array<FlowGroup4> = Array::with_max_entries(262_144, BPF_F_MMAPABLE);

/// The generation in force; its lowest bit is the slot of every configuration map.
#[map]
pub static GENERATION: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Timeouts and limits, by slot.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(SLOTS, 0);

/// The role of every interface, by interface index.
#[map]
pub static INTERFACES: Array<Interface> = Array::with_max_entries(1_024, 0);

/// The devices that packets leave by, each at its own index: a redirect through it spares the kernel a lookup.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(1_024, 0);

/// Where nearly all packets of an interface leave, by its index: what [`crate::burst`] sends ahead.
#[map]
pub static LEADS: Array<Lead> = Array::with_max_entries(1_024, 0);

/// Which destinations [`crate::burst`] sends ahead.
#[map]
pub static REACH: Array<Reach> = Array::with_max_entries(1, 0);

/// The flow of a packet that was sent ahead: where it is looked for first in `FLOWS4`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Noted {
    /// The group.
    pub group: u32,
    /// Bytes from its beginning.
    pub home: u32,
}

/// The flows of packets that were sent ahead.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ahead {
    /// How many were noted since they were last fetched.
    pub count: u64,
    /// What they are.
    pub flows: [Noted; NOTED as usize],
}

/// The data plane's own: what each CPU has sent ahead.
#[map]
pub static AHEAD: PerCpuArray<Ahead> = PerCpuArray::with_max_entries(1, 0);

/// VLAN devices by the tag and the device that frames arrive on.
#[map]
pub static VLANS: HashMap<VlanKey, u32> = HashMap::with_max_entries(MAX_VLANS, BPF_F_NO_PREALLOC);

/// Addresses of the host itself, IPv4 as IPv4-mapped IPv6; they follow the host, not the configuration.
#[map]
pub static LOCALS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(MAX_LOCALS, BPF_F_NO_PREALLOC);

/// Private subnets by slot, VPC and prefix, and those of all VPCs once more under zone [`nat_common::flow::OUTSIDE`].
#[map]
pub static SUBNETS: LpmTrie<Prefix, Subnet> = LpmTrie::with_max_entries(2 * MAX_SUBNETS, BPF_F_NO_PREALLOC);

/// Routes by slot, route table and prefix.
#[map]
pub static ROUTES4: LpmTrie<Prefix, Target> = LpmTrie::with_max_entries(MAX_ROUTES, BPF_F_NO_PREALLOC);

/// By slot, NACL and direction: what the list says to everything, or that it depends.
#[map]
pub static NACLS: Array<NaclList> = Array::with_max_entries(SLOTS * MAX_NACLS * 2, 0);

/// By slot, list, class of protocol and prefix: where its port ranges stand in `NACL_PORTS`.
#[map]
pub static NACL_PREFIXES: LpmTrie<Prefix, PortRanges> =
    LpmTrie::with_max_entries(MAX_PREFIXES, BPF_F_NO_PREALLOC);

/// By slot: port ranges and their verdicts, those of one prefix together and in ascending order.
#[map]
pub static NACL_PORTS: Array<NaclPorts> = Array::with_max_entries(SLOTS * MAX_PORT_RANGES, 0);

/// NAT gateways by slot.
#[map]
pub static GATEWAYS: Array<Gateway> = Array::with_max_entries(SLOTS * MAX_GATEWAYS, 0);

/// By slot, NAT gateway and prefix: sources with Elastic IPs of their own.
#[map]
pub static SOURCES: LpmTrie<Prefix, Choice> =
    LpmTrie::with_max_entries(SLOTS * MAX_SOURCES, BPF_F_NO_PREALLOC);

/// Sessions by Elastic IP (network order), of NAT gateways that choose by them. The controller makes the entries, the
/// data plane and ageing count.
#[map]
pub static USAGE: HashMap<u32, u64> = HashMap::with_max_entries(MAX_ELASTIC_IPS, BPF_F_NO_PREALLOC);

/// By slot: what each NAT gateway allows one host.
#[map]
pub static LIMITS: Array<Limits> = Array::with_max_entries(SLOTS * MAX_GATEWAYS, 0);

/// Sessions by host, and by host and remote, through NAT gateways that limit them. Written by the data plane and ageing.
#[map]
pub static HOSTS: HashMap<FlowKey4, Record> = HashMap::with_max_entries(MAX_RECORDS, BPF_F_NO_PREALLOC);

/// By slot: how each NAT gateway lends blocks of ports.
#[map]
pub static BLOCK_RULES: Array<Rules> = Array::with_max_entries(SLOTS * MAX_GATEWAYS, 0);

/// By Elastic IP (network order), of NAT gateways that lend blocks: where its blocks stand in `BLOCKS`.
#[map]
pub static BLOCK_BASES: HashMap<u32, Base> = HashMap::with_max_entries(MAX_BASES, BPF_F_NO_PREALLOC);

/// Who holds which block. Written by the data plane (lend) and the controller (free).
#[map]
pub static BLOCKS: Array<u64> = Array::with_max_entries(MAX_BASES * NUMBERS, BPF_F_MMAPABLE);

/// Where to look for the blocks of a host. Written by the data plane, forgotten by the controller.
#[map]
pub static HOLDERS: HashMap<FlowKey4, Holder> = HashMap::with_max_entries(MAX_HOLDERS, BPF_F_NO_PREALLOC);

/// By slot, NAT gateway and prefix: hosts whose blocks are computed.
#[map]
pub static POSITIONS: LpmTrie<Prefix, Position> = LpmTrie::with_max_entries(MAX_SUBNETS, BPF_F_NO_PREALLOC);

/// By slot: the Elastic IPs lent to NAT gateways.
#[map]
pub static LENT: Array<Lent> = Array::with_max_entries(SLOTS * MAX_ELASTIC_IPS, 0);

/// By slot: the port ranges of those Elastic IPs.
#[map]
pub static POOL: Array<PortRange> = Array::with_max_entries(SLOTS * MAX_RANGES, 0);

/// Written by the data plane (open) and the controller (retire): which remotes are busy, and have a port map.
#[map]
pub static BUSY: Array<Bucket> = Array::with_max_entries(8, BPF_F_MMAPABLE);

/// The port maps of busy remotes, by their place in `BUSY`. Written by the data plane, ageing and the controller.
#[map]
pub static PORTS4: Array<PortMap4> = Array::with_max_entries(8 * BUCKET, BPF_F_MMAPABLE);

/// By slot: how external devices spread what they receive over their queues.
#[map]
pub static RSS: Array<Rss> = Array::with_max_entries(SLOTS * MAX_DEVICES, 0);

/// Which NAT gateway an Elastic IP belongs to.
#[map]
pub static ELASTIC_IPS: HashMap<ElasticIpKey, ElasticIp> =
    HashMap::with_max_entries(SLOTS * MAX_ELASTIC_IPS, BPF_F_NO_PREALLOC);

/// What became of first fragments, for those that follow. Written by the data plane; the controller reads it for what it
/// holds.
#[map]
pub static FRAGMENTS: Array<Bucket4> = Array::with_max_entries(4_096, BPF_F_MMAPABLE);

/// Written by the data plane: packets that the controller sends on.
#[map]
pub static SLOW: RingBuf = RingBuf::with_byte_size(slow::RING_BYTES, 0);

/// The controller's own: what it has made of those packets.
#[map]
pub static SLOW_COUNTS: Array<slow::Counts> = Array::with_max_entries(1, 0);

/// Orders for the ageing program.
#[map]
pub static AGEING: Array<Ageing> = Array::with_max_entries(1, 0);

/// Written by the data plane: what went through, and each CPU's last reading of the clock.
#[map]
pub static COUNTERS: PerCpuArray<PerCpu> = PerCpuArray::with_max_entries(1, 0);

/// Written by the data plane: what was refused, by reason.
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DropReason::COUNT, 0);

/// Written by the data plane: the latest packet refused, by reason, renewed at most once a tick.
#[map]
pub static SAMPLES: Array<DropSample> = Array::with_max_entries(DropReason::COUNT, 0);

/// Where resets are sent at expiry, by place in `FLOWS4`: what the sender of a TCP flow has acknowledged last, and of
/// which flow. Written by the data plane, read by ageing; elsewhere it has one entry.
#[map]
pub static STREAMS: Array<u64> = Array::with_max_entries(1, 0);

/// Written by the data plane: what the controller has to act upon.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Next hops that do not answer, and since when.
#[map]
pub static UNANSWERED: LruHashMap<Neighbour, u32> = LruHashMap::with_max_entries(MAX_UNANSWERED, 0);

/// Counts of identifications, a power of two.
pub const MAX_IDENTIFICATIONS: u32 = 1_024;

/// Written by the data plane: how many identifications were taken toward the remotes that share a count.
#[map]
pub static IDENTIFICATIONS: Array<u64> = Array::with_max_entries(MAX_IDENTIFICATIONS, 0);

/// Bytes of the scratch buffer.
pub const SCRATCH_BYTES: usize = 2_048;

/// The data plane's own: bytes of a packet while they are summed or walked through.
#[map]
pub static SCRATCH: PerCpuArray<[u8; SCRATCH_BYTES]> = PerCpuArray::with_max_entries(1, 0);

/// The data plane's own: a packet on its way to `SLOW`.
#[map]
pub static SLOW_SCRATCH: PerCpuArray<slow::Packet> = PerCpuArray::with_max_entries(1, 0);

/// The data plane's own: a search for a free port.
#[map]
pub static SEARCH: PerCpuArray<Opening> = PerCpuArray::with_max_entries(1, 0);

/// The data plane's own: where the next new session's inbound flow will probably stand.
#[map]
pub static FORESIGHT: PerCpuArray<Foresight> = PerCpuArray::with_max_entries(1, 0);

/// Next hops that each CPU remembers, a power of two.
pub const MAX_HOPS: u32 = 1_024;

/// The data plane's own: next hops found lately.
#[map]
pub static HOPS: PerCpuArray<Found> = PerCpuArray::with_max_entries(MAX_HOPS, 0);

/// What a CPU may still do in this tick.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Allowance {
    /// The tick it belongs to.
    pub tick: u32,
    /// How often.
    pub left: u32,
}

/// The data plane's own: the answers that each CPU may still send, and the fragments that it may still hand over to be
/// held.
#[map]
pub static ALLOWANCE: PerCpuArray<Allowance> = PerCpuArray::with_max_entries(2, 0);

/// Number of the latter in `ALLOWANCE`.
pub const HELD_ALLOWANCE: u32 = 1;
