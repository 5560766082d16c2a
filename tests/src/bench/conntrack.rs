//! The kernel's connection tracking: room for as many sessions as are measured, and an empty table afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::lab::host::Host;

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// Limits of the host's connection tracking, put back when dropped.
#[derive(Default)]
pub struct Limits {
    before: BTreeMap<&'static str, String>,
}

impl Limits {
    /// Makes room for `sessions`, with a bucket for each, as an administrator would for that load.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn raise(&mut self, sessions: u32) -> Result<()> {
        for file in [MAX, BUCKETS] {
            let before = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            if before.trim().parse::<u32>().is_ok_and(|before| before >= sessions) {
                continue;
            }
            fs::write(file, sessions.to_string()).with_context(|| format!("cannot write {file}"))?;
            self.before.entry(file).or_insert(before);
        }
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for (file, value) in &self.before {
            // What was there before cannot be refused.
            let _ = fs::write(file, value.trim());
        }
    }
}

/// Lets idle UDP sessions of `host` live as long as any measurement.
///
/// # Errors
/// When the kernel refuses.
pub fn extend_timeouts(host: &Host) -> Result<()> {
    host.within(|| {
        for name in ["udp_timeout", "udp_timeout_stream"] {
            let file = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
            fs::write(&file, "3600").with_context(|| format!("cannot write {file}"))?;
        }
        Ok(())
    })
}

/// Empties the table of `host` now, so that its removal disturbs no measurement.
///
/// # Errors
/// When the kernel refuses.
pub fn flush(host: &Host) -> Result<()> {
    host.within(|| {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        send(socket.as_raw_fd(), &DELETE_ALL, MsgFlags::empty())?;
        let mut answer = [0; 64];
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        anyhow::ensure!(error == 0, "connection tracking is not emptied: error {error}");
        Ok(())
    })
}

/// A netlink message: `IPCTNL_MSG_CT_DELETE` (type 0x0102, request with acknowledgement) without a tuple.
const DELETE_ALL: [u8; 20] = {
    let [a, b, c, d] = 20_u32.to_ne_bytes();
    let [e, f] = 0x0102_u16.to_ne_bytes();
    let [g, h] = 5_u16.to_ne_bytes();
    [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
};
