//! Control of the real `natgw`: start, reload, kill, restart, read, detach.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::host::Host;
use crate::lab::process::{Output, Process, Stream};
use crate::lab::settings::Settings;
use crate::lab::{Lab, Node, sweep};

/// How long the gateway may take to start or to reload.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// In force, with this generation.
    Accepted(u64),
    /// Refused, with this message.
    Refused(String),
}

/// A `natgw` with a pin directory of its own.
pub struct Natgw {
    host: Host,
    external: &'static str,
    binary: PathBuf,
    pins: PathBuf,
    config: PathBuf,
    flags: Vec<&'static str>,
    /// A command that calls it, in front of every call.
    caller: &'static [&'static str],
    controller: Option<Process>,
    generation: u64,
    attached: bool,
}

impl Natgw {
    /// Starts it with a configuration file and waits until it is ready.
    ///
    /// # Errors
    /// When there is no binary, or it does not become ready.
    pub fn start(lab: &Lab, settings: &Settings) -> Result<Self> {
        let mut gateway = Self::absent(lab)?;
        gateway.write(&settings.to_toml())?;
        gateway.restart()?;
        if settings.has_bursts(lab.plan()) {
            let bursts = &gateway.json(&["status"])?["bursts"];
            ensure!(bursts["on"] == true, "packets are not translated in bursts: {bursts}");
        }
        Ok(gateway)
    }

    /// Starts it with command-line flags instead of a file.
    ///
    /// # Errors
    /// As for [`Natgw::start`].
    pub fn start_with_flags(lab: &Lab, settings: &Settings) -> Result<Self> {
        let mut gateway = Self::absent(lab)?;
        let flags = settings.to_flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        gateway.launch(&flags)?;
        Ok(gateway)
    }

    /// Everything but a running gateway: for what has to fail.
    ///
    /// # Errors
    /// When there is no binary or no bpffs.
    pub fn absent(lab: &Lab) -> Result<Self> {
        let config = lab.directory().join("natgw.toml");
        let mut gateway = Self::at(lab.host(Node::Gateway), lab.plan().external(), lab.id(), config)?;
        gateway.flags = lab.plan().hook.flags().to_vec();
        Ok(gateway)
    }

    /// Everything but a running gateway, in any namespace; `id` names its pin directory.
    ///
    /// # Errors
    /// When there is no binary or no bpffs.
    pub(crate) fn at(host: Host, external: &'static str, id: &str, config: PathBuf) -> Result<Self> {
        mount_bpffs()?;
        Ok(Self {
            host,
            external,
            binary: binary()?,
            pins: Path::new(sweep::BPFFS).join(id),
            config,
            flags: Vec::new(),
            caller: &[],
            controller: None,
            generation: 0,
            attached: false,
        })
    }

    /// From now on it has no more than the privileges that it says it needs, though it is root.
    pub fn take_privileges(&mut self) {
        self.caller =
            &["setpriv", "--bounding-set=-all,+net_admin,+net_raw,+bpf,+perfmon", "--inh-caps=-all"];
    }

