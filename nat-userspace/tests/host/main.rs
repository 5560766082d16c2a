//! The host module against real kernels: every test in network namespaces of its own.

mod bpffs;
mod elastic_ip;
mod facts;
mod forwarding;
mod lab;
mod neighbour;
mod watch;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let obstacle = lab::obstacle();
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    if let (Some(reason), false) = (&obstacle, in_ci) {
        eprintln!("the tests of the host module are ignored: {reason}");
    }
    let trials = [
        bpffs::trials(),
        elastic_ip::trials(),
        facts::trials(),
        forwarding::trials(),
        neighbour::trials(),
        watch::trials(),
    ];
    let trials = trials.into_iter().flatten().map(|(name, test)| match obstacle.clone() {
        None => Trial::test(name, move || {
            test();
            Ok(())
        }),
        Some(reason) => Trial::test(name, || Err(Failed::from(reason))).with_ignored_flag(!in_ci),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A test's name, a sentence of behaviour, and what it does; it fails by panicking.
type Test = (&'static str, fn());

/// Lists tests by the names of their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => { vec![$((stringify!($name), $name as fn())),+] };
}
pub(crate) use tests;
