//! Sequence after sequence, until they disagree or it is enough.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::datapath::Hook;

use super::{
    generate::sequence,
    machine::{Disagreement, Machine},
    shrink::shrink,
    step::Step,
    text::print,
};

/// Steps in one sequence, which begins without sessions.
const LENGTH: usize = 1_000;

/// How long to look for a disagreement.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The first sequence's seed; the others follow.
    pub seed: u64,
    /// Enough packets.
    pub packets: u64,
    /// Enough time.
    pub time: Duration,
}

/// A sequence over which they disagree.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Where, and what they differ over.
    pub disagreement: Disagreement,
    /// What is left of it.
    pub steps: Vec<Step>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Packets sent.
    pub packets: u64,
    /// How long that took.
    pub took: Duration,
    /// The first disagreement.
    pub failure: Option<Failure>,
}

/// Runs sequences; a failure is shrunk.
#[must_use]
pub fn fuzz(machine: &mut Machine, options: &Options) -> Report {
    let started = Instant::now();
    let (mut seed, before) = (options.seed, machine.packets);
    let mut failure = None;
    while failure.is_none() && machine.packets - before < options.packets && started.elapsed() < options.time
    {
        let steps = sequence(seed, LENGTH);
        failure = machine.run(&steps).err().map(|disagreement| Failure { seed, disagreement, steps });
        seed += 1;
    }
    let (packets, took) = (machine.packets - before, started.elapsed());
    if let Some(failure) = failure.as_mut() {
        failure.steps = shrink(machine, &failure.steps, failure.disagreement.step);
    }
    Report { packets, took, failure }
}

/// Runs `work` with the program of this hook, on a thread of its own.
///
/// # Panics
/// If `work` does.
pub fn on_hook<T: Send + 'static>(hook: Hook, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        hook.take();
        work()
    });
    thread.join().expect("the fuzzer's thread ends in good order")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HookName {
    Xdp,
    Tc,
}

/// Compare the data plane with a model of a NAT, packet by packet
#[derive(Parser)]
#[command(bin_name = "cargo xtask fuzz")]
struct Arguments {
    /// Packets at each hook
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    packets: u64,
    /// Begin with this sequence; the default is another one every second
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only this hook
    #[arg(long)]
    hook: Option<HookName>,
    /// Seconds at each hook at most
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Where a sequence that shows a disagreement is written
    #[arg(long, value_name = "DIRECTORY", default_value = "tests/regressions")]
    regressions: PathBuf,
}

/// The command: exit status 1 if there was a disagreement.
///
/// # Errors
/// If a regression cannot be written.
pub fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let options = Options {
        seed: arguments.seed.unwrap_or(today << 20),
        packets: arguments.packets,
        time: arguments.time.map_or(Duration::MAX, Duration::from_secs),
    };
    let mut disagreed = false;
    for (name, hook) in [(HookName::Xdp, Hook::Xdp), (HookName::Tc, Hook::Tc)] {
        if arguments.hook.is_some_and(|only| only != name) {
            continue;
        }
        let (report, reached) = on_hook(hook, move || {
            let mut machine = Machine::new(None);
            (fuzz(&mut machine, &options), machine.reached)
        });
        let rate = report.packets as f64 / report.took.as_secs_f64();
        let disagreements = u8::from(report.failure.is_some());
        println!(
            "{}: {} packets from seed {} in {:.1} s, {rate:.0} packets/s, {disagreements} disagreements",
            label(name),
            report.packets,
            options.seed,
            report.took.as_secs_f64()
        );
        let reached: Vec<_> = reached.iter().map(|(name, times)| format!("{name} {times}")).collect();
        println!("reached: {}", reached.join(", "));
        if let Some(failure) = report.failure {
            disagreed = true;
            let path = write(&arguments.regressions, label(name), &failure)?;
            println!("seed {}, step {}:", failure.seed, failure.disagreement.step);
            println!("{}", failure.disagreement.what);
            println!("what is left of it, in {}:\n{}", path.display(), print(&failure.steps));
        }
    }
    Ok(if disagreed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

const fn label(hook: HookName) -> &'static str {
    match hook {
        HookName::Xdp => "xdp",
        HookName::Tc => "tc",
    }
}

fn write(directory: &Path, hook: &str, failure: &Failure) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(format!("{hook}-{}.txt", failure.seed));
    let what = failure.disagreement.what.lines().next().unwrap_or_default();
    let text = format!("# Found at {hook}, seed {}: {what}\n{}", failure.seed, print(&failure.steps));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
