//! The API of a running controller: HTTP/1.1 with JSON on a unix socket that only root may use.
//!
//! ```text
//! GET    /v1/elastic-ips                                 what `natgw eip list --json` prints
//! POST   /v1/elastic-ips             NewElasticIp        Changed
//! DELETE /v1/elastic-ips/{address}?drain=SECONDS|now     Changed
//! GET    /metrics                                        text for Prometheus
//! ```
//!
//! What is refused is answered with `{"error": "what is wrong; the remedy"}`: 400 for what cannot be understood, 404 for
//! what is not there, 409 for what would not fit what is, 500 for a failure, 503 while the controller ends.

mod client;
mod message;
mod metrics;
mod server;

use std::path::{Component, Path, PathBuf};

pub use client::{Client, ClientError};
pub use message::{Answer, Call, Changed, DrainTime, Kind, NoDrainTime, Refusal, Request};
pub use server::{Api, forget};

/// Where controllers' sockets are.
const DIRECTORY: &str = "/run/natgw";
/// Pin directories below it go by their path from here.
const BPFFS: &str = "/sys/fs/bpf";

/// The socket of the controller whose state is pinned in `pin_dir`: `/run/natgw/natgw.sock` for `/sys/fs/bpf/natgw`.
#[must_use]
pub fn socket(pin_dir: &Path) -> PathBuf {
    let pin_dir = pin_dir.canonicalize().unwrap_or_else(|_| pin_dir.to_owned());
    let below = pin_dir.strip_prefix(BPFFS).unwrap_or(&pin_dir);
    // A path from the root begins with a colon, and so differs from one below the BPF file system.
    let part = |component: Component<'_>| match component.as_os_str().to_string_lossy().as_ref() {
        "/" => String::new(),
        part => part.to_owned(),
    };
    let name = below.components().map(part).collect::<Vec<_>>().join(":");
    Path::new(DIRECTORY).join(format!("{name}.sock"))
}

#[cfg(test)]
mod tests;
