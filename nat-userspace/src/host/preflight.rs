//! What `natgw run` needs of the host before it touches anything.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    mount::{MsFlags, mount},
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        utsname::uname,
    },
    unistd::{AccessFlags, faccessat},
};

use super::HostFacts;

/// The oldest kernel natgw runs on: the first with XDP programs for frames in several buffers, and `bpf_xdp_load_bytes`
/// (5.18); `bpf_loop`, `bpf_for_each_map_elem` and `bpf_ktime_get_coarse_ns`, which the data plane needs too, are older.
/// TCX (6.6) is not needed: TC falls back to the clsact qdisc.
pub const OLDEST_KERNEL: KernelVersion = KernelVersion { major: 5, minor: 18 };

/// The smallest privileges natgw runs with, on a BPF file system that is mounted already.
const NEEDED: [Capability; 4] =
    [Capability::NetAdmin, Capability::NetRaw, Capability::Bpf, Capability::Perfmon];

/// Where the BPF file system is by convention.
const BPFFS: &str = "/sys/fs/bpf";

/// Why natgw cannot run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// The kernel lacks what the data plane calls.
    #[error(
        "kernel {0} is too old: natgw needs {OLDEST_KERNEL} or newer, for bpf_xdp_load_bytes; upgrade the kernel"
    )]
    KernelTooOld(KernelVersion),
    /// The kernel's release does not begin with a version.
    #[error(
        "cannot tell the kernel's version from its release \"{0}\"; natgw needs {OLDEST_KERNEL} or newer"
    )]
    UnknownKernel(String),
    /// The process may not do what natgw does.
    #[error(
        "natgw lacks {missing}; run it with sudo, or give it all it needs: \
         `setcap {grant}=ep $(command -v natgw)`, or in a systemd unit `AmbientCapabilities={ambient}`",
        missing = names(.0, ", "),
        grant = names(&NEEDED, ",").to_lowercase(),
        ambient = names(&NEEDED, " ")
    )]
    MissingCapabilities(Vec<Capability>),
    /// The process's capabilities could not be read.
    #[error("cannot read natgw's capabilities from /proc/self/status: {0}; is /proc mounted?")]
    UnknownCapabilities(#[source] io::Error),
    /// Pinning needs a BPF file system, and this place is not natgw's to mount one.
    #[error(
        "pin directory {} is not on a bpf file system; choose one below {BPFFS}, or run \
         `mount -t bpf bpf DIR` for a directory above it", .0.display()
    )]
    NotOnBpffs(PathBuf),
    /// Pins could not be made there.
    #[error("no right to write in {}; run natgw as root, or choose a --pin-dir that is yours", .0.display())]
    NotWritable(PathBuf),
    /// The BPF file system could not be looked at or mounted.
    #[error("cannot {action} {}: {source}; run `mount -t bpf bpf {BPFFS}` as root", path.display())]
    Bpffs {
        /// What failed, as in "mount a bpf file system at".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The configuration names interfaces that this host has not.
    #[error(
        "{} {} not exist; this host has {}",
        if .missing.len() == 1 { format!("interface {}", .missing[0]) }
        else { format!("interfaces {}", .missing.join(", ")) },
        if .missing.len() == 1 { "does" } else { "do" },
        .existing.join(", ")
    )]
    MissingInterfaces {
        /// The names without an interface.
        missing: Vec<String>,
        /// The names there are.
        existing: Vec<String>,
    },
}

/// Checks the kernel and the privileges, and mounts the BPF file system for `pin_dir` if it is absent.
///
/// # Errors
/// The first [`PreflightError`] that stands in the way.
pub fn check(pin_dir: &Path) -> Result<(), PreflightError> {
    check_kernel()?;
    check_capabilities()?;
    ensure_bpffs(pin_dir)
}

/// The part of a kernel's release that tells its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 5 of 5.15.
    pub major: u32,
    /// The 15 of 5.15.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the version that a kernel's release such as `6.1.0-28-amd64` begins with.
    #[must_use]
    pub fn from_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Refuses kernels before [`OLDEST_KERNEL`].
