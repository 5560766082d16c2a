//! A child process in a namespace: its lines as they come, a limit on its life, its end with ours.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;

use crate::lab::namespace;

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status; a killed process has none and fails.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// What a process is started with.
pub(super) struct SpawnOptions<'a> {
    /// Its standard input.
    pub input: &'a str,
    /// It is killed after this long.
    pub lifetime: Duration,
}

/// Which of its streams a process wrote a line to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The lines of a process, in the order they were read.
#[derive(Default)]
struct Transcript {
    lines: Mutex<Vec<(Stream, String)>>,
    grown: Condvar,
}

impl Transcript {
    fn lines(&self) -> MutexGuard<'_, Vec<(Stream, String)>> {
        // A panic elsewhere leaves whole lines behind: they stay readable.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self, stream: Stream) -> String {
        self.lines().iter().filter(|(from, _)| *from == stream).map(|(_, line)| format!("{line}\n")).collect()
    }
}

/// A running process; killed by its pid when dropped.
pub struct Process {
    child: Child,
    name: String,
    transcript: Arc<Transcript>,
    readers: Vec<JoinHandle<()>>,
    watchdog: Option<Sender<()>>,
}

impl Process {
    pub(super) fn spawn(namespace: &Path, command: &[&str], options: &SpawnOptions<'_>) -> Result<Self> {
        let (program, arguments) = command.split_first().context("an empty command")?;
        let file = File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
        let mut builder = Command::new(program);
        builder.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: the closure only makes system calls (setns, sigprocmask, prctl), which is allowed between fork and exec.
        unsafe {
            builder.pre_exec(move || {
                namespace::enter(&file)?;
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
                Ok(set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let mut child = builder.spawn().with_context(|| format!("cannot start {program}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read its input closes it early.
            let _ = stdin.write_all(options.input.as_bytes());
        }
        let transcript = Arc::new(Transcript::default());
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_lines(stdout, Stream::Out, &transcript));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_lines(stderr, Stream::Err, &transcript));
        }
        let watchdog = Some(watch(Pid::from_raw(child.id().cast_signed()), options.lifetime));
        Ok(Self { child, name: command.join(" "), transcript, readers, watchdog })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// How many lines it has written so far: a starting point for [`Process::wait_for_line`].
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.transcript.lines().len()
    }

    /// Waits for a line, not before number `from`, that `wanted` accepts.
    ///
    /// # Errors
    /// When the process ends or `limit` passes first; the message holds what it wrote.
    pub fn wait_for_line(
        &mut self,
        from: usize,
        limit: Duration,
        wanted: impl Fn(Stream, &str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait()?.is_some() && self.readers.iter().all(JoinHandle::is_finished);
            let lines = self.transcript.lines();
            let new = lines.get(from..).unwrap_or_default();
            if let Some((_, line)) = new.iter().find(|(stream, line)| wanted(*stream, line)) {
                return Ok(line.clone());
            }
            if ended || Instant::now() >= deadline {
                let written: String = new.iter().map(|(_, line)| format!("\n  {line}")).collect();
                let what = if ended { "ended" } else { "keeps silent" };
                bail!("{} {what}; it wrote:{written}", self.name);
            }
            // The end of the process is not signalled, so look again soon.
            drop(self.transcript.grown.wait_timeout(lines, Duration::from_millis(20)));
        }
    }

    /// Whether it ends within this time.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn has_ended_within(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(false)
    }

    /// Everything it wrote to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.transcript.text(Stream::Err)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When its lifetime passed and it was killed.
    pub fn wait(mut self) -> Result<Output> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        let overdue = self.watchdog.take().is_some_and(|watchdog| watchdog.send(()).is_err());
        if overdue && status.signal() == Some(Signal::SIGKILL as i32) {
            bail!("{} took too long and was killed", self.name);
        }
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing more to give.
            let _ = reader.join();
        }
        let (stdout, stderr) = (self.transcript.text(Stream::Out), self.transcript.text(Stream::Err));
        Ok(Output { status, stdout, stderr })
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.watchdog = None;
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn read_lines(
    from: impl Read + Send + 'static,
    stream: Stream,
    transcript: &Arc<Transcript>,
) -> JoinHandle<()> {
    let transcript = Arc::clone(transcript);
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            transcript.lines().push((stream, line));
            transcript.grown.notify_all();
            bytes.clear();
        }
    })
}

/// Kills `pid` after `lifetime`, unless the returned sender is dropped or sent to before.
fn watch(pid: Pid, lifetime: Duration) -> Sender<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        if receiver.recv_timeout(lifetime) == Err(RecvTimeoutError::Timeout) {
            // It may have ended by itself at this very moment.
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    sender
}
