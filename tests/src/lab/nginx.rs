//! A real web server on an outside server, with its access log.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::process::Process;
use crate::lab::{Lab, Node};

/// What its front page says.
pub const PAGE: &str = "hello from the outside\n";

/// A running nginx; it ends when dropped.
pub struct Nginx {
    directory: PathBuf,
    _process: Process,
}

impl Nginx {
    /// Starts it on port 80 of `node`, whose address is `address`, and waits until it accepts connections.
    ///
    /// # Errors
    /// When nginx is not installed or does not come up.
    pub fn start(lab: &Lab, node: Node, address: Ipv4Addr) -> Result<Self> {
        let directory = lab.directory().join(format!("nginx-{}", node.name()));
        fs::create_dir_all(directory.join("www"))?;
        fs::write(directory.join("www/index.html"), PAGE)?;
        let config = directory.join("nginx.conf");
        fs::write(&config, configuration(&directory.to_string_lossy(), address))?;
        let host = lab.host(node);
        let process = host.spawn(&["nginx", "-e", "stderr", "-c", &config.to_string_lossy()])?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let page = format!("http://{address}/");
        while !host.try_run(&["curl", "-s", "-m1", "-o", "/dev/null", &page])?.success() {
            if Instant::now() > deadline {
                bail!("nginx does not come up: {}", process.stderr().trim());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { directory, _process: process })
    }

    /// Adds a file of `bytes` random bytes to what it serves and returns its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_random_file(&self, lab: &Lab, name: &str, bytes: u64) -> Result<String> {
        let path = self.directory.join("www").join(name);
        let path = path.to_string_lossy();
        let host = lab.host(Node::S1);
        host.run(&["sh", "-c", &format!("head -c {bytes} /dev/urandom > {path}")])?;
        first_word(&host.run(&["sha256sum", &path])?.stdout)
    }

    /// The client addresses of its access log, in order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn clients(&self) -> Result<Vec<String>> {
        let log = self.directory.join("access.log");
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The first word of a command's output, as `sha256sum` prints its result.
///
/// # Errors
/// When there is none.
pub fn first_word(text: &str) -> Result<String> {
    text.split_whitespace().next().map(str::to_owned).context("no output")
}

/// One process in the foreground, all files in `directory`.
fn configuration(directory: &str, address: Ipv4Addr) -> String {
    format!(
        "daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;
         events {{ worker_connections 256; }}
         http {{
           log_format client '$remote_addr';
           access_log {directory}/access.log client;
           client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
           fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
           server {{ listen {address}:80; root {directory}/www; }}
         }}
        "
    )
}
