//! Building, and finding what cargo has built.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{run, setup};

/// Builds the workspace's default members.
pub fn default_members(release: bool) -> Result<()> {
    setup::build_tools()?;
    let mut cargo = run::cargo();
    cargo.arg("build");
    if release {
        cargo.arg("--release");
    }
    run::check(&mut cargo)
}

/// An executable that cargo has built.
#[derive(Debug, PartialEq)]
pub struct Executable {
    /// The package it belongs to.
    pub package: String,
    /// The name of the target: a binary, a library or a file of integration tests.
    pub target: String,
    /// Whether it runs tests.
    pub is_test: bool,
    /// Where it is.
    pub path: PathBuf,
    /// The package's directory, in which its tests run.
    pub directory: PathBuf,
}

/// Runs a `cargo build` or `cargo test --no-run` and returns the executables it made.
pub fn executables(cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let line = run::line(cargo);
    let mut child = cargo.spawn().with_context(|| format!("cannot run `{line}`"))?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut found = Vec::new();
    for message in BufReader::new(stdout).lines() {
        found.extend(executable(&message?));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(found)
}

/// The path of the binary `name` among `executables`.
pub fn binary<'a>(executables: &'a [Executable], name: &str) -> Result<&'a PathBuf> {
    let found = executables.iter().find(|executable| !executable.is_test && executable.target == name);
    Ok(&found.with_context(|| format!("cargo has built no binary `{name}`"))?.path)
}

/// The executable that a line of cargo's JSON speaks of, if it speaks of one.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message["executable"].as_str()?;
    let directory = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    // An integration test's package shows in no field of its own; its identifier ends in `/name#version` or
    // `#name@version`.
    let package = message["package_id"].as_str()?;
    let (source, fragment) = package.rsplit_once('#')?;
    let package = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => source.rsplit('/').next()?,
    };
    Some(Executable {
        package: package.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        path: PathBuf::from(path),
        directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///src/natgw/tests#natgw-tests@0.1.0",
        "manifest_path":"/src/natgw/tests/Cargo.toml","target":{"kind":["test"],"name":"lab"},
        "profile":{"test":true},"executable":"/target/debug/deps/lab-1"}"#;

    #[test]
    fn a_test_executable_is_found_with_its_package_and_directory() {
        let expected = Executable {
            package: "natgw-tests".into(),
            target: "lab".into(),
            is_test: true,
            path: "/target/debug/deps/lab-1".into(),
            directory: "/src/natgw/tests".into(),
        };
        assert_eq!(executable(MESSAGE), Some(expected));
    }

    #[test]
    fn a_package_named_like_its_directory_is_found_too() {
        let message = MESSAGE.replace("tests#natgw-tests@0.1.0", "xtask#0.1.0");
        assert_eq!(executable(&message).unwrap().package, "xtask");
    }

    #[test]
    fn a_library_is_no_executable() {
        assert_eq!(executable(&MESSAGE.replace("\"/target/debug/deps/lab-1\"", "null")), None);
        assert_eq!(executable("   Compiling natgw"), None);
    }

    #[test]
    fn a_missing_binary_is_an_error_with_its_name() {
        let test = executable(MESSAGE).unwrap();
        assert!(binary(&[test], "lab").unwrap_err().to_string().contains("`lab`"));
    }
}
