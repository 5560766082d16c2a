//! What a fresh machine lacks: Rust components, bpf-linker, and the programs that the lab and the demo use.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::run;

const LINKER_VERSION: &str = "0.10.3";

/// Rust components: toolchain, component, and the file in the toolchain's sysroot that shows its presence.
const COMPONENTS: [(&str, &str, &str); 4] = [
    ("nightly", "clippy", "bin/cargo-clippy"),
    ("nightly", "rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml"),
    ("stable", "clippy", "bin/cargo-clippy"),
    ("stable", "rustfmt", "bin/cargo-fmt"),
];

/// A program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 13] = [
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("sysctl", "procps"),
    ("tcpdump", "tcpdump"),
    ("traceroute", "traceroute"),
    ("turnserver", "coturn"),
];

/// Packages that start a service on the host, and its name: the lab needs only the program.
const SERVICES: [(&str, &str); 2] = [("nginx-light", "nginx"), ("coturn", "coturn")];

/// Something this machine lacks.
enum Missing {
    Toolchain(&'static str),
    Component(&'static str, &'static str),
    Linker,
}

/// Brings what the build, the tests and the demo need.
pub fn everything() -> Result<()> {
    build_tools()?;
    programs()
}

/// Brings what the build needs; nothing of it takes root.
pub fn build_tools() -> Result<()> {
    // A toolchain that was missing comes without its components, so look again after each round.
    for _ in 0..2 {
        for missing in missing_tools() {
            missing.install()?;
        }
    }
    Ok(())
}

/// Prints what is missing and installs nothing; exit status 1 if anything is.
pub fn report() -> Result<ExitCode> {
    let tools = missing_tools();
    let packages = missing_packages();
    for missing in &tools {
        println!("missing: {}", missing.name());
    }
    for package in &packages {
        println!("missing: Debian package {package}");
    }
    if tools.is_empty() && packages.is_empty() {
        println!("nothing is missing");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

impl Missing {
    fn name(&self) -> String {
        match self {
            Self::Toolchain(toolchain) => format!("Rust toolchain {toolchain}"),
            Self::Component(toolchain, component) => format!("{component} of Rust {toolchain}"),
            Self::Linker => format!("bpf-linker {LINKER_VERSION}"),
        }
    }

    fn install(&self) -> Result<()> {
        println!("setup: installing {}", self.name());
        let mut command = match self {
            Self::Toolchain(_) | Self::Component(..) => Command::new("rustup"),
            Self::Linker => run::cargo(),
        };
        match self {
            Self::Toolchain(toolchain) => {
                command.args(["toolchain", "install", "--profile", "minimal", toolchain])
            }
            Self::Component(toolchain, component) => {
                command.args(["component", "add", component, "--toolchain", toolchain])
            }
            Self::Linker => command.args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION]),
        };
        run::check(&mut command).with_context(|| format!("cannot install {}", self.name()))
    }
}

fn missing_tools() -> Vec<Missing> {
    let mut missing = Vec::new();
    for toolchain in ["nightly", "stable"] {
        let Some(sysroot) = sysroot(toolchain) else {
            missing.push(Missing::Toolchain(toolchain));
            continue;
        };
        let absent = COMPONENTS
            .iter()
            .filter(|(of, _, file)| *of == toolchain && !Path::new(&sysroot).join(file).exists())
            .map(|(_, component, _)| Missing::Component(toolchain, component));
        missing.extend(absent);
    }
    if !linker_is_present() {
        missing.push(Missing::Linker);
    }
    missing
}

fn sysroot(toolchain: &str) -> Option<String> {
    let output =
        Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| sysroot.trim().to_owned())
}

/// Whether a bpf-linker of the right series is there.
fn linker_is_present() -> bool {
    let output = Command::new("bpf-linker").arg("--version").output();
    let version =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    same_series(version.trim().trim_start_matches("bpf-linker "), LINKER_VERSION)
}

/// Whether two versions differ in the patch level only.
fn same_series(one: &str, other: &str) -> bool {
    let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
    series(one).is_some() && series(one) == series(other)
}

fn missing_packages() -> Vec<&'static str> {
    let absent = PROGRAMS.iter().filter(|(program, _)| run::find(program).is_none());
    absent.map(|(_, package)| *package).collect()
}

/// Brings the programs of the lab and the demo.
fn programs() -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_debian() {
        bail!("this is no Debian or Ubuntu; install the programs of these Debian packages yourself: {list}");
    }
    println!("setup: installing the Debian packages {list}");
    apt_get(&["update", "--quiet=2"])?;
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends"];
    apt_get(&[install.as_slice(), packages.as_slice()].concat())?;
    for (package, service) in SERVICES {
        if packages.contains(&package) {
            silence(service)?;
        }
    }
    match missing_packages().as_slice() {
        [] => Ok(()),
        missing => bail!("still missing after the installation: {}", missing.join(" ")),
    }
}

fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
        .any(|value| value.trim_matches('"').split(' ').any(|id| id == "debian" || id == "ubuntu"))
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    // A machine that has just booted is often updating itself: wait for the lock.
    run::check(as_root("apt-get")?.arg("-oDPkg::Lock::Timeout=300").args(arguments))
}

fn silence(service: &str) -> Result<()> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    println!("setup: switching off the system's {service} service, which came with its package");
    run::check(as_root("systemctl")?.args(["disable", "--quiet", "--now", service]))
}

fn as_root(program: &str) -> Result<Command> {
    run::as_root(Path::new(program), &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))])
        .context("installing packages needs root, and there is no sudo; run `cargo xtask setup` as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_patch_level_of_the_linker_will_do() {
        assert!(same_series("0.10.3", "0.10.3"));
        assert!(same_series("0.10.9", "0.10.3"));
        assert!(!same_series("0.9.15", "0.10.3"));
        assert!(!same_series("", "0.10.3"));
    }

    #[test]
    fn no_program_and_no_package_is_named_twice() {
        for (number, (program, package)) in PROGRAMS.iter().enumerate() {
            assert!(PROGRAMS[..number].iter().all(|(other, of)| other < program && of != package));
        }
    }
}
