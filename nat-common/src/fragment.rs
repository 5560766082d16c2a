//! `FRAGMENTS`: datagrams that pass in fragments. The first fragment has the ports and goes the way of a whole packet; it
//! leaves a *record* of what became of it, by which the others are translated.
//!
//! The table is an array of buckets of four records, chosen by the secret hash of the flow table, and never grows. What
//! makes room for a new record is one that is free or over, one whose datagram has passed whole, or the oldest of the
//! same source where that has half the bucket already: no flood of one host displaces what another is sending. Only
//! fragments whose session and NACLs let them pass leave records, so that fragments of nothing fill nothing.
//!
//! A record is claimed by one compare-and-swap of its first word, written, and published by another store of that word,
//! which counts claims. A reader that finds the word changed after it has read the rest has read nothing.

use bytemuck::{Pod, Zeroable};

use crate::{flow::Hop, memory::Words};

/// Records in a bucket.
pub const BUCKET_RECORDS: u32 = 4;
/// Records of one bucket that one source may hold while others need room.
const SHARE: u32 = BUCKET_RECORDS / 2;
/// Words of a record.
pub const RECORD_WORDS: u32 = 8;
/// Words of a bucket.
pub const BUCKET_WORDS: u32 = BUCKET_RECORDS * RECORD_WORDS;

/// Largest IP packet, and so the end of every datagram (RFC 791 §3.1).
pub const MAX_PACKET: u32 = 65_535;

/// What the fragments of one datagram have in common, and no others have (RFC 791 §3.2, RFC 6864 §3): as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source address, network order.
    pub source: u32,
    /// Destination address, network order.
    pub destination: u32,
    /// Identification, network order.
    pub identification: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The zone that the fragment came from.
    pub zone: u8,
}

impl Key {
    /// The key as two words, of which the second has 32 bits.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        let rest = self.identification as u64 | (self.protocol as u64) << 16 | (self.zone as u64) << 24;
        [self.source as u64 | (self.destination as u64) << 32, rest]
    }
}

/// What became of a first fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Source and destination port, side by side as in a packet; of ICMP the identifier, in its place of the tuple.
    pub ports: u32,
    /// The generation under which it passed.
    pub generation: u32,
    /// The address that replaces source (outbound) or destination (inbound), network order; 0: none is replaced.
    pub address: u32,
    /// The identification that the datagram has where it leaves, network order.
    pub identification: u16,
    /// Bytes of IP that the next link carries, where the first fragment was longer: all of the datagram is left to the
    /// controller then, so that it stays in order; 0 otherwise.
    pub mtu: u16,
    /// Where it left.
    pub hop: Hop,
}

/// One bucket; the value of `FRAGMENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bucket4 {
    /// Four records.
    pub words: [u64; BUCKET_WORDS as usize],
}

/// A record's words: when, in which phase, and how often it was claimed,
const STATE: u32 = 0;
/// the key's addresses,
const ADDRESSES: u32 = 1;
/// the rest of the key, and the ports,
const PORTS: u32 = 2;
/// generation and address,
const REWRITE: u32 = 3;
/// the two words of the hop,
const HOP: u32 = 4;
/// bytes that have passed, and in the upper half how many there are in all,
const PASSED: u32 = 6;
/// and identification and MTU.
const IDENTIFICATION: u32 = 7;

/// Phases: nobody's; being written; to be found.
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const LIVE: u64 = 2;

/// What a record's first word says.
#[derive(Clone, Copy)]
struct State(u64);

impl State {
    #[inline(always)]
    const fn tick(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn phase(self) -> u64 {
        self.0 >> 32 & 3
    }

    /// The state after this one, which no earlier one equals for a billion claims.
    #[inline(always)]
    const fn after(self, tick: u32, phase: u64) -> Self {
        let claims = (self.0 >> 34).wrapping_add(1);
        Self(tick as u64 | phase << 32 | claims << 34)
    }

    /// Whether nobody needs what stands there.
    #[inline(always)]
    const fn is_over(self, time: Time) -> bool {
        // Another CPU's clock may be a little ahead.
        self.phase() == FREE || time.now.wrapping_sub(self.tick()) as i32 > time.lifetime as i32
    }
}

/// The time of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// The current tick ([`crate::clock`]).
    pub now: u32,
    /// Ticks that a record lives.
    pub lifetime: u32,
}

/// Why a first fragment leaves no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The datagram has had another first fragment, with other ports (RFC 3128).
    Other,
    /// Its bucket is full, or another CPU has just taken the place.
    Full,
}

/// The number of `key`'s record in its bucket.
#[inline(always)]
pub fn find(bucket: impl Words, key: &Key, time: Time) -> Option<u32> {
    let words = key.words();
    let mut number = 0;
    while number < BUCKET_RECORDS {
        let state = State(bucket.load(number * RECORD_WORDS + STATE));
        if state.phase() == LIVE && !state.is_over(time) && holds(bucket, number, words) {
            return Some(number);
        }
        number += 1;
    }
    None
}

/// Reads record `number`, if it is still `key`'s.
#[inline(always)]
pub fn read(bucket: impl Words, number: u32, key: &Key) -> Option<Record> {
    let first = number * RECORD_WORDS;
    let state = bucket.load(first + STATE);
    let (ports, rewrite) = (bucket.load(first + PORTS), bucket.load(first + REWRITE));
    let hop = [bucket.load(first + HOP), bucket.load(first + HOP + 1)];
    let identification = bucket.load(first + IDENTIFICATION);
    let holds = State(state).phase() == LIVE && holds(bucket, number, key.words());
    bucket.barrier();
    if !holds || bucket.load(first + STATE) != state {
        return None;
    }
    Some(Record {
        ports: (ports >> 32) as u32,
        generation: rewrite as u32,
        address: (rewrite >> 32) as u32,
        identification: identification as u16,
        mtu: (identification >> 16) as u16,
        // SAFETY: a hop is its two words, whatever they hold.
        hop: unsafe { core::mem::transmute::<[u64; 2], Hop>(hop) },
    })
}

