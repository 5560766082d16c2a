//! The data plane on single packets: verdict, bytes, counters, drop reasons and sessions. The files are named after
//! the data plane's own; a test's name is what it shows.

mod age;
mod allocate;
mod flow;
mod forward;
mod icmp;
mod interface;
mod invariants;
mod nacl;
mod options;
mod parse;
mod random;
mod reply;
mod route;
mod traffic;
mod translate;

use std::{env, panic, process::ExitCode, thread};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::Uid;

fn main() -> ExitCode {
    let obstacle = (!Uid::effective().is_root()).then_some("run them as root");
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    if let (Some(reason), false) = (obstacle, in_ci) {
        eprintln!("the data-plane tests are ignored: {reason}");
    }
    let trials = [
        age::trials(),
        allocate::trials(),
        flow::trials(),
        forward::trials(),
        icmp::trials(),
        interface::trials(),
        invariants::trials(),
        nacl::trials(),
        options::trials(),
        parse::trials(),
        reply::trials(),
        route::trials(),
        translate::trials(),
    ];
    let trials = trials.into_iter().flatten().map(|(name, test)| match obstacle {
        None => Trial::test(name, move || in_own_thread(test)),
        Some(reason) => Trial::test(name, move || Err(Failed::from(reason))).with_ignored_flag(!in_ci),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Every test enters a network namespace of its own, which ends with its thread.
fn in_own_thread(test: fn()) -> Result<(), Failed> {
    match thread::spawn(test).join() {
        Ok(()) => Ok(()),
        Err(cause) => panic::resume_unwind(cause),
    }
}

/// A test's name, a sentence of behaviour, and what it does; it fails by panicking.
type Test = (&'static str, fn());

/// Lists tests by the names of their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<crate::Test> {
            vec![$((stringify!($name), $name as fn())),+]
        }
    };
}
pub(crate) use tests;