///
/// # Errors
/// [`PreflightError::KernelTooOld`], or [`PreflightError::UnknownKernel`] if it tells no version.
pub fn check_kernel() -> Result<(), PreflightError> {
    require_kernel(kernel()?)
}

fn require_kernel(version: KernelVersion) -> Result<(), PreflightError> {
    if version >= OLDEST_KERNEL { Ok(()) } else { Err(PreflightError::KernelTooOld(version)) }
}

/// The version of the kernel that runs.
///
/// # Errors
/// [`PreflightError::UnknownKernel`] if it tells none.
pub fn kernel() -> Result<KernelVersion, PreflightError> {
    let release = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    KernelVersion::from_release(&release).ok_or(PreflightError::UnknownKernel(release))
}

/// A privilege natgw uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Attach programs, change addresses, neighbours and network settings.
    NetAdmin = 12,
    /// Send gratuitous ARP.
    NetRaw = 13,
    /// Stands for [`Bpf`](Self::Bpf) and [`Perfmon`](Self::Perfmon); mount the BPF file system.
    SysAdmin = 21,
    /// Have the verifier accept pointer arithmetic as it stands, without masking it against speculation.
    Perfmon = 38,
    /// Load programs and create maps.
    Bpf = 39,
}

impl Capability {
    fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    fn is_in(self, effective: u64) -> bool {
        effective & (1 << self as u8) != 0
    }
}

/// Refuses a process without the capabilities natgw uses. Root has them, except in most containers.
///
/// # Errors
/// [`PreflightError::MissingCapabilities`], or [`PreflightError::UnknownCapabilities`] without a /proc.
pub fn check_capabilities() -> Result<(), PreflightError> {
    let status = fs::read_to_string("/proc/self/status").map_err(PreflightError::UnknownCapabilities)?;
    let effective = effective_capabilities(&status)
        .ok_or_else(|| PreflightError::UnknownCapabilities(io::Error::other("there is no line CapEff")))?;
    let missing = missing_capabilities(effective);
    if missing.is_empty() { Ok(()) } else { Err(PreflightError::MissingCapabilities(missing)) }
}

/// The effective capabilities in the text of a process's `status` file, one bit each.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_capabilities(effective: u64) -> Vec<Capability> {
    let mut missing = NEEDED.to_vec();
    missing.retain(|&capability| {
        let implied = matches!(capability, Capability::Bpf | Capability::Perfmon)
            && Capability::SysAdmin.is_in(effective);
        !capability.is_in(effective) && !implied
    });
    missing
}

fn names(capabilities: &[Capability], separator: &str) -> String {
    capabilities.iter().map(|capability| capability.name()).collect::<Vec<_>>().join(separator)
}

/// Makes sure that `pin_dir` is, or can be created, on a BPF file system: mounts it at `/sys/fs/bpf` if that is
/// where it is missing.
///
/// # Errors
/// [`PreflightError::NotOnBpffs`] for a directory elsewhere, [`PreflightError::Bpffs`] if mounting fails,
/// [`PreflightError::NotWritable`] where natgw may not write: systemd keeps `/sys/fs/bpf` to root.
pub fn ensure_bpffs(pin_dir: &Path) -> Result<(), PreflightError> {
    let path = std::path::absolute(pin_dir).unwrap_or_else(|_| pin_dir.to_owned());
    if is_on_bpffs(&path)? {
        let existing = nearest_existing(&path);
        let writable = AccessFlags::W_OK | AccessFlags::X_OK;
        return faccessat(AT_FDCWD, existing, writable, AtFlags::AT_EACCESS)
            .map_err(|_| PreflightError::NotWritable(existing.to_owned()));
    }
    if !path.starts_with(BPFFS) {
        return Err(PreflightError::NotOnBpffs(path));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700")).map_err(|errno| PreflightError::Bpffs {
        action: "mount a bpf file system at",
        path: BPFFS.into(),
        source: errno.into(),
    })
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

/// Whether the nearest existing directory at or above `path` is on a BPF file system.
fn is_on_bpffs(path: &Path) -> Result<bool, PreflightError> {
    let existing = nearest_existing(path);
    let system = statfs(existing).map_err(|errno| PreflightError::Bpffs {
        action: "look at",
        path: existing.to_owned(),
        source: errno.into(),
    })?;
    Ok(system.filesystem_type() == BPF_FS_MAGIC)
}

