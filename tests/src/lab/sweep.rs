//! Removes what labs leave behind: those of dead processes at the start, our own on SIGINT and SIGTERM.

use std::path::Path;
use std::process;
use std::sync::Once;
use std::thread;
use std::{env, fs};

use nix::sys::signal::{SigSet, Signal};

use crate::lab::namespace;

/// What the name of every namespace and pin directory of a lab begins with; the pid follows.
pub const PREFIX: &str = "lab-";

/// The same of the benchmark's.
pub const BENCH_PREFIX: &str = "be-";

/// What the name of a running lab's directory, in the directory for temporary files, has before that.
pub const DIRECTORY_PREFIX: &str = "natgw-";

/// Where the gateways of the labs pin their programs and maps.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Where the gateways of the labs serve their API.
pub const SOCKETS: &str = "/run/natgw";

/// Once per process: removes what dead labs left, and makes SIGINT and SIGTERM remove what is ours.
///
/// Call it before any other thread starts: threads inherit the signal mask. [`crate::lab::Lab::new`] calls it too.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sweep(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        if signals.thread_block().is_ok() {
            thread::spawn(move || {
                if let Ok(signal) = signals.wait() {
                    sweep(|pid| pid == process::id());
                    process::exit(128 + signal as i32);
                }
            });
        }
    });
}

/// Removes the namespaces, pins, sockets and temporary files of every lab whose pid satisfies `of`.
fn sweep(of: impl Fn(u32) -> bool) {
    for name in names_in(Path::new(namespace::DIRECTORY), "", &of) {
        if let Err(error) = namespace::remove(&name) {
            eprintln!("namespace {name} is left behind: {error:#}");
        }
    }
    for (directory, prefix) in [(Path::new(BPFFS), ""), (&env::temp_dir(), DIRECTORY_PREFIX)] {
        for name in names_in(directory, prefix, &of) {
            // It works on bpffs too, because it removes file by file; what cannot go now is tried again next time.
            let _ = fs::remove_dir_all(directory.join(name));
        }
    }
    for name in names_in(Path::new(SOCKETS), "", &of) {
        let _ = fs::remove_file(Path::new(SOCKETS).join(name));
    }
}

/// The entries of `directory`, named with `prefix`, that belong to labs whose pid satisfies `of`.
fn names_in(directory: &Path, prefix: &str, of: impl Fn(u32) -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.strip_prefix(prefix).and_then(owner).is_some_and(&of)).collect()
}

/// The pid in `lab-<pid>-…` or `be-<pid>-…`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX).or_else(|| name.strip_prefix(BENCH_PREFIX))?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("lab-4711-0-gw"), Some(4711));
        assert_eq!(owner("be-4711-0-gw"), Some(4711));
        assert_eq!(owner("lab-4711-0.sock"), Some(4711));
        assert_eq!(owner("lab-x4711-0-gw"), None);
        assert_eq!(owner("natgw"), None);
    }
}
