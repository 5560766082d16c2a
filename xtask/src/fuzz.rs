//! `fuzz`: random packets through the data plane and through a model of a NAT.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{build, run, setup};

/// What is handed on; `natgw-fuzz` knows the options.
#[derive(clap::Args)]
pub struct Options {
    /// Options of the fuzzer: see `cargo xtask fuzz --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

/// Builds the fuzzer with optimisation, runs it as root and passes its exit status on.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::everything()?;
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--package", "natgw-tests", "--bin", "natgw-fuzz"]);
    let built = build::executables(&mut cargo)?;
    let fuzz = run::as_root(build::binary(&built, "natgw-fuzz")?, &[]);
    let mut fuzz = fuzz.context("the fuzzer needs root, and there is no sudo; run it as root")?;
    let status = run::status(fuzz.current_dir(run::workspace()).args(&options.arguments))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(2), ExitCode::from))
}
