//! Which ports the host uses itself: its sockets', and the range its clients get theirs from.

use std::{fs, path::Path};

use super::{
    HostError,
    sockets::{self, BoundPort},
};
use crate::ports::Ports;

/// The ports that the host uses itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    /// Where the kernel takes ports for the host's clients from (`net.ipv4.ip_local_port_range`).
    pub ephemeral: Ports,
    /// What the kernel leaves out of that (`net.ipv4.ip_local_reserved_ports`), for programs that bind them by number.
    pub reserved: Ports,
    /// Ports of sockets, sorted.
    pub bound: Vec<BoundPort>,
}

impl HostPorts {
    /// Asks the kernel, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`HostError::Sysctl`] if a setting cannot be read, [`HostError::Netlink`] if the sockets cannot be listed.
    pub fn read() -> Result<Self, HostError> {
        let range = setting("ip_local_port_range")?;
        let mut limits = range.split_whitespace().filter_map(|limit| limit.parse().ok());
        let ephemeral = limits.next().zip(limits.next()).map(|(first, last)| Ports::range(first, last));
        Ok(Self {
            ephemeral: ephemeral.unwrap_or_default(),
            reserved: setting("ip_local_reserved_ports")?.parse().unwrap_or_default(),
            bound: sockets::bound_ports()?,
        })
    }
}

fn setting(name: &str) -> Result<String, HostError> {
    let path = Path::new("/proc/sys/net/ipv4").join(name);
    fs::read_to_string(&path).map_err(|source| HostError::Sysctl { request: "read", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_a_range_for_its_clients() {
        assert!(!HostPorts::read().unwrap().ephemeral.is_empty());
    }
}
