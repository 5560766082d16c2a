//! Mappings that sessions are held in: opening, ending and ageing, in every order in which two processors can step on
//! each other.

mod gateway;
mod orders;

use std::sync::Arc;

use gateway::Slice;
use loom::{sync::atomic::AtomicU64, thread};
use nat_common::{
    claim,
    flow::{ENDING, FREE, FlowKey4},
    mapping,
    memory::Words,
};
use orders::every_order;

const SESSION: FlowKey4 = FlowKey4 {
    source: 0x0a01_000a,
    destination: 0x0102_0304,
    source_port: 7,
    destination_port: 53,
    protocol: 17,
    zone: 1,
    spare: [0; 2],
};
const KEY: [u64; 2] = mapping::outbound_key(&SESSION).words();
const GENERATION: u64 = 4;

/// The words of a flow table's entry.
#[derive(Clone)]
struct Entry(Arc<Vec<AtomicU64>>);

impl Entry {
    /// A mapping that so many sessions are held in.
    fn mapping(sessions: u64) -> Self {
        let words = [KEY[0], KEY[1], GENERATION, 0, 0, 0, sessions << 32, 0];
        Self(Arc::new(words.map(AtomicU64::new).into_iter().collect()))
    }

    fn words(&self) -> Slice<'_, AtomicU64> {
        Slice(&self.0)
    }

    fn generation(&self) -> u32 {
        self.words().load(claim::GENERATION) as u32
    }
}

#[test]
fn a_session_is_held_or_its_mapping_ends_but_never_both() {
    every_order(|| {
        let entry = Entry::mapping(0);
        let ageing = {
            let entry = entry.clone();
            thread::spawn(move || mapping::end(entry.words()))
        };
        let held = mapping::hold(entry.words(), KEY);
        let ended = ageing.join().unwrap();
        assert!(!(held && ended), "a mapping ended under its session");
        assert_eq!(mapping::count(entry.words()), u32::from(held));
        assert_eq!(entry.generation() == ENDING, ended);
    });
}

#[test]
fn a_mapping_stays_while_one_of_two_sessions_does() {
    every_order(|| {
        let entry = Entry::mapping(2);
        let ending = {
            let entry = entry.clone();
            thread::spawn(move || mapping::let_go(entry.words()))
        };
        assert!(!mapping::end(entry.words()));
        ending.join().unwrap();
        assert_eq!((mapping::count(entry.words()), entry.generation()), (1, GENERATION as u32));
    });
}

#[test]
fn of_two_who_would_end_a_mapping_one_does() {
    every_order(|| {
        let entry = Entry::mapping(0);
        let there = {
            let entry = entry.clone();
            thread::spawn(move || mapping::end(entry.words()))
        };
        let here = mapping::end(entry.words());
        assert_ne!(here, there.join().unwrap());
    });
}

#[test]
fn two_sessions_that_open_at_once_are_both_counted() {
    every_order(|| {
        let entry = Entry::mapping(1);
        let there = {
            let entry = entry.clone();
            thread::spawn(move || mapping::hold(entry.words(), KEY))
        };
        assert!(mapping::hold(entry.words(), KEY) && there.join().unwrap());
        assert_eq!(mapping::count(entry.words()), 3);
    });
}

#[test]
fn nobody_is_held_in_an_entry_that_is_free_or_anothers() {
    loom::model(|| {
        let other = FlowKey4 { source: 9, ..SESSION };
        let entry = Entry::mapping(1);
        assert!(!mapping::hold(entry.words(), mapping::outbound_key(&other).words()));
        entry.words().store(claim::GENERATION, FREE.into());
        assert!(!mapping::hold(entry.words(), KEY) && !mapping::end(entry.words()));
        assert_eq!(mapping::count(entry.words()), 1);
    });
}
