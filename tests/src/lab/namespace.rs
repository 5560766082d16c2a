//! One network namespace under /run/netns, removed when dropped.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, process};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where iproute2 keeps the named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// A named network namespace of this process.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates it, without any interface up.
    ///
    /// # Errors
    /// Without root, or when the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        ip_netns("add", name)?;
        Ok(Self { name: name.to_owned() })
    }

    /// Its file: opening it and `setns` enters it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// Kills whatever still runs in the namespace called `name`, then deletes it.
///
/// # Errors
/// When `ip netns` cannot delete it.
pub fn remove(name: &str) -> Result<()> {
    for pid in processes(&Path::new(DIRECTORY).join(name)) {
        // It may have ended meanwhile, which is what is wanted.
        let _ = kill(pid, Signal::SIGKILL);
    }
    ip_netns("del", name)
}

/// Moves the calling thread into the namespace of `file`.
///
/// # Errors
/// Without root.
pub fn enter(file: &File) -> nix::Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET)
}

/// The processes, other than this one, whose main thread is in the namespace at `path`.
fn processes(path: &Path) -> Vec<Pid> {
    let Ok(namespace) = fs::metadata(path) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| pid.unsigned_abs() != process::id())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|held| (held.dev(), held.ino()) == (namespace.dev(), namespace.ino()))
        })
        .map(Pid::from_raw)
        .collect()
}

fn ip_netns(verb: &str, name: &str) -> Result<()> {
    let output = Command::new("ip").args(["netns", verb, name]).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip; install iproute2")?;
    if !output.status.success() {
        bail!("ip netns {verb} {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
