//! The kernel's forwarding switches.
//!
//! `bpf_fib_lookup` answers only for a device with forwarding on, but the interfaces that carry internal
//! packets must keep it off, so that the kernel never forwards one untranslated. natgw therefore asks on behalf
//! of the loopback device and switches forwarding on for that one alone: nothing enters the host through it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::net::if_::if_indextoname;

use super::HostError;

/// Lets the data plane look up routes on behalf of the loopback device; returns whether it had to be switched
/// on. Works on the network namespace of the calling thread.
///
/// Whoever writes `net.ipv4.ip_forward` resets every device, loopback included, so this is to be repeated.
///
/// # Errors
/// [`HostError::Sysctl`] without CAP_NET_ADMIN or where /proc/sys is read-only.
pub fn enable_fib_lookup() -> Result<bool, HostError> {
    let path = switch("lo");
    if is_on(&path)? {
        return Ok(false);
    }
    fs::write(&path, "1").map_err(|source| HostError::Sysctl { request: "set", path, source })?;
    Ok(true)
}

/// Undoes [`enable_fib_lookup`]; only for whoever switched it on.
///
/// # Errors
/// [`HostError::Sysctl`] without CAP_NET_ADMIN or where /proc/sys is read-only.
pub fn disable_fib_lookup() -> Result<(), HostError> {
    let path = switch("lo");
    fs::write(&path, "0").map_err(|source| HostError::Sysctl { request: "set", path, source })
}

/// Those of the interfaces `ifindexes` that the kernel itself forwards packets from. Interfaces that are gone
/// are left out.
///
/// # Errors
/// [`HostError::Sysctl`] if a switch cannot be read.
pub fn forwarding_interfaces(ifindexes: &[u32]) -> Result<Vec<u32>, HostError> {
    let mut forwarding = Vec::new();
    for &ifindex in ifindexes {
        let Some(name) = if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok()) else {
            continue;
        };
        if is_on(&switch(&name))? {
            forwarding.push(ifindex);
        }
    }
    Ok(forwarding)
}

fn switch(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

fn is_on(path: &Path) -> Result<bool, HostError> {
    match fs::read_to_string(path) {
        Ok(value) => Ok(value.trim() != "0"),
        Err(source) if source.kind() == io::ErrorKind::NotFound && path != switch("lo") => Ok(false),
        Err(source) => Err(HostError::Sysctl { request: "read", path: path.to_owned(), source }),
    }
}
