//! `demo`: natgw in the lab, for people.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{build, run, setup};

/// Builds natgw and the demo, runs the demo as root and passes its exit status on.
pub fn run() -> Result<ExitCode> {
    setup::everything()?;
    let mut cargo = run::cargo();
    cargo.args(["build", "--release", "--package", "nat-userspace", "--package", "natgw-tests"]);
    cargo.args(["--bin", "natgw", "--bin", "natgw-demo"]);
    let built = build::executables(&mut cargo)?;
    let natgw = build::binary(&built, "natgw")?;
    let demo = run::as_root(build::binary(&built, "natgw-demo")?, &[("NATGW_BIN", natgw.as_os_str())]);
    let mut demo = demo.context("the demo needs root, and there is no sudo; run it as root")?;
    let status = run::status(&mut demo)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::from(2), ExitCode::from))
}
