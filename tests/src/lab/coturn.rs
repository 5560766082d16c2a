//! A real STUN server with two addresses, and the probe that asks it how a NAT behaves (RFC 5780).

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::process::Process;
use crate::lab::{Lab, Node, S1};

/// The server's second address, beside [`S1`].
pub const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// How long one probe may take: three retransmissions where nothing comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `turnserver` on [`Node::S1`]; it ends when dropped.
pub struct Coturn {
    _process: Process,
}

impl Coturn {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When coturn is not installed or does not come up.
    pub fn start(lab: &Lab) -> Result<Self> {
        let host = lab.host(Node::S1);
        host.run(&["ip", "address", "add", &format!("{SECOND}/24"), "dev", "eth0"])?;
        let (first, second) = (S1.to_string(), SECOND.to_string());
        let pid = lab.directory().join("turnserver.pid").to_string_lossy().into_owned();
        let command = [
            "turnserver",
            "-n",
            "--no-auth",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--log-file",
            "stdout",
            "--pidfile",
            &pid,
            "-L",
            &first,
            "-L",
            &second,
        ];
        let process = host.spawn(&command)?;
        let last = format!("{SECOND}:3479");
        for _ in 0..100 {
            if host.run(&["ss", "-lunH"])?.stdout.contains(&last) {
                return Ok(Self { _process: process });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("turnserver does not come up: {}", process.stderr().trim())
    }
}

/// What `turnutils_natdiscovery` says on [`Node::H1`], asked with these flags.
///
/// # Errors
/// When it cannot be run.
pub fn discover(lab: &Lab, flags: &[&str]) -> Result<String> {
    let server = S1.to_string();
    let command = [&["timeout", "50", "turnutils_natdiscovery"], flags, &[&server]].concat();
    let output = lab.host(Node::H1).try_run_within(&command, PATIENCE).context("no natdiscovery")?;
    Ok(format!("{}{}", output.stdout, output.stderr))
}
