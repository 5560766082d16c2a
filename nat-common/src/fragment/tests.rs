//! One CPU's view of a bucket.

use super::*;
use core::cell::Cell;

const TIME: Time = Time { now: 100, lifetime: 2 };

/// A bucket of one CPU.
struct Bucket([Cell<u64>; BUCKET_WORDS as usize]);

impl Bucket {
    fn new() -> Self {
        Self([const { Cell::new(0) }; BUCKET_WORDS as usize])
    }

    fn leave(&self, key: Key, ports: u32, time: Time) -> Result<(), Refusal> {
        let record = Record { ports, generation: 7, address: key.source ^ 5, ..Record::default() };
        leave(self, &key, &record, 1_480, time)
    }

    fn record(&self, key: Key, time: Time) -> Option<Record> {
        read(self, find(self, &key, time)?, &key)
    }
}

impl Words for &Bucket {
    fn load(self, word: u32) -> u64 {
        self.0[word as usize].get()
    }
    fn store(self, word: u32, value: u64) {
        self.0[word as usize].set(value);
    }
    fn compare_and_swap(self, word: u32, old: u64, new: u64) -> bool {
        let same = self.load(word) == old;
        if same {
            self.store(word, new);
        }
        same
    }
    fn swap(self, word: u32, new: u64) {
        self.store(word, new);
    }
    fn set(self, word: u32, bits: u64) -> u64 {
        self.0[word as usize].replace(self.load(word) | bits)
    }
    fn clear(self, word: u32, bits: u64) -> u64 {
        self.0[word as usize].replace(self.load(word) & !bits)
    }
    fn add(self, word: u32, number: u64) -> u64 {
        self.0[word as usize].replace(self.load(word).wrapping_add(number))
    }
    fn barrier(self) {}
}

fn key(source: u32, identification: u16) -> Key {
    Key { source, destination: 9, identification, protocol: 17, zone: 1 }
}

#[test]
fn a_record_is_found_by_its_whole_key_until_its_lifetime_is_over() {
    let bucket = Bucket::new();
    let own = key(1, 0xbeef);
    bucket.leave(own, 53, TIME).unwrap();
    let record = bucket.record(own, TIME).unwrap();
    assert_eq!((record.ports, record.generation, record.address), (53, 7, 4));
    for other in [
        Key { source: 2, ..own },
        Key { destination: 8, ..own },
        Key { identification: 0xbeee, ..own },
        Key { protocol: 6, ..own },
        Key { zone: 0, ..own },
    ] {
        assert_eq!(bucket.record(other, TIME), None, "{other:?}");
    }
    assert!(bucket.record(own, Time { now: 99, ..TIME }).is_some(), "another CPU's clock may be late");
    assert!(bucket.record(own, Time { now: 102, ..TIME }).is_some());
    assert!(bucket.record(own, Time { now: 103, ..TIME }).is_none());
}

#[test]
fn a_second_first_fragment_with_other_ports_is_refused_until_the_datagram_has_passed_whole() {
    let bucket = Bucket::new();
    bucket.leave(key(1, 1), 53, TIME).unwrap();
    assert!(bucket.leave(key(1, 1), 53, TIME).is_ok(), "the same once more");
    assert!(!admits(&bucket, &key(1, 1), 54, TIME));
    assert_eq!(bucket.leave(key(1, 1), 54, TIME), Err(Refusal::Other));
    passed(&bucket, find(&bucket, &key(1, 1), TIME).unwrap(), 20, Some(1_500));
    assert!(admits(&bucket, &key(1, 1), 54, TIME));
    bucket.leave(key(1, 1), 54, TIME).unwrap();
    assert_eq!(bucket.record(key(1, 1), TIME).unwrap().ports, 54);
}

#[test]
fn one_source_displaces_its_own_oldest_and_nobody_elses() {
    let bucket = Bucket::new();
    bucket.leave(key(7, 1), 1, TIME).unwrap();
    bucket.leave(key(8, 2), 2, TIME).unwrap();
    bucket.leave(key(1, 1), 1, TIME).unwrap();
    for number in 2..1_000 {
        bucket.leave(key(1, number), 1, Time { now: 101, ..TIME }).unwrap();
    }
    assert!(bucket.record(key(7, 1), TIME).is_some() && bucket.record(key(8, 2), TIME).is_some());
    assert!(bucket.record(key(1, 999), TIME).is_some());
    assert!(bucket.record(key(1, 1), TIME).is_none());
    assert_eq!(bucket.leave(key(3, 1), 1, TIME), Err(Refusal::Full), "a third source finds no room");
}

#[test]
fn what_has_passed_whole_makes_room() {
    let bucket = Bucket::new();
    for source in 1..=4 {
        bucket.leave(key(source, 1), 1, TIME).unwrap();
    }
    assert_eq!(bucket.leave(key(5, 1), 1, TIME), Err(Refusal::Full));
    let number = find(&bucket, &key(3, 1), TIME).unwrap();
    passed(&bucket, number, 1_480, None);
    assert_eq!(bucket.leave(key(5, 1), 1, TIME), Err(Refusal::Full), "its end has not passed yet");
    passed(&bucket, number, 40, Some(3_000));
    bucket.leave(key(5, 1), 1, TIME).unwrap();
    assert!(bucket.record(key(3, 1), TIME).is_none() && bucket.record(key(4, 1), TIME).is_some());
}

#[test]
fn a_record_that_is_being_written_is_not_displaced_before_its_time() {
    let bucket = Bucket::new();
    for number in 0..BUCKET_RECORDS {
        let claimed = State(0).after(TIME.now, CLAIMED);
        (&bucket).store(number * RECORD_WORDS + STATE, claimed.0);
    }
    assert_eq!(bucket.leave(key(1, 1), 1, TIME), Err(Refusal::Full));
    assert!(bucket.leave(key(1, 1), 1, Time { now: 103, ..TIME }).is_ok());
}

#[test]
fn a_record_that_changes_while_it_is_read_is_not_read() {
    let bucket = Bucket::new();
    bucket.leave(key(1, 1), 1, TIME).unwrap();
    let number = find(&bucket, &key(1, 1), TIME).unwrap();
    bucket.leave(key(1, 1), 1, TIME).unwrap();
    let state = (&bucket).load(number * RECORD_WORDS + STATE);
    (&bucket).store(number * RECORD_WORDS + STATE, State(state).after(100, CLAIMED).0);
    assert_eq!(read(&bucket, number, &key(1, 1)), None);
}
