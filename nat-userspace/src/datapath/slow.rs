//! What the data plane leaves to the controller, as the controller sees it: the ring of packets, the records of first
//! fragments, and the counts of what became of the former.

use aya::maps::{Array, MapData, RingBuf};
use bytemuck::pod_read_unaligned;
use nat_common::{
    config::{Config, slot},
    fragment::{self, BUCKET_RECORDS, BUCKET_WORDS, Bucket4, Key, Record, Time},
    memory::Words,
    slow::{Counts, Head},
    table::{Probe, Secret},
};

use super::{DatapathError, Maps, maps::array, memory::Memory, now, table::Mapping};

/// The map of records.
pub(super) const NAME: &str = "FRAGMENTS";

/// Buckets of a table for so many datagrams.
pub(super) const fn buckets(datagrams: u32) -> u32 {
    let buckets = datagrams.div_ceil(BUCKET_RECORDS);
    if buckets == 0 { 1 } else { buckets }
}

/// The buckets of the table pinned at `path`, or of a new one for so many datagrams.
///
/// # Errors
/// What the kernel answers.
pub(super) fn buckets_of(path: Option<&std::path::Path>, datagrams: u32) -> Result<u32, DatapathError> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(buckets(datagrams)) };
    let table = MapData::from_pin(path).map_err(DatapathError::access("open", NAME))?;
    Ok(table.info().map_err(DatapathError::access("look at", NAME))?.max_entries())
}

/// The ring of packets that the data plane leaves to the controller.
pub type SlowRing = RingBuf<MapData>;

/// A packet of the ring: what is known of it, and its bytes from the IP header on.
#[must_use]
pub fn packet_of(record: &[u8]) -> Option<(Head, &[u8])> {
    let (head, bytes) = record.split_at_checked(size_of::<Head>())?;
    let head: Head = pod_read_unaligned(head);
    Some((head, bytes.get(..usize::from(head.length))?))
}

/// The maps that sending them on needs.
pub struct SlowMaps {
    records: Memory,
    buckets: u32,
    secret: Secret,
    generation: Array<MapData, u32>,
    config: Array<MapData, Config>,
    counts: Array<MapData, Counts>,
}

impl SlowMaps {
    /// Those beside `maps`.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn new(maps: &Maps) -> Result<Self, DatapathError> {
        let info = maps.fragments.info().map_err(DatapathError::access("look at", NAME))?;
        let buckets = info.max_entries();
        let bytes = buckets as usize * size_of::<Bucket4>();
        Ok(Self {
            records: Memory::writable(&maps.fragments, bytes).map_err(DatapathError::access("map", NAME))?,
            buckets,
            secret: Mapping::of(maps)?.secret(),
            generation: array(&maps.shared[0], "GENERATION")?,
            config: array(&maps.shared[1], "CONFIG")?,
            counts: array(&maps.shared[2], "SLOW_COUNTS")?,
        })
    }

    /// Ticks that a record lives under the configuration in force.
    #[must_use]
    pub fn lifetime(&self) -> u32 {
        let config = self.config.get(&slot(self.generation()), 0);
        config.map_or(0, |config| config.timeouts.fragments)
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation.get(&0, 0).unwrap_or_default()
    }

    /// What became of the first fragment of `key`'s datagram, if it has passed under the configuration in force.
    #[must_use]
    pub fn record(&self, key: &Key) -> Option<Record> {
        let number = Probe::first(&self.secret, key.words()).group(self.buckets);
        let bucket = self.records.words(number as usize * BUCKET_WORDS as usize, BUCKET_WORDS as usize);
        let time = Time { now: now(), lifetime: self.lifetime() };
        let record = fragment::read(bucket, fragment::find(bucket, key, time)?, key)?;
        (record.generation == self.generation()).then_some(record)
    }

    /// Forgets all first fragments: for tests that begin anew.
    pub fn forget(&self) {
        let words = self.records.words(0, self.buckets as usize * BUCKET_WORDS as usize);
        for word in 0..self.buckets * BUCKET_WORDS {
            words.store(word, 0);
        }
    }

    /// The counts as they stand.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.get(&0, 0).unwrap_or_default()
    }

    /// Writes the counts down for whoever wants to see them.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn set_counts(&mut self, counts: Counts) -> Result<(), DatapathError> {
        self.counts.set(0, counts, 0).map_err(DatapathError::access("write", "SLOW_COUNTS"))
    }
}