/// Notes that `bytes` of the datagram's content have passed, and where it ends, once that is known: its record may be
/// displaced when it has passed whole.
#[inline(always)]
pub fn passed(bucket: impl Words, number: u32, bytes: u32, end: Option<u32>) {
    let end = end.unwrap_or_default();
    bucket.add(number * RECORD_WORDS + PASSED, bytes as u64 | (end as u64) << 32);
}

/// Leaves the record of a first fragment that has `bytes` of the datagram's content.
///
/// # Errors
/// [`Refusal`].
#[inline(always)]
pub fn leave(bucket: impl Words, key: &Key, record: &Record, bytes: u32, time: Time) -> Result<(), Refusal> {
    let words = key.words();
    let number = place(bucket, words, record.ports, time)?;
    let first = number * RECORD_WORDS;
    let state = State(bucket.load(first + STATE));
    let claimed = state.after(time.now, CLAIMED);
    // What might be displaced when it was looked at may be another CPU's by now.
    if state.phase() == CLAIMED && !state.is_over(time)
        || !bucket.compare_and_swap(first + STATE, state.0, claimed.0)
    {
        return Err(Refusal::Full);
    }
    bucket.store(first + ADDRESSES, words[0]);
    bucket.store(first + PORTS, words[1] | (record.ports as u64) << 32);
    bucket.barrier();
    if has_twin(bucket, words, number, time) {
        bucket.swap(first + STATE, claimed.after(0, FREE).0);
        return Err(Refusal::Other);
    }
    bucket.store(first + REWRITE, record.generation as u64 | (record.address as u64) << 32);
    // SAFETY: a hop is its two words.
    let hop = unsafe { core::mem::transmute::<Hop, [u64; 2]>(record.hop) };
    bucket.store(first + HOP, hop[0]);
    bucket.store(first + HOP + 1, hop[1]);
    bucket.store(first + PASSED, bytes as u64);
    bucket.store(first + IDENTIFICATION, record.identification as u64 | (record.mtu as u64) << 16);
    bucket.swap(first + STATE, claimed.after(time.now, LIVE).0);
    Ok(())
}

/// Whether a first fragment with these ports is the datagram's own.
#[inline(always)]
pub fn admits(bucket: impl Words, key: &Key, ports: u32, time: Time) -> bool {
    match find(bucket, key, time) {
        Some(number) => {
            let known = bucket.load(number * RECORD_WORDS + PORTS) >> 32;
            known as u32 == ports || is_whole(bucket, number)
        }
        None => true,
    }
}

/// Where the record of a key goes: where there is one already, or to the place that can best be spared.
#[inline(always)]
fn place(bucket: impl Words, words: [u64; 2], ports: u32, time: Time) -> Result<u32, Refusal> {
    let (mut spare, mut whole, mut oldest) = (None, None, None);
    let (mut own, mut age) = (0, 0);
    let mut number = 0;
    while number < BUCKET_RECORDS {
        let first = number * RECORD_WORDS;
        let state = State(bucket.load(first + STATE));
        if state.is_over(time) {
            spare = Some(number);
        } else if state.phase() == LIVE {
            if holds(bucket, number, words) {
                let same = (bucket.load(first + PORTS) >> 32) as u32 == ports;
                return if same || is_whole(bucket, number) { Ok(number) } else { Err(Refusal::Other) };
            }
            if is_whole(bucket, number) {
                whole = Some(number);
            } else if bucket.load(first + ADDRESSES) as u32 == words[0] as u32 {
                own += 1;
                let aged = time.now.wrapping_sub(state.tick()).wrapping_add(2);
                if aged > age {
                    (age, oldest) = (aged, Some(number));
                }
            }
        }
        number += 1;
    }
    if own < SHARE {
        oldest = None;
    }
    spare.or(whole).or(oldest).ok_or(Refusal::Full)
}

/// Whether another place than `own` has the key, written or being written.
#[inline(always)]
fn has_twin(bucket: impl Words, words: [u64; 2], own: u32, time: Time) -> bool {
    let mut number = 0;
    while number < BUCKET_RECORDS {
        let state = State(bucket.load(number * RECORD_WORDS + STATE));
        if number != own && !state.is_over(time) && holds(bucket, number, words) {
            return true;
        }
        number += 1;
    }
    false
}

/// Whether all of a datagram has passed. Doubles and overlaps may make it seem so too early, and a second end too late;
/// either way the record lives until another needs its place.
#[inline(always)]
fn is_whole(bucket: impl Words, number: u32) -> bool {
    let passed = bucket.load(number * RECORD_WORDS + PASSED);
    passed >> 32 != 0 && passed & 0xffff_ffff >= passed >> 32
}

#[inline(always)]
fn holds(bucket: impl Words, number: u32, words: [u64; 2]) -> bool {
    let first = number * RECORD_WORDS;
    bucket.load(first + ADDRESSES) == words[0] && bucket.load(first + PORTS) & 0xffff_ffff == words[1]
}

#[cfg(test)]
mod tests;
