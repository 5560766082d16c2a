//! What a new session costs where most ports toward its remote are taken.
//!
//! The data plane's program is run on single packets (`BPF_PROG_TEST_RUN`), and the kernel tells how long each took. One
//! remote and one Elastic IP: sessions are opened up to a fill; then a few more are opened and timed, closed again, and
//! so on. The first half of those are not timed: they find the caches as ageing has left them, which has just walked the
//! whole table.

use std::{net::Ipv4Addr, path::PathBuf, sync::Barrier, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use nat_common::clock::ticks_from_seconds;
use nat_userspace::datapath::{Datapath, LoadOptions, Pins, Programs};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::datapath::{
    Layout, REMOTE, Rig, Side,
    flags::{RST, SYN},
    tcp,
};

/// Ports of an Elastic IP.
const PORTS: u32 = 64_512;
/// Sessions open, in thousandths of the ports.
pub const FILLS: [u32; 6] = [100, 500, 750, 900, 990, 999];
/// Processors that open sessions at once.
pub const PROCESSORS: [usize; 2] = [1, 2];
/// Sessions opened before they are closed again: as many as there are ports left at the last fill.
const WINDOW: u32 = 64;
/// How often that is done at each fill.
const ROUNDS: u32 = 128;
/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;

/// What opening a session took at one fill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Sessions open before.
    pub sessions: u32,
    /// Nanoseconds, on average.
    pub mean: f64,
    /// Nanoseconds that one in a thousand took longer than.
    pub p999: f64,
}

/// What the program on so many `processors` is called.
#[must_use]
pub fn name(processors: usize) -> String {
    format!("natgw program, {processors} CPU")
}

/// The number of sessions at a fill in thousandths.
#[must_use]
pub const fn sessions(fill: u32) -> u32 {
    (PORTS as u64 * fill as u64 / 1_000) as u32
}

/// Measures every fill with so many `processors` at once.
///
/// # Errors
/// When a session is refused although a port is free, or the machine has fewer processors.
pub fn measure(processors: usize) -> Result<Vec<Figures>> {
    let run = thread::spawn(move || Filling::new(processors)?.measure());
    run.join().map_err(|_| anyhow!("the measurement of new sessions panicked"))?
}

struct Filling {
    rig: Rig,
    processors: Vec<Datapath>,
    interface: u32,
    pins: Pins,
    /// Numbers of sessions used so far.
    used: u32,
}

impl Filling {
    fn new(processors: usize) -> Result<Self> {
        let pins = Pins::new(&PathBuf::from(format!("/sys/fs/bpf/natgw-fill-{}", std::process::id())));
        let limits = "[gateway]\nmax_sessions = 131072\n[timeouts]\ntcp_closing = 1\n".into();
        let layout = Layout { limits, ..Layout::with_ports("1024-65535") };
        let rig = Rig::pinned(&layout, &pins);
        let options = LoadOptions {
            max_sessions: 0,
            max_fragmented_datagrams: 16_384,
            log_level: 0,
            programs: Programs::Xdp,
            bursts: false,
            resets_at_expiry: false,
        };
        let interface = rig.index(Side::Internal.device());
        let mut filling = Self { rig, processors: Vec::new(), interface, pins, used: 0 };
        for _ in 0..processors {
            filling.processors.push(Datapath::pinned(&options, &filling.pins)?);
        }
        Ok(filling)
    }

    fn measure(mut self) -> Result<Vec<Figures>> {
        let mut all = Vec::new();
        let mut open = 0;
        for fill in FILLS {
            let wanted = sessions(fill);
            self.open(wanted - open)?;
            open = wanted;
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.extend(self.round()?);
            }
            all.push(figures(wanted, times));
        }
        Ok(all)
    }

    fn open(&mut self, count: u32) -> Result<()> {
        let frames = self.frames(count);
        run(&mut self.processors[0], &frames, self.interface).map(drop)
    }

    /// Opens some sessions, and ends them again; how long the later ones took to open.
    fn round(&mut self) -> Result<Vec<Duration>> {
        let (first, open) = (self.used, self.rig.maps().session_count()?);
        let share = WINDOW / self.processors.len() as u32;
        let frames: Vec<_> = (0..self.processors.len()).map(|_| self.frames(share)).collect();
        let times = self.at_once(&frames)?;
        for number in first..self.used {
            let (host, port) = source(number);
            self.processors[0].translate(&tcp(host, port, REMOTE, 443, RST).frame(), self.interface, 0)?;
        }
        self.processors[0].age(false, ticks_from_seconds(5))?;
        let left = self.rig.maps().session_count()?;
        ensure!(left == open, "{left} sessions are open and not {open}");
        Ok(times)
    }

    fn at_once(&mut self, frames: &[Vec<Vec<u8>>]) -> Result<Vec<Duration>> {
        let start = Barrier::new(self.processors.len());
        let (start, interface) = (&start, self.interface);
        thread::scope(|scope| {
            let running: Vec<_> = (0..)
                .zip(&mut self.processors)
                .zip(frames)
                .map(|((cpu, datapath), frames)| {
                    scope.spawn(move || {
                        pin(cpu)?;
                        start.wait();
                        Ok(run(datapath, frames, interface)?.split_off(frames.len() / 2))
                    })
                })
                .collect();
            let mut times = Vec::new();
            for processor in running {
                let ended: Result<Vec<Duration>> =
                    processor.join().map_err(|_| anyhow!("a processor panicked"))?;
                times.extend(ended?);
            }
            Ok(times)
        })
    }

    /// SYNs of so many sessions that have not been opened yet.
    fn frames(&mut self, count: u32) -> Vec<Vec<u8>> {
        let first = self.used;
        self.used += count;
        let sources = (first..self.used).map(source);
        sources.map(|(host, port)| tcp(host, port, REMOTE, 443, SYN).frame()).collect()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Err(error) = self.pins.remove() {
            eprintln!("the pins of a measurement are left behind: {error}");
        }
    }
}

/// Moves the calling thread to a processor.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("there is no processor {cpu}"))
}

/// Every frame opens a session; how long each took.
fn run(datapath: &mut Datapath, frames: &[Vec<u8>], interface: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(frames.len());
    for frame in frames {
        let (verdict, time) = datapath.time(frame, interface)?;
        ensure!(verdict == REDIRECT, "a session was refused although ports are free");
        times.push(time);
    }
    Ok(times)
}

fn source(number: u32) -> (Ipv4Addr, u16) {
    let (host, port) = (number / PORTS, number % PORTS);
    ([10, 0, 1, 2 + host as u8].into(), 1_024 + port as u16)
}

fn figures(sessions: u32, mut times: Vec<Duration>) -> Figures {
    times.sort_unstable();
    let sum: Duration = times.iter().sum();
    let p999 = times[(times.len() - 1) * 999 / 1_000];
    Figures { sessions, mean: sum.as_nanos() as f64 / times.len() as f64, p999: p999.as_nanos() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_in_thousandths_is_a_number_of_sessions() {
        assert_eq!(FILLS.map(sessions), [6_451, 32_256, 48_384, 58_060, 63_866, 64_447]);
        assert!(PORTS - sessions(999) >= WINDOW);
    }

    #[test]
    fn figures_are_the_mean_and_what_one_in_a_thousand_exceeds() {
        let times = (1..=2_000).map(Duration::from_nanos).collect();
        assert_eq!(figures(7, times), Figures { sessions: 7, mean: 1_000.5, p999: 1_998.0 });
    }
}
