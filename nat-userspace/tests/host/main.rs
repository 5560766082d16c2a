//! The host module against a real kernel: every test in network namespaces of its own.

mod bpffs;
mod elastic_ip;
mod facts;
mod forwarding;
mod lab;
mod neighbour;
mod refusal;
mod watch;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use nat_userspace::host::preflight::KernelVersion;

fn main() -> ExitCode {
    let tests = [
        bpffs::trials(),
        elastic_ip::trials(),
        facts::trials(),
        forwarding::trials(),
        neighbour::trials(),
        refusal::trials(),
        watch::trials(),
    ];
    let obstacle = lab::obstacle();
    if let Some(reason) = &obstacle {
        eprintln!("the tests of the host module cannot run: {reason}");
    }
    let trials = tests.into_iter().flatten().map(|test| test.into_trial(obstacle.clone())).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One trial; it fails by panicking.
struct Test {
    /// A sentence of behaviour.
    name: &'static str,
    run: fn(),
    /// The first kernel that can do what is tested.
    since: KernelVersion,
}

impl Test {
    /// Without privilege the trial is ignored, in CI it fails; on a kernel too old for it, it is ignored.
    fn into_trial(self, obstacle: Option<String>) -> Trial {
        let Self { name, run, since } = self;
        if let Some(reason) = obstacle {
            let in_ci = env::var("CI").is_ok_and(|value| value == "true");
            return Trial::test(name, || Err(Failed::from(reason))).with_ignored_flag(!in_ci);
        }
        let too_old = lab::kernel() < since;
        if too_old {
            eprintln!("{name} is ignored: it needs kernel {since} or newer");
        }
        let passes_unless_it_panics = move || {
            run();
            Ok(())
        };
        Trial::test(name, passes_unless_it_panics).with_ignored_flag(too_old)
    }
}

/// Lists tests by the names of their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        vec![$($crate::Test {
            name: stringify!($name),
            run: $name,
            since: nat_userspace::host::preflight::OLDEST_KERNEL,
        }),+]
    };
}
pub(crate) use tests;
