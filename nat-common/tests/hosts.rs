//! Records of hosts and blocks of ports: the algorithms of the data plane and the controller, by one processor and, with
//! loom, in every order in which two can step on each other.

mod gateway;
mod orders;

use std::sync::Arc;

use gateway::Slice;
use loom::{sync::atomic::AtomicU64, thread};
use nat_common::{
    block::{self, Base, FREE},
    flow::FlowKey4,
    host::{self, Counted, Limits, mark},
    memory::Words,
};
use orders::every_order;

/// Words that two processors share.
#[derive(Clone)]
struct Memory(Arc<Vec<AtomicU64>>);

impl Memory {
    fn new(words: &[u64]) -> Self {
        Self(Arc::new(words.iter().map(|word| AtomicU64::new(*word)).collect()))
    }

    fn words(&self) -> Slice<'_, AtomicU64> {
        Slice(&self.0)
    }
}

const HOST: FlowKey4 = FlowKey4 {
    source: 0x0a01_000a,
    destination: 0x0102_0304,
    source_port: 7,
    destination_port: 53,
    protocol: 17,
    zone: 1,
    spare: [0; 2],
};
const KEY: [u64; 2] = HOST.words();

/// A record of `HOST` with so many sessions.
fn record(sessions: u64) -> Memory {
    Memory::new(&[KEY[0], KEY[1], 0, sessions])
}

fn sessions(record: &Memory) -> u64 {
    record.words().load(3)
}

#[test]
fn two_sessions_at_once_never_exceed_the_limit_and_one_of_them_gets_the_last_place() {
    every_order(|| {
        let record = record(4);
        let there = {
            let record = record.clone();
            thread::spawn(move || host::count(record.words(), KEY, 5))
        };
        let here = host::count(record.words(), KEY, 5);
        let mut outcomes = [here, there.join().unwrap()];
        outcomes.sort_unstable_by_key(|outcome| *outcome == Counted::Over);
        assert_eq!((outcomes, sessions(&record)), ([Counted::Yes, Counted::Over], 5));
    });
}

#[test]
fn nobody_counts_in_a_record_whose_last_session_has_gone() {
    every_order(|| {
        let record = record(1);
        let there = {
            let record = record.clone();
            thread::spawn(move || host::take_out(record.words()))
        };
        let counted = host::count(record.words(), KEY, 0);
        let was_last = there.join().unwrap();
        match counted {
            Counted::Yes => assert_eq!((was_last, sessions(&record)), (false, 1)),
            Counted::Gone => assert_eq!((was_last, sessions(&record)), (true, 0)),
            Counted::Over | Counted::Elsewhere => panic!("{counted:?}"),
        }
    });
}

#[test]
fn of_two_last_sessions_one_removes_the_record() {
    every_order(|| {
        let record = record(2);
        let there = {
            let record = record.clone();
            thread::spawn(move || host::take_out(record.words()))
        };
        let here = host::take_out(record.words());
        assert_ne!(here, there.join().unwrap());
        assert_eq!(sessions(&record), 0);
    });
}

#[test]
fn a_record_that_is_anothers_by_now_is_told_from_ones_own() {
    loom::model(|| {
        let other = FlowKey4 { source: 99, ..HOST }.words();
        assert_eq!(host::count(record(3).words(), other, 0), Counted::Gone);
        assert_eq!(host::count(record(0).words(), KEY, 0), Counted::Gone);
    });
}

#[test]
fn two_at_once_get_no_more_turns_than_there_are() {
    every_order(|| {
        let (interval, burst) = Limits::rate(3);
        let limits = Limits { interval, burst, ..Limits::default() };
        let record = record(1);
        let now = 1_000_000_000_000;
        assert!(host::take_turn(record.words(), now, &limits));
        let there = {
            let record = record.clone();
            thread::spawn(move || (0..2).filter(|_| host::take_turn(record.words(), now, &limits)).count())
        };
        let here = (0..2).filter(|_| host::take_turn(record.words(), now, &limits)).count();
        assert_eq!(here + there.join().unwrap(), 2);
    });
}

