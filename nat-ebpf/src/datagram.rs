//! `FRAGMENTS`: what became of first fragments, as [`nat_common::fragment`] keeps it.

use aya_ebpf::Global;
use nat_common::{
    config::slot,
    fragment::{self, BUCKET_WORDS, Key, Record, Refusal, Time},
};

use crate::{
    clock,
    maps::{CONFIG, FRAGMENTS},
    table,
    words::MapWords,
};

/// Buckets of the table; the loader sets it.
#[unsafe(no_mangle)]
static FRAGMENT_BUCKETS: Global<u32> = Global::new(1);

type Bucket = MapWords<{ BUCKET_WORDS as i32 - 1 }>;

#[inline(always)]
fn bucket(key: &Key) -> Option<Bucket> {
    let number = table::first_probe(key.words()).group(FRAGMENT_BUCKETS.load());
    FRAGMENTS.get_ptr_mut(number).map(|bucket| MapWords::new(bucket.cast()))
}

/// Now, and how long records live.
#[inline(always)]
fn time(generation: u32) -> Time {
    let lifetime = CONFIG.get(slot(generation)).map_or(0, |config| config.timeouts.fragments);
    Time { now: clock::now(), lifetime }
}

/// The record of `key`'s first fragment. Notes that `bytes` more of the datagram pass, and where it ends if this says so.
#[inline(always)]
pub fn follow(key: &Key, bytes: u32, end: Option<u32>, generation: u32) -> Option<Record> {
    let bucket = bucket(key)?;
    let number = fragment::find(bucket, key, time(generation))?;
    let record = fragment::read(bucket, number, key)?;
    if record.generation == generation {
        fragment::passed(bucket, number, bytes, end);
    }
    Some(record)
}

/// Whether a first fragment with these ports may be the datagram's.
#[inline(always)]
pub fn admits(key: &Key, ports: u32, generation: u32) -> bool {
    bucket(key).is_some_and(|bucket| fragment::admits(bucket, key, ports, time(generation)))
}

/// Leaves the record of a first fragment of so many bytes.
#[inline(always)]
pub fn leave(key: &Key, record: &Record, bytes: u32) -> Result<(), Refusal> {
    let Some(bucket) = bucket(key) else { return Err(Refusal::Full) };
    fragment::leave(bucket, key, record, bytes, time(record.generation))
}
