//! One core's time: who used it, and how steadily it runs.

use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The core that carries the packets, and the thread that serves its software interrupts.
#[derive(Clone, Debug)]
pub struct Core {
    number: usize,
    ksoftirqd: Option<String>,
    separate: bool,
}

impl Core {
    /// The last core that this process may run on: the first ones serve more interrupts.
    ///
    /// # Errors
    /// When the kernel does not tell which cores there are.
    pub fn last() -> Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which cores there are")?;
        let allowed = (0..CpuSet::count()).rev().find(|core| set.is_set(*core).unwrap_or(false));
        let number = allowed.context("this process may run on no core")?;
        Ok(Self {
            number,
            ksoftirqd: schedstat_of(&format!("ksoftirqd/{number}")),
            separate: irq_time_is_separate(),
        })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Moves the calling thread there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pin(&self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.number)?;
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("cannot move to core {}", self.number))
    }

    /// What the calling thread has used of any core.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn thread() -> Result<Duration> {
        Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
    }

    /// What the calling thread and this core's software interrupts have used so far.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn used(&self) -> Result<Duration> {
        let softirq = match &self.ksoftirqd {
            Some(path) => on_cpu(path)?,
            None => Duration::ZERO,
        };
        let interrupts = if self.separate { self.interrupts()? } else { Duration::ZERO };
        Ok(Self::thread()? + softirq + interrupts)
    }

    /// What interrupts have used of this core, to 10 ms.
    fn interrupts(&self) -> Result<Duration> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        interrupts_in(&stat, self.number).with_context(|| format!("/proc/stat: no core {}", self.number))
    }

    /// The time of a fixed piece of work in registers and memory, the fastest of three: on a quiet core always much
    /// the same.
    ///
    /// # Errors
    /// When no thread can move there.
    pub fn canary(&self) -> Result<Duration> {
        // A thread of its own: children of the calling thread must not inherit its core.
        let work = || {
            self.pin()?;
            let mut memory = vec![1; CANARY_WORDS];
            let mut fastest = Duration::MAX;
            for _ in 0..3 {
                let begin = Instant::now();
                work(&mut memory);
                fastest = fastest.min(begin.elapsed());
            }
            Ok(fastest)
        };
        match thread::scope(|scope| scope.spawn(work).join()) {
            Ok(time) => time,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Times of hard and software interrupts of a core in /proc/stat, which counts in hundredths of a second.
fn interrupts_in(stat: &str, core: usize) -> Option<Duration> {
    let name = format!("cpu{core} ");
    let mut times = stat.lines().find_map(|line| line.strip_prefix(&name))?.split_whitespace().skip(5);
    let (hard, soft): (u64, u64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some(Duration::from_millis((hard + soft) * 10))
}

/// Whether this kernel takes the time of interrupts out of the time of the thread that they interrupt.
fn irq_time_is_separate() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let config = fs::read_to_string(format!("/boot/config-{}", release.trim())).unwrap_or_else(|_| {
        let output = Command::new("zcat").arg("/proc/config.gz").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    });
    config.lines().any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y")
}

/// Steps through random places of a table that no core's caches hold.
fn work(memory: &mut [u64]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..CANARY_STEPS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = state as usize % memory.len();
        memory[place] = memory[place].wrapping_add(state);
    }
    black_box(memory);
}

/// The first field of a `schedstat`: nanoseconds on a CPU.
fn on_cpu(path: &str) -> Result<Duration> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(Duration::from_nanos(first.parse().with_context(|| format!("{path}: {text:?} is no time"))?))
}

/// The `schedstat` of the kernel thread with this name, if this host shows it.
fn schedstat_of(name: &str) -> Option<String> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let path = entries.into_iter().find(named)?.path().join("schedstat");
    path.is_file().then(|| path.to_string_lossy().into_owned())
}

/// 16 MiB.
const CANARY_WORDS: usize = 1 << 21;
const CANARY_STEPS: usize = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_read_from_the_line_of_their_core() {
        let stat = "cpu  1 2 3 4 5 60 70 8\ncpu1 1 2 3 4 5 6 7 8\ncpu11 1 2 3 4 5 9 9 8\n";
        assert_eq!(interrupts_in(stat, 1), Some(Duration::from_millis(130)));
        assert_eq!(interrupts_in(stat, 2), None);
    }
}
