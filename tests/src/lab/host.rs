//! A handle on one node: run commands there, or closures.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::namespace;
use crate::lab::process::{Output, Process, SpawnOptions};

/// How long a command may take unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a spawned process may live unless told otherwise.
const LIFETIME: Duration = Duration::from_secs(180);

/// A node of the lab, by its namespace; cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: PathBuf,
}

impl Host {
    pub(crate) fn new(namespace: PathBuf) -> Self {
        Self { namespace }
    }

    /// The namespace's file.
    #[must_use]
    pub fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// Runs a command to its end and expects success.
    ///
    /// # Errors
    /// When it cannot start, fails, or takes more than 30 seconds.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        self.run_with_input(command, "")
    }

    /// Like [`Host::run`], with `input` on the command's standard input.
    ///
    /// # Errors
    /// As for [`Host::run`].
    pub fn run_with_input(&self, command: &[&str], input: &str) -> Result<Output> {
        let output = self.finish(command, input, PATIENCE)?;
        if !output.success() {
            bail!("{} failed ({}): {}", command.join(" "), output.status, output.stderr.trim());
        }
        Ok(output)
    }

    /// Runs a command to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot start or takes more than 30 seconds.
    pub fn try_run(&self, command: &[&str]) -> Result<Output> {
        self.finish(command, "", PATIENCE)
    }

    /// Like [`Host::try_run`], with another limit.
    ///
    /// # Errors
    /// When it cannot start or takes longer than `limit`.
    pub fn try_run_within(&self, command: &[&str], limit: Duration) -> Result<Output> {
        self.finish(command, "", limit)
    }

    /// Starts a command that lives until it is dropped, or for three minutes at most.
    ///
    /// The calling thread must outlive the process: the kernel kills it when that thread ends.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(&self, command: &[&str]) -> Result<Process> {
        Process::spawn(self.namespace(), command, &SpawnOptions { input: "", lifetime: LIFETIME })
    }

    /// Runs a closure in this namespace, on a thread of its own.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let namespace = self.namespace.clone();
        thread::spawn(move || {
            let file = File::open(&namespace);
            let file = file.with_context(|| format!("cannot open {}", namespace.display()))?;
            namespace::enter(&file).with_context(|| format!("cannot enter {}", namespace.display()))?;
            Ok(work())
        })
    }

    /// Runs a closure in this namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// Those of the closure, or when the namespace cannot be entered.
    ///
    /// # Panics
    /// When the closure does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let thread = || {
            let file = File::open(&self.namespace);
            let file = file.with_context(|| format!("cannot open {}", self.namespace.display()))?;
            namespace::enter(&file).with_context(|| format!("cannot enter {}", self.namespace.display()))?;
            work()
        };
        match thread::scope(|scope| scope.spawn(thread).join()) {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn finish(&self, command: &[&str], input: &str, limit: Duration) -> Result<Output> {
        Process::spawn(self.namespace(), command, &SpawnOptions { input, lifetime: limit })?.wait()
    }
}
