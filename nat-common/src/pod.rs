//! `aya::Pod` for everything user space reads from or writes to maps.

use crate::{
    bench, block, burst, config, counter, drop, event, flow, fragment, host, nacl, neighbour, pool, ports,
    rig, route, rss, slow, table,
};

macro_rules! pod {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: `bytemuck::Pod` has proved at compile time that the type is `repr(C)`, has no padding and
            // accepts every bit pattern, which is all that `aya::Pod` asks for.
            unsafe impl aya::Pod for $type where $type: bytemuck::Pod {}
        )*
    };
}

pod!(
    bench::Orders,
    block::Base,
    block::Holder,
    block::Position,
    block::Rules,
    burst::Lead,
    burst::Reach,
    config::Ageing,
    config::Config,
    config::Interface,
    config::VlanKey,
    counter::Counters,
    counter::PerCpu,
    drop::DropSample,
    event::Event,
    flow::FlowEntry4,
    flow::FlowKey4,
    fragment::Bucket4,
    host::Limits,
    host::Record,
    nacl::NaclList,
    nacl::PortRange,
    nacl::PortRanges,
    neighbour::Neighbour,
    pool::Choice,
    pool::ElasticIp,
    pool::ElasticIpKey,
    pool::Gateway,
    pool::Lent,
    pool::PortRange,
    ports::PortMap4,
    rig::Expectation,
    rig::Orders,
    rig::Seen,
    rig::Tally,
    rig::Way,
    route::Prefix,
    route::Subnet,
    route::Target,
    rss::Rss,
    slow::Counts,
    table::FlowGroup4,
    table::FlowHash,
);