#[test]
fn turns_come_back_evenly_and_a_second_of_them_at_most() {
    loom::model(|| {
        let (interval, burst) = Limits::rate(10);
        let limits = Limits { interval, burst, ..Limits::default() };
        let record = record(1);
        let take = |now| (0..40).filter(|_| host::take_turn(record.words(), now, &limits)).count();
        let second = 1_000_000_000;
        assert_eq!(take(5 * second), 10);
        assert_eq!(take(5 * second + 99_999_999), 0);
        assert_eq!(take(5 * second + 100_000_000), 1);
        assert_eq!(take(5 * second + 350_000_000), 2);
        assert_eq!(take(90 * second), 10);
    });
}

#[test]
fn a_mark_is_taken_once_and_never_left_behind_by_a_recount() {
    every_order(|| {
        // A flow with a mark; a recount replaces it while the session ends.
        let old = mark::new(mark::HOST, 3);
        let new = mark::new(mark::HOST | mark::REMOTE, 4);
        let flow = Memory::new(&[KEY[0], KEY[1] | u64::from(old) << 48]);
        let ending = {
            let flow = flow.clone();
            thread::spawn(move || host::take_mark(flow.words()))
        };
        let replaced = host::replace_mark(flow.words(), KEY, old, new);
        let taken = ending.join().unwrap();
        assert_eq!(taken, if replaced { new } else { old });
        assert_eq!(host::mark_of(flow.words()), 0);
    });
}

const BASE: Base = Base { place: 0, first: 0, count: 2, size: 64, spare: 0 };

#[test]
fn two_hosts_at_once_never_get_one_block() {
    every_order(|| {
        let blocks = Memory::new(&[FREE, FREE]);
        let claim = |blocks: &Memory, host: u32| {
            let held_by = block::held_by(&FlowKey4 { source: host, ..HOST });
            let mut numbers = (0..BASE.count.into()).map(|step| block::candidate(&BASE, 0, step));
            numbers.find(|number| block::claim(blocks.words(), *number, held_by))
        };
        let there = {
            let blocks = blocks.clone();
            thread::spawn(move || claim(&blocks, 1))
        };
        let (here, there) = (claim(&blocks, 2).unwrap(), there.join().unwrap().unwrap());
        assert_ne!(here, there);
        assert_eq!(claim(&blocks, 3), None);
    });
}

#[test]
fn two_processors_of_one_host_note_one_block_and_give_the_other_back() {
    every_order(|| {
        let memory = Memory::new(&[FREE, FREE]);
        let holder = Memory::new(&[0]);
        let lend = |memory: &Memory, holder: &Memory, number: u32| {
            let held_by = block::held_by(&HOST);
            assert!(block::claim(memory.words(), number, held_by));
            if !block::note(holder.words(), 0, 0, block::slot(5, number)) {
                block::give_back(memory.words(), number, held_by);
            }
        };
        let there = {
            let (memory, holder) = (memory.clone(), holder.clone());
            thread::spawn(move || lend(&memory, &holder, 0))
        };
        lend(&memory, &holder, 1);
        there.join().unwrap();
        let (address, number) = block::named(holder.words().load(0));
        assert_eq!(address, 5);
        let held: Vec<_> = (0..2).map(|number| memory.words().load(number)).collect();
        assert_eq!(held[number as usize], block::held_by(&HOST));
        assert_eq!(held[1 - number as usize], FREE);
    });
}

#[test]
fn a_block_that_comes_back_is_not_used_by_the_host_that_had_it() {
    every_order(|| {
        let held_by = block::held_by(&HOST);
        let blocks = Memory::new(&[held_by]);
        let noticed = block::give_notice(blocks.words(), 0).unwrap();
        let there = {
            let blocks = blocks.clone();
            thread::spawn(move || block::holds(blocks.words(), 0, held_by))
        };
        let freed = block::free(blocks.words(), 0, noticed);
        assert_ne!(freed, there.join().unwrap());
        assert_eq!(blocks.words().load(0), if freed { FREE } else { held_by });
    });
}

#[test]
fn a_word_tells_its_holder() {
    assert_eq!(block::holder(block::held_by(&HOST)), Some((HOST.zone, HOST.source)));
    assert_eq!(block::holder(FREE), None);
    assert_eq!(block::holder(block::RESERVED), None);
    assert_eq!(block::named(block::slot(0xc0a8_0101, 1_023)), (0xc0a8_0101, 1_023));
    assert_eq!(BASE.ports(1), (64, 127));
    assert_eq!(Base { size: 32_768, ..BASE }.ports(1), (32_768, 65_535));
}
