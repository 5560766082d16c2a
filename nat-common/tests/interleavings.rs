//! Every order in which two processors can step on each other in the port allocator, within a bound on how often they
//! alternate (loom).

mod gateway;
mod orders;

use std::sync::Arc;

use gateway::{Gateway, Opened, Session, Size};
use loom::{sync::atomic::AtomicU64, thread};
use nat_common::claim::Refusal;
use orders::{every_order, every_order_within};

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

#[test]
fn a_word_that_fills_while_a_port_of_it_is_given_back_is_not_summed_up_as_full() {
    every_order(|| {
        let gateway = gateway((64, 127));
        let map = gateway.begin_map(0, 1).unwrap();
        (64..127).for_each(|port| gateway.mark(map, port));
        let filling = {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || gateway.mark(map, 127))
        };
        gateway.unmark(map, 100);
        filling.join().unwrap();
        assert_eq!((gateway.taken(map), gateway.summary(map)), ((63, 63), 0));
        gateway.mark(map, 100);
        assert_eq!(gateway.summary(map), 1 << 1);
    });
}

#[test]
fn whoever_is_told_that_a_flow_exists_can_rely_on_it() {
    // Three processors: with two there is nobody for whose sake the one that is seen might withdraw.
    every_order_within(2, || {
        let gateway = gateway((100, 100));
        let insert = || {
            let gateway = Arc::clone(&gateway);
            thread::spawn(move || gateway.insert(1, 100))
        };
        let others = [insert(), insert()];
        let here = gateway.insert(1, 100);
        let [one, other] = others.map(|other| other.join().unwrap());
        let all = [here, one, other];
        let inserted = all.iter().filter(|inserted| inserted.is_ok()).count();
        assert!(inserted <= 1, "{all:?}");
        assert!(inserted == 1 || !all.contains(&Err(Refusal::Exists)), "{all:?}");
    });
}
