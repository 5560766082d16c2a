//! Port maps of busy remotes, in the maps `BUSY` and `PORTS4`; how they work stands in [`nat_common::ports`].

use aya_ebpf::Global;
use nat_common::{
    flow::FlowKey4,
    ports::{self, BUCKET, Directory, PortMap, PortMap4},
    table::Probe,
};

use crate::{
    maps::{BUSY, PORTS4},
    table,
    words::MapWords,
};

/// Buckets of the directory; the loader sets it.
#[unsafe(no_mangle)]
static BUSY_BUCKETS: Global<u32> = Global::new(1);

/// The port maps of the data plane.
#[derive(Clone, Copy)]
pub struct PortMaps;

impl Directory for PortMaps {
    type Bucket = MapWords<{ BUCKET as i32 - 1 }>;
    type Map = MapPorts;

    #[inline(always)]
    fn probe(self, words: [u64; 2]) -> Probe {
        table::first_probe(words)
    }

    #[inline(always)]
    fn bucket(self, probe: Probe) -> u32 {
        probe.group(BUSY_BUCKETS.load())
    }

    #[inline(always)]
    fn tags(self, bucket: u32) -> Option<Self::Bucket> {
        BUSY.get_ptr_mut(bucket).map(|bucket| MapWords::new(bucket.cast()))
    }

    #[inline(always)]
    fn map(self, number: u32) -> Option<MapPorts> {
        PORTS4.get_ptr_mut(number).map(MapPorts)
    }
}

/// A port map of the data plane.
#[derive(Clone, Copy)]
pub struct MapPorts(*mut PortMap4);

impl PortMap for MapPorts {
    type Head = MapWords<7>;
    type Full = MapWords<15>;
    type Taken = MapWords<1023>;

    #[inline(always)]
    fn head(self) -> Self::Head {
        // SAFETY: computes an address.
        MapWords::new(unsafe { &raw mut (*self.0).head }.cast())
    }

    #[inline(always)]
    fn full(self) -> Self::Full {
        // SAFETY: computes an address.
        MapWords::new(unsafe { &raw mut (*self.0).full }.cast())
    }

    #[inline(always)]
    fn taken(self) -> Self::Taken {
        // SAFETY: computes an address.
        MapWords::new(unsafe { &raw mut (*self.0).taken }.cast())
    }
}

/// The number of the port map for `key`, as [`ports::key`] makes it.
#[inline(always)]
pub fn find(key: &FlowKey4) -> Option<u32> {
    ports::find(PortMaps, key.words())
}

/// Begins a port map for `key`.
#[inline(always)]
pub fn begin(key: &FlowKey4) -> Option<u32> {
    port_map_begin(key).checked_sub(1).map(|number| number as u32)
}

/// One more than the number of the port map begun, 0 for none. Global, as [`crate::nacl`] explains.
#[unsafe(no_mangle)]
extern "C" fn port_map_begin(key: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    ports::begin(PortMaps, key.words()).map_or(0, |number| u64::from(number) + 1)
}

/// Gives back the port that `inbound`, a flow freed by now, has held.
#[inline(always)]
pub fn give_back(inbound: &FlowKey4) {
    port_give_back(inbound);
}

/// Global, as [`crate::nacl`] explains. Returns nothing of interest.
#[unsafe(no_mangle)]
extern "C" fn port_give_back(inbound: *const FlowKey4) -> u64 {
    // SAFETY: callers pass a reference; the verifier asks for the check against null.
    let Some(inbound) = (unsafe { inbound.as_ref() }) else { return 0 };
    let map = find(&ports::key(inbound)).and_then(|number| PortMaps.map(number));
    if let Some(map) = map {
        ports::give_back(map, u16::from_be(inbound.destination_port).into());
    }
    0
}
