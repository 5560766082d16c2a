//! The port maps of busy remotes as the controller keeps them: completed when they begin, put away when nobody needs
//! them any more.

use std::net::{Ipv4Addr, SocketAddrV4};

use nat_common::{
    flow::{self, FlowKey4},
    mapping,
    memory::Words,
    ports::{self, BUCKET, PortMap, PortMap4, PortMapHead},
};

use super::{
    DatapathError, Maps,
    memory::{Memory, SharedWords},
    table::Mapping,
};

/// Words of the parts of a port map.
const HEAD: usize = size_of::<PortMapHead>() / 8;
const FULL: usize = 16;
const TAKEN: usize = 1_024;
const MAP: usize = size_of::<PortMap4>() / 8;
const _: () = assert!(HEAD + FULL + TAKEN == MAP);

/// A remote that many sessions of an Elastic IP talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyRemote {
    /// The Elastic IP.
    pub elastic_ip: Ipv4Addr,
    /// The remote; `None`: all remotes, where ports are taken by mappings that do not depend on them.
    pub remote: Option<SocketAddrV4>,
    /// IP protocol number.
    pub protocol: u8,
    /// Ports taken, as far as the port map knows.
    pub taken: u32,
    /// Tick of the last search for a port.
    pub searched: u32,
    key: FlowKey4,
}

impl BusyRemote {
    /// Whether the other is the same remote of the same Elastic IP.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// All port maps.
pub struct BusyRemotes {
    tags: Memory,
    maps: Memory,
    flows: Mapping,
    buckets: u32,
}

impl BusyRemotes {
    /// The port maps beside these maps.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn new(maps: &Maps) -> Result<Self, DatapathError> {
        let buckets = maps.busy.info().map_err(DatapathError::access("look at", "BUSY"))?.max_entries();
        let numbers = buckets as usize * BUCKET as usize;
        let tags = Memory::writable(&maps.busy, numbers * 8);
        let values = Memory::writable(&maps.ports, numbers * size_of::<PortMap4>());
        Ok(Self {
            tags: tags.map_err(DatapathError::access("map", "BUSY"))?,
            maps: values.map_err(DatapathError::access("map", "PORTS4"))?,
            flows: Mapping::of(maps)?,
            buckets,
        })
    }

    /// The remotes that are busy, by the number of their port map.
    #[must_use]
    pub fn all(&self) -> Vec<(u32, BusyRemote)> {
        let numbers = 0..self.buckets * BUCKET;
        let ready = numbers.filter(|number| ports::is_ready(self.tag(*number)));
        ready.map(|number| (number, self.remote(number))).collect()
    }

    /// Whether another remote of the same bucket would find no room.
    #[must_use]
    pub fn is_crowded(&self, number: u32) -> bool {
        let first = number / BUCKET * BUCKET;
        (first..first + BUCKET).all(|number| self.tag(number) != 0)
    }

    /// Marks every port that a session holds and the map did not know of.
    pub fn complete(&self, number: u32) {
        let (map, remote) = (self.map(number), self.remote(number));
        for port in 0..=u16::MAX {
            let key = FlowKey4 { destination_port: port.to_be(), ..remote.key };
            // Looked up again once it is marked: a session that ended in between has given its port back already.
            if !ports::is_taken(map, port.into())
                && self.flows.find(&key).is_some()
                && ports::take(map, port.into())
                && self.flows.find(&key).is_none()
            {
                ports::give_back(map, port.into());
            }
        }
    }

    /// The internal hosts that hold ports toward this remote, and how many, most first.
    #[must_use]
    pub fn holders(&self, number: u32) -> Vec<(Ipv4Addr, u32)> {
        let (map, remote) = (self.map(number), self.remote(number));
        let mut holders = std::collections::HashMap::new();
        for port in (0..=u16::MAX).filter(|port| ports::is_taken(map, u32::from(*port))) {
            let key = FlowKey4 { destination_port: port.to_be(), ..remote.key };
            if let Some(flow) = self.flows.find(&key) {
                *holders.entry(flow::address(flow.address)).or_insert(0) += 1;
            }
        }
        let mut holders: Vec<_> = holders.into_iter().collect();
        holders.sort_unstable_by_key(|(host, ports)| (std::cmp::Reverse(*ports), *host));
        holders
    }

    /// Has nobody find this port map any more; [`BusyRemotes::free`] it when no packet that found it is left. False if
    /// it is in use no more.
    pub fn retire(&self, number: u32) -> bool {
        let tag = self.tag(number);
        ports::is_ready(tag) && ports::retire(self.tags(number), number % BUCKET, tag)
    }

    /// The port maps that were retired and not freed.
    pub fn retired(&self) -> impl Iterator<Item = u32> {
        (0..self.buckets * BUCKET).filter(|number| ports::is_retired(self.tag(*number)))
    }

    /// Frees a retired port map.
    pub fn free(&self, number: u32) {
        if ports::is_retired(self.tag(number)) {
            ports::free(self.tags(number), number % BUCKET, self.map(number));
        }
    }

    fn remote(&self, number: u32) -> BusyRemote {
        // SAFETY: within the map; what the data plane changes meanwhile is read as it was or as it is.
        let head =
            unsafe { self.maps.value::<PortMap4>(number as usize).cast::<PortMapHead>().read_volatile() };
        let key = head.key;
        BusyRemote {
            elastic_ip: key.destination_address(),
            remote: (!mapping::is_mapping(key.protocol))
                .then(|| SocketAddrV4::new(flow::address(key.source), u16::from_be(key.source_port))),
            protocol: mapping::protocol_of(key.protocol),
            taken: head.taken as u32,
            searched: head.searched as u32,
            key,
        }
    }

    fn tag(&self, number: u32) -> u64 {
        self.tags(number).load(number % BUCKET)
    }

    fn tags(&self, number: u32) -> SharedWords<'_> {
        self.tags.words((number / BUCKET * BUCKET) as usize, BUCKET as usize)
    }

    fn map(&self, number: u32) -> SharedPorts<'_> {
        SharedPorts { maps: &self.maps, first: number as usize * MAP }
    }
}

/// A port map that the data plane changes too.
#[derive(Clone, Copy)]
struct SharedPorts<'a> {
    maps: &'a Memory,
    first: usize,
}

impl<'a> PortMap for SharedPorts<'a> {
    type Head = SharedWords<'a>;
    type Full = SharedWords<'a>;
    type Taken = SharedWords<'a>;

    fn head(self) -> SharedWords<'a> {
        self.maps.words(self.first, HEAD)
    }

    fn full(self) -> SharedWords<'a> {
        self.maps.words(self.first + HEAD, FULL)
    }

    fn taken(self) -> SharedWords<'a> {
        self.maps.words(self.first + HEAD + FULL, TAKEN)
    }
}
