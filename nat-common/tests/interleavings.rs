//! Every order in which two processors can step on each other in the port allocator, within a bound on how often they
//! alternate (loom).

mod gateway;

use std::sync::Arc;

use gateway::{Gateway, Opened, Session, Size, Word};
use loom::{
    sync::atomic::{AtomicU64, Ordering, fence},
    thread,
};

/// As the BPF memory model has it: plain loads and stores of a word, atomics that are full barriers.
impl Word for AtomicU64 {
    fn zero() -> Self {
        Self::new(0)
    }

    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    fn compare_and_swap(&self, old: u64, new: u64) -> bool {
        full(|| self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    fn swap(&self, new: u64) {
        full(|| self.swap(new, Ordering::AcqRel));
    }

    fn or(&self, bits: u64) -> u64 {
        full(|| self.fetch_or(bits, Ordering::AcqRel))
    }

    fn and(&self, bits: u64) -> u64 {
        full(|| self.fetch_and(bits, Ordering::AcqRel))
    }

    fn add(&self, number: u64) -> u64 {
        full(|| self.fetch_add(number, Ordering::AcqRel))
    }

    fn barrier() {
        fence(Ordering::SeqCst);
    }

    fn yield_now() {
        thread::yield_now();
    }
}

fn full<T>(operation: impl FnOnce() -> T) -> T {
    fence(Ordering::SeqCst);
    let result = operation();
    fence(Ordering::SeqCst);
    result
}

/// Tries every order of events with at most three changes of processor that nothing forces.
fn every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// One group, one bucket, and port maps for the ports of one word.
fn gateway(ports: (u16, u16)) -> Arc<Gateway<AtomicU64>> {
    let size = Size { groups: 1, buckets: 1, full: 1, taken: 1 };
    Arc::new(Gateway::new(&size, 1, &[ports]))
}

fn open(gateway: &Gateway<AtomicU64>, number: u32) -> Opened {
    gateway.open(0, 1, number, || 0)
}

/// Opens a session on each of two processors; both must succeed, within the range and on ports of their own.
fn open_two(gateway: &Arc<Gateway<AtomicU64>>, range: (u16, u16)) -> [Session; 2] {
    let there = {
        let gateway = Arc::clone(gateway);
        thread::spawn(move || open(&gateway, 1))
    };
    let here = open(gateway, 2).session();
    let there = there.join().unwrap().session();
    assert_ne!(here.port(), there.port());
    assert_ne!(here.place, there.place);
    for session in [here, there] {
        assert!((range.0..=range.1).contains(&session.port()), "{session:?}");
    }
    [here, there]
}

#[test]
fn two_openings_at_once_get_two_ports_by_the_port_map_and_give_them_back() {
    every_order(|| {
        let range = (100, 101);
        let gateway = gateway(range);
        let map = gateway.begin_map(0, 1).unwrap();
        let [one, other] = open_two(&gateway, range);
        assert_eq!(gateway.taken(map), (2, 2));
        assert_eq!(open(&gateway, 3), Opened::Exhausted);
        let closing = {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || gateway.close(&one))
        };
        gateway.close(&other);
        closing.join().unwrap();
        assert_eq!(gateway.taken(map), (0, 0));
        open(&gateway, 4).session();
        open(&gateway, 5).session();
    });
}

#[test]
fn two_openings_at_once_get_two_ports_without_a_port_map() {
    every_order(|| {
        let range = (100, 102);
        let gateway = gateway(range);
        open_two(&gateway, range);
    });
}

/// A session ends while another is to be opened on its port, the only one. Whether or not that comes too late, the port
/// is there afterwards.
fn port_changes_hands(mapped_before: bool) {
    let gateway = gateway((100, 100));
    if mapped_before {
        gateway.begin_map(0, 1).unwrap();
    }
    let first = open(&gateway, 1).session();
    if !mapped_before {
        gateway.begin_map(0, 1).unwrap();
    }
    let map = gateway.find_map(0, 1).unwrap();
    let closing = {
        let gateway = Arc::clone(&gateway);
        thread::spawn(move || gateway.close(&first))
    };
    let second = open(&gateway, 2);
    closing.join().unwrap();
    let second = match second {
        Opened::Exhausted => open(&gateway, 3).session(),
        opened @ (Opened::Session(_) | Opened::TableFull) => opened.session(),
    };
    assert_eq!(open(&gateway, 4), Opened::Exhausted);
    gateway.close(&second);
    assert_eq!(gateway.taken(map), (0, 0));
    open(&gateway, 5).session();
}

#[test]
fn a_port_that_is_freed_while_another_session_looks_for_it_is_not_lost() {
    every_order(|| port_changes_hands(true));
}

#[test]
fn a_port_that_the_map_does_not_know_of_is_not_lost_either() {
    every_order(|| port_changes_hands(false));
}

#[test]
fn a_port_map_that_begins_while_a_session_ends_does_not_keep_its_port() {
    every_order(|| {
        let gateway = gateway((100, 100));
        let first = open(&gateway, 1).session();
        let closing = {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || gateway.close(&first))
        };
        gateway.begin_map(0, 1).unwrap();
        let early = open(&gateway, 2);
        closing.join().unwrap();
        if early == Opened::Exhausted {
            open(&gateway, 3).session();
        }
    });
}

#[test]
fn of_two_port_maps_begun_at_once_for_one_remote_at_most_one_is_found() {
    every_order(|| {
        let gateway = gateway((100, 163));
        let there = {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || gateway.begin_map(0, 1))
        };
        let here = gateway.begin_map(0, 1);
        let there = there.join().unwrap();
        assert!(here.is_none() || there.is_none(), "{here:?} {there:?}");
        assert_eq!(gateway.find_map(0, 1), here.or(there));
        assert!(gateway.find_map(0, 1).is_some() || gateway.begin_map(0, 1).is_some());
    });
}