    /// The generation last announced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The pin directory.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The socket of the API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let id = self.pins.file_name().unwrap_or_default().to_string_lossy();
        Path::new(sweep::SOCKETS).join(format!("{id}.sock"))
    }

    /// Replaces the configuration file, without a reload.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.config, text).with_context(|| format!("cannot write {}", self.config.display()))
    }

    /// Starts a controller on the same configuration and pins and waits until it is ready; an older one goes on.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self) -> Result<Option<Process>> {
        let config = self.config.to_string_lossy().into_owned();
        self.launch(&["--config", &config])
    }

    /// Like [`Natgw::restart`], from now on with these flags besides.
    ///
    /// # Errors
    /// As for [`Natgw::restart`].
    pub fn restart_with(&mut self, flags: &[&'static str]) -> Result<Option<Process>> {
        self.flags = flags.to_vec();
        self.restart()
    }

    fn launch(&mut self, arguments: &[&str]) -> Result<Option<Process>> {
        let (binary, pins) = (self.binary.to_string_lossy(), self.pins.to_string_lossy());
        let run = [binary.as_ref(), "--pin-dir", pins.as_ref(), "run"];
        let command = [self.caller, &run, arguments, &self.flags].concat();
        let mut controller = self.host.spawn(&command)?;
        self.attached = true;
        let ready = controller.wait_for_line(0, PATIENCE, |stream, line| {
            stream == Stream::Out && line.starts_with("ready generation=")
        })?;
        self.generation = number_after(&ready, "generation=")?;
        Ok(self.controller.replace(controller))
    }

    /// The process id of the controller.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.controller.as_ref().map(Process::pid)
    }

    /// What the controller has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.controller.as_ref().map_or_else(String::new, Process::stderr)
    }

    /// Writes the configuration, sends SIGHUP and waits for the answer.
    ///
    /// # Errors
    /// When no controller runs or it gives no answer.
    pub fn reload(&mut self, settings: &Settings) -> Result<Reload> {
        self.reload_text(&settings.to_toml())
    }

    /// Like [`Natgw::reload`], with any text.
    ///
    /// # Errors
    /// As for [`Natgw::reload`].
    pub fn reload_text(&mut self, text: &str) -> Result<Reload> {
        self.write(text)?;
        let controller = self.controller.as_mut().context("no controller to reload")?;
        let from = controller.line_count();
        controller.signal(Signal::SIGHUP)?;
        let answer = controller.wait_for_line(from, PATIENCE, |stream, line| match stream {
            Stream::Out => line.starts_with("reloaded generation="),
            Stream::Err => line.contains("reload refused: "),
        })?;
        if let Some((_, message)) = answer.split_once("reload refused: ") {
            return Ok(Reload::Refused(message.to_owned()));
        }
        self.generation = number_after(&answer, "generation=")?;
        Ok(Reload::Accepted(self.generation))
    }

    /// Kills the controller with SIGKILL; the data plane stays.
    pub fn kill9(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.kill();
        }
    }

    /// Asks the controller to end with SIGTERM and waits for it.
    ///
    /// # Errors
    /// When none runs.
    pub fn terminate(&mut self) -> Result<Output> {
        let controller = self.controller.take().context("no controller to end")?;
        controller.signal(Signal::SIGTERM)?;
        controller.wait()
    }

    /// Runs a verb of the command line to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot start or hangs.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let (binary, pins) = (self.binary.to_string_lossy(), self.pins.to_string_lossy());
        self.host.try_run(&[self.caller, &[binary.as_ref(), "--pin-dir", pins.as_ref()], arguments].concat())
    }

    /// Runs a listing verb with `--json` and parses what it prints.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli(&[arguments, &["--json"]].concat())?;
        if !output.success() {
            bail!("natgw {} failed ({}): {}", arguments.join(" "), output.status, output.stderr.trim());
        }
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("natgw {}: no JSON", arguments.join(" ")))
    }

    /// The sessions, as `natgw flows` tells them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn flows(&self) -> Result<Vec<Value>> {
        self.json(&["flows"])?.as_array().cloned().context("natgw flows: no array")
    }

    /// The number of sessions, as `natgw status` tells it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sessions(&self) -> Result<u64> {
        self.json(&["status"])?["sessions"].as_u64().context("natgw status: no number of sessions")
    }

    /// How many packets were refused for `reason`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        let drops = self.json(&["drops", "--all"])?;
        let rows = drops.as_array().context("natgw drops: no array")?;
        let row = rows.iter().find(|row| row["reason"] == reason);
        row.and_then(|row| row["packets"].as_u64())
            .with_context(|| format!("natgw drops: no reason {reason}"))
    }

    /// Takes the gateway off and looks for leftovers.
    ///
    /// # Errors
    /// When `natgw detach` fails or pins, programs or the Elastic IP remain.
    pub fn detach(mut self) -> Result<()> {
        self.take_off()?;
        self.assert_nothing_attached()
    }

    /// Fails when pins, an XDP program or the Elastic IP are in place.
    ///
    /// # Errors
    /// Names the first leftover.
    pub fn assert_nothing_attached(&self) -> Result<()> {
        if fs::exists(&self.pins)? {
            bail!("pins remain in {}", self.pins.display());
        }
        if fs::exists(self.socket())? {
            bail!("the API's socket remains at {}", self.socket().display());
        }
        let links = self.host.run(&["ip", "-d", "link", "show"])?.stdout;
        if links.contains("xdp") {
            bail!("an XDP program is attached:\n{links}");
        }
        let addresses = self.host.run(&["ip", "-4", "addr", "show", "dev", self.external])?.stdout;
        if addresses.contains("inet 203.0.113.") {
            bail!("an Elastic IP is on {}:\n{addresses}", self.external);
        }
        Ok(())
    }

    fn take_off(&mut self) -> Result<()> {
        self.attached = false;
        if self.controller.is_some() {
            self.terminate()?;
        }
        let output = self.cli(&["detach"])?;
        if !output.success() {
            bail!("natgw detach failed ({}): {}", output.status, output.stderr.trim());
        }
        Ok(())
    }
}

impl Drop for Natgw {
    fn drop(&mut self) {
        if !self.attached {
            return;
        }
        if let Some(controller) = &self.controller {
            // Only a scenario that failed comes here without a detach: its log tells why.
            let _ = fs::write(self.config.with_extension("log"), controller.stderr());
        }
        self.kill9();
        // One that was refused its configuration has left nothing.
        if self.pins.exists()
            && let Err(error) = self.take_off()
        {
            eprintln!("{error:#}");
        }
        // bpffs allows removing files one by one, which is what remove_dir_all does; usually there is nothing left.
        let _ = fs::remove_dir_all(&self.pins);
    }
}

/// The binary under test: `NATGW_BIN`, or `natgw` in the target directory of this executable.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("NATGW_BIN") {
        return fs::canonicalize(&path).with_context(|| format!("NATGW_BIN: no file {}", path.display()));
    }
    let executable = env::current_exe().context("cannot tell where this executable is")?;
    let beside = executable.ancestors().skip(1).take(2).map(|directory| directory.join("natgw"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .context("no natgw in the target directory; run `cargo build -p nat-userspace` or set NATGW_BIN")
}

fn mount_bpffs() -> Result<()> {
    if statfs(sweep::BPFFS).is_ok_and(|held| held.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    mount(Some("bpf"), sweep::BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .context("cannot mount bpffs")
}

fn number_after(line: &str, label: &str) -> Result<u64> {
    let (_, rest) = line.split_once(label).with_context(|| format!("no {label} in {line:?}"))?;
    rest.trim().parse().with_context(|| format!("no number after {label} in {line:?}"))
}
