//! Compiles the data plane (`nat-ebpf`) for the BPF target and lays the objects into `OUT_DIR`.
//!
//! The inner cargo has one target directory of its own beside the outer profiles, so that debug builds, release
//! builds and clippy share one compilation of `core`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const OBJECTS: [&str; 3] = ["natgw-xdp", "natgw-bench", "natgw-rig"];
const TARGET: &str = "bpfel-unknown-none";
const TOOLCHAIN: &str = "nightly";

/// What the outer cargo tells its build scripts, and what speaks of the host's compiler: none of it is meant for
/// the inner cargo.
const OUTER: [&str; 13] = [
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let workspace = variable("CARGO_MANIFEST_DIR")?.join("..");
    let out = variable("OUT_DIR")?;
    for input in ["nat-ebpf", "nat-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo:rerun-if-changed={}", linker()?.display());
    require_core()?;

    let target_dir = target_dir(&out).join("ebpf");
    compile(&workspace, &target_dir)?;
    for object in OBJECTS {
        let built = target_dir.join(TARGET).join("release").join(object);
        std::fs::copy(&built, out.join(object))
            .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    }
    Ok(())
}

fn compile(workspace: &Path, target_dir: &Path) -> Result<(), String> {
    let arch =
        env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    // bpf-linker keeps the types that the kernel wants to see (BTF) only when there is debug information; and it
    // would turn every copy and every clearing of a few words into a call that loops over bytes.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Ctarget-cpu=v3".into(),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
    ];
    let mut cargo = nightly("cargo");
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "nat-ebpf", "--bins", "-Zbuild-std=core"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let output = cargo.output().map_err(|error| format!("cannot run rustup: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("nat-ebpf does not compile for {TARGET}:\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// The path of bpf-linker, whose replacement must rebuild the objects.
fn linker() -> Result<PathBuf, String> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join("bpf-linker"))
        .find(|path| path.is_file())
        .ok_or_else(|| "bpf-linker is not installed; run `cargo xtask setup`".into())
}

/// The BPF target has no ready-made `core`: it is compiled from the toolchain's sources.
fn require_core() -> Result<(), String> {
    let output = nightly("rustc").args(["--print", "sysroot"]).output();
    let sysroot = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let sysroot = sysroot.and_then(|path| String::from_utf8(path).ok());
    let present = sysroot
        .is_some_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir());
    if present {
        return Ok(());
    }
    Err(format!("the {TOOLCHAIN} toolchain or its rust-src is not installed; run `cargo xtask setup`"))
}

/// A command of the nightly toolchain, free of the outer cargo's environment.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", TOOLCHAIN, program]);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OUTER.iter().any(|outer| name.starts_with(outer))) {
            command.env_remove(name);
        }
    }
    command
}

/// The outer target directory: cargo marks it as a cache.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file()).unwrap_or(out).to_path_buf()
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set; build with cargo"))
}
