//! `bench`: natgw against the kernel's NAT, other gateways and the limits of this machine.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{build, run, setup};

/// What is handed on; `natgw-compare` knows the options.
#[derive(clap::Args)]
pub struct Options {
    /// Options of the comparison: see `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

/// Builds natgw and the comparison with optimisation, runs the comparison as root and passes its exit status on.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::everything()?;
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--package", "nat-userspace", "--package", "natgw-tests"]);
    cargo.args(["--bin", "natgw", "--bin", "natgw-compare"]);
    let built = build::executables(&mut cargo)?;
    let natgw = build::binary(&built, "natgw")?;
    let compare = run::as_root(build::binary(&built, "natgw-compare")?, &[("NATGW_BIN", natgw.as_os_str())]);
    let mut compare = compare.context("the comparison needs root, and there is no sudo; run it as root")?;
    let status = run::status(compare.args(&options.arguments))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(2), ExitCode::from))
}