/// Refuses `names` that are no interfaces of the host.
///
/// # Errors
/// [`PreflightError::MissingInterfaces`], with the names there are.
pub fn require_interfaces<'a>(
    facts: &HostFacts,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), PreflightError> {
    let mut missing: Vec<String> = Vec::new();
    for name in names {
        if facts.interface(name).is_none() && !missing.iter().any(|known| known == name) {
            missing.push(name.to_owned());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let existing = facts.interfaces.iter().map(|interface| interface.name.clone()).collect();
    Err(PreflightError::MissingInterfaces { missing, existing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostInterface;

    const STATUS: &str = "Name:\tnatgw\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000003000\nSeccomp:\t0\n";

    #[test]
    fn releases_of_distributions_tell_their_version() {
        let versions = ["5.15.0-130-generic", "6.1.0-28-amd64", "6.18-rc1", "5.10.223", "7.2"]
            .map(|release| KernelVersion::from_release(release).map(|version| version.to_string()));
        assert_eq!(versions, ["5.15", "6.1", "6.18", "5.10", "7.2"].map(|version| Some(version.to_owned())));
        assert_eq!(KernelVersion::from_release("linux"), None);
        assert_eq!(KernelVersion::from_release("6"), None);
    }

    #[test]
    fn kernels_before_5_18_are_too_old() {
        let require = |release| require_kernel(KernelVersion::from_release(release).unwrap());
        for (release, version) in [("4.19.0", "4.19"), ("5.4.0", "5.4"), ("5.17.15", "5.17")] {
            assert_eq!(
                require(release).unwrap_err().to_string(),
                format!(
                    "kernel {version} is too old: natgw needs 5.18 or newer, for bpf_xdp_load_bytes; upgrade the \
                     kernel"
                )
            );
        }
        assert!(require("5.18.0").is_ok() && require("6.1.0").is_ok());
    }

    #[test]
    fn the_four_small_capabilities_are_enough() {
        assert_eq!(missing_capabilities(effective_capabilities(STATUS).unwrap()), []);
    }

    #[test]
    fn root_lacks_nothing_and_sys_admin_stands_for_bpf_and_perfmon() {
        assert_eq!(missing_capabilities(u64::MAX), []);
        assert_eq!(missing_capabilities(1 << 12 | 1 << 13 | 1 << 21), []);
    }

    #[test]
    fn missing_capabilities_are_named_with_three_remedies() {
        let error = PreflightError::MissingCapabilities(missing_capabilities(1 << 13 | 1 << 38)).to_string();
        assert!(error.starts_with("natgw lacks CAP_NET_ADMIN, CAP_BPF; run it with sudo"), "{error}");
        // Both replace what was granted before, so they name what is not missing too.
        assert!(error.contains("setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon=ep"), "{error}");
        let unit = "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON";
        assert!(error.contains(unit), "{error}");
    }

    #[test]
    fn a_status_without_capabilities_is_not_taken_for_one() {
        assert_eq!(effective_capabilities("Name:\tnatgw\n"), None);
        assert_eq!(effective_capabilities("CapEff:\tnone\n"), None);
    }

    #[test]
    fn missing_interfaces_are_named_beside_the_existing_ones() {
        let named = |name: &str| HostInterface { name: name.into(), ..HostInterface::default() };
        let facts = HostFacts { interfaces: vec![named("lo"), named("eth0")], ..HostFacts::default() };
        let refusal =
            |names: &[&str]| require_interfaces(&facts, names.iter().copied()).unwrap_err().to_string();
        assert_eq!(refusal(&["eth0", "eth7"]), "interface eth7 does not exist; this host has lo, eth0");
        assert_eq!(refusal(&["a", "b", "a"]), "interfaces a, b do not exist; this host has lo, eth0");
        assert!(require_interfaces(&facts, ["eth0", "eth0"]).is_ok());
    }

    #[test]
    fn a_pin_directory_on_another_file_system_is_refused() {
        let error = ensure_bpffs(Path::new("/proc/natgw")).unwrap_err();
        assert!(matches!(error, PreflightError::NotOnBpffs(_)), "{error}");
    }
}
