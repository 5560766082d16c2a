//! The port allocator against a model that knows by plain sets which ports are taken.

mod gateway;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
    thread,
};

use gateway::{Gateway, Opened, Session, Size, Word};

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
        self.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn swap(&self, new: u64) {
        self.swap(new, Ordering::SeqCst);
    }

    fn or(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::SeqCst)
    }

    fn and(&self, bits: u64) -> u64 {
        self.fetch_and(bits, Ordering::SeqCst)
    }

    fn add(&self, number: u64) -> u64 {
        self.fetch_add(number, Ordering::SeqCst)
    }

    fn barrier() {
        fence(Ordering::SeqCst);
    }

    fn yield_now() {
        thread::yield_now();
    }
}

/// Numbers that look random and are the same every time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }
}

const SIZE: Size = Size { groups: 16_384, buckets: 2, full: 16, taken: 1_024 };

/// Open sessions, and what a model of sets says about them.
struct Model {
    ranges: Vec<(u16, u16)>,
    addresses: u32,
    open: Vec<(u32, Session)>,
    /// By remote and Elastic IP: the ports taken.
    taken: HashMap<(u32, u32), BTreeSet<u16>>,
}

impl Model {
    fn ports(&self) -> usize {
        self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// The first Elastic IP from `start` on that has a free port toward `remote`.
    fn expected(&self, start: u32, remote: u32) -> Option<u32> {
        let ports = self.ports();
        (0..self.addresses)
            .map(|step| (start + step) % self.addresses)
            .find(|address| self.taken.get(&(remote, *address)).map_or(0, BTreeSet::len) < ports)
    }

    fn opened(&mut self, remote: u32, address: u32, session: Session) {
        let port = session.port();
        assert!(self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)), "port {port}");
        assert!(self.taken.entry((remote, address)).or_default().insert(port), "{session:?} is taken");
        self.open.push((remote, session));
    }

    fn closed(&mut self, number: usize) -> Session {
        let (remote, session) = self.open.swap_remove(number);
        let address = session.key.destination - 0x0100_0000;
        assert!(self.taken.get_mut(&(remote, address)).is_some_and(|taken| taken.remove(&session.port())));
        session
    }
}

/// Opens, closes and forgets port maps at random; every opening must succeed exactly if the model knows of a free port,
/// and on the first Elastic IP that has one.
fn walk(addresses: u32, ranges: &[(u16, u16)], remotes: u32, steps: u64) {
    let gateway = Gateway::<AtomicU64>::new(&SIZE, addresses, ranges);
    let mut model = Model { ranges: ranges.to_vec(), addresses, open: Vec::new(), taken: HashMap::new() };
    let mut random = Random(0x1234_5678_9abc_def1 ^ steps);
    let mut refused = 0_u64;
    for step in 0..steps {
        // Waves: destinations fill up until nothing is free, and empty again.
        let filling = step / 50_000 % 2 == 0;
        let close = random.below(8) < if filling { 2 } else { 6 };
        if close && !model.open.is_empty() {
            let session = model.closed(random.next() as usize % model.open.len());
            gateway.close(&session);
        } else {
            let (remote, start) = (random.below(remotes), random.below(addresses));
            let expected = model.expected(start, remote);
            let mut numbers = Random(u64::from(random.next()) << 8 | 1);
            match (gateway.open(start, remote, step as u32, || numbers.next()), expected) {
                (Opened::Session(session), Some(address)) => {
                    assert_eq!(session.key.destination, 0x0100_0000 + address, "step {step}");
                    model.opened(remote, address, session);
                }
                (Opened::Exhausted, None) => refused += 1,
                (opened, expected) => panic!("step {step}: {opened:?}, but {expected:?} has a free port"),
            }
        }
        if random.below(100_000) == 0 {
            gateway.forget_maps();
        }
    }
    assert!(refused > steps / 100, "only {refused} of {steps} steps met a full destination");
    while !model.open.is_empty() {
        gateway.close(&model.closed(0));
    }
    let full = model.ports() as u32 * addresses;
    for number in 0..full {
        gateway.open(0, 0, number, || number.wrapping_mul(0x9e37_79b9)).session();
    }
    assert_eq!(gateway.open(0, 0, full, || 0), Opened::Exhausted, "no port was lost, none was lent twice");
}

#[test]
fn eight_million_random_steps_on_one_elastic_ip_lend_no_port_twice_and_lose_none() {
    walk(1, &[(1_024, 3_023)], 3, 8_000_000);
}

#[test]
fn eight_million_random_steps_on_several_elastic_ips_with_holes_lend_no_port_twice_and_lose_none() {
    walk(3, &[(1_000, 1_010), (1_013, 1_699), (40_000, 40_063), (65_500, 65_535)], 2, 8_000_000);
}

#[test]
fn four_million_random_steps_with_too_few_port_maps_lend_no_port_twice_and_lose_none() {
    walk(2, &[(20_000, 20_099)], 40, 4_000_000);
}

#[test]
fn every_port_of_a_whole_address_is_lent_in_a_bounded_number_of_steps() {
    let size = Size { groups: 65_536, ..SIZE };
    let gateway = Gateway::<AtomicU64>::new(&size, 1, &[(1_024, 65_535)]);
    let mut random = Random(7);
    let mut lent = BTreeSet::new();
    let mut tries = 0;
    for number in 0..64_512 {
        let session = gateway.open(0, 1, number, || random.next()).session();
        // Half full or emptier, any search is short; beyond that, 16 words of the summary bound it.
        assert!(session.steps <= 64 + session.tries, "session {number}: {session:?}");
        tries += session.tries;
        assert!(lent.insert(session.port()));
    }
    assert!(tries < 64_512 * 3 / 2, "{tries} tries for 64,512 sessions");
    assert_eq!(gateway.open(0, 1, 64_512, || 1), Opened::Exhausted);
}

#[test]
fn threads_that_open_and_close_at_once_never_share_a_port_and_lose_none() {
    const PORTS: u32 = 200;
    let gateway = Arc::new(Gateway::<AtomicU64>::new(&SIZE, 1, &[(5_000, 5_199)]));
    let owners: Arc<Vec<AtomicU32>> = Arc::new((0..PORTS).map(|_| AtomicU32::new(0)).collect());
    let worker = |number: u32| {
        let (gateway, owners) = (Arc::clone(&gateway), Arc::clone(&owners));
        let close = move |gateway: &Gateway<AtomicU64>, owners: &[AtomicU32], session: &Session| {
            owners[usize::from(session.port() - 5_000)].store(0, Ordering::SeqCst);
            gateway.close(session);
        };
        thread::spawn(move || {
            let mut random = Random(u64::from(number) + 99);
            let mut open: Vec<Session> = Vec::new();
            for step in 0..400_000 {
                if random.below(2) == 0 && !open.is_empty() {
                    let session = open.swap_remove(random.next() as usize % open.len());
                    close(&gateway, &owners, &session);
                } else if open.len() < 66
                    && let Opened::Session(session) = gateway.open(0, 1, step, || random.next())
                {
                    let owner = owners[usize::from(session.port() - 5_000)].swap(number, Ordering::SeqCst);
                    assert_eq!(owner, 0, "{session:?} is another thread's");
                    open.push(session);
                }
            }
            open.iter().for_each(|session| close(&gateway, &owners, session));
        })
    };
    let workers: Vec<_> = (1..=3).map(worker).collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    for number in 0..PORTS {
        gateway.open(0, 1, number, || number.wrapping_mul(0x9e37_79b9)).session();
    }
    assert_eq!(gateway.open(0, 1, PORTS, || 0), Opened::Exhausted);
}
