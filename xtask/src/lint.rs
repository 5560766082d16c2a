//! `lint`: format, clippy, docs, and what only this project asks of its sources.

use std::process::{Command, ExitCode};

use anyhow::Result;
use regex_lite::Regex;

use crate::sources::{self, Source};
use crate::{compliance, docs, markdown, rules, run, setup};

/// Lines a source file may have, its tests not counted.
const MAX_LINES: usize = 400;

/// A check: its name, and what it finds wrong.
type Check = (&'static str, fn() -> Result<Vec<String>>);

const CHECKS: [Check; 11] = [
    ("format", || command(run::cargo().args(["fmt", "--all", "--check"]))),
    ("clippy", host_clippy),
    ("clippy of the data plane", data_plane_clippy),
    ("documentation", documentation),
    ("architecture", || {
        each(|sources| rules::RULES.iter().flat_map(|rule| rules::check(rule, sources)).collect())
    }),
    ("length of files", || each(long_files)),
    ("paths of this machine", || each(machine_paths)),
    ("links", || each(markdown::broken_links)),
    ("claims and their tests", || each(markdown::unproved_claims)),
    ("compliance", || each(compliance::problems)),
    ("generated docs", docs::outdated),
];

/// Runs every check, also after one has failed; exit status 1 if one has.
pub fn run() -> Result<ExitCode> {
    setup::build_tools()?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        println!("lint: {name}");
        let findings = check()?;
        for finding in &findings {
            println!("  {finding}");
        }
        if !findings.is_empty() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("lint: {} checks passed", CHECKS.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn host_clippy() -> Result<Vec<String>> {
    let mut cargo = run::cargo();
    cargo.args(["clippy", "--quiet", "--workspace", "--exclude", "nat-ebpf", "--all-targets"]);
    command(cargo.args(["--", "--deny", "warnings"]))
}

/// The data plane is no program of this host, so it is checked for its own target, with the toolchain it is built
/// with. It has no public items but those that aya's macros make, without docs.
fn data_plane_clippy() -> Result<Vec<String>> {
    let mut cargo = Command::new("rustup");
    cargo.current_dir(run::workspace()).env_remove("RUSTUP_TOOLCHAIN").env("CARGO_TARGET_DIR", "target/ebpf");
    cargo.args([
        "run",
        "nightly",
        "cargo",
        "clippy",
        "--quiet",
        "--release",
        "--package",
        "nat-ebpf",
        "--bins",
    ]);
    cargo.args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"]);
    cargo.args(["--", "--deny", "warnings", "--allow", "missing_docs"]);
    command(cargo.env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH)))
}

fn documentation() -> Result<Vec<String>> {
    let mut cargo = run::cargo();
    cargo.args([
        "doc",
        "--quiet",
        "--workspace",
        "--exclude",
        "nat-ebpf",
        "--no-deps",
        "--document-private-items",
    ]);
    command(cargo.env("RUSTDOCFLAGS", "--deny warnings"))
}

/// Runs a command that speaks for itself.
fn command(command: &mut Command) -> Result<Vec<String>> {
    let status = run::status(command)?;
    Ok(if status.success() { Vec::new() } else { vec![format!("`{}`: {status}", run::line(command))] })
}

/// Runs a check over the text files of the workspace.
fn each(check: impl Fn(&[Source]) -> Vec<String>) -> Result<Vec<String>> {
    Ok(check(&sources::all()?))
}

fn long_files(sources: &[Source]) -> Vec<String> {
    let code = |source: &Source| source.text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    sources
        .iter()
        .filter(|source| source.path.ends_with(".rs") && code(source) > MAX_LINES)
        .map(|source| format!("{}: {} lines, at most {MAX_LINES}", source.path, code(source)))
        .collect()
}

/// A path that exists only where it was written.
fn machine_paths(sources: &[Source]) -> Vec<String> {
    let path = Regex::new(r"(?:^|[^\w./])/(?:root|home|work|Users)/\w").expect("the pattern is a constant");
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(path.find_iter(&source.text).map(|found| {
            format!("{}:{}: an absolute path of one machine", source.path, source.line_at(found.end()))
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: String) -> Source {
        Source { path: path.into(), text }
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_other_paths_are_not() {
        let home = format!("see /{}/me/natgw", "home");
        assert_eq!(machine_paths(&[source("a.md", home)]), ["a.md:1: an absolute path of one machine"]);
        let others = format!("/sys/fs/bpf /etc/natgw.toml ../{}/x", "home");
        assert!(machine_paths(&[source("a.md", others)]).is_empty());
    }

    #[test]
    fn a_long_file_is_found_but_its_tests_do_not_count() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(long_files(&[source("a.rs", long.clone())]).len(), 1);
        assert!(long_files(&[source("a.md", long.clone())]).is_empty());
        assert!(long_files(&[source("a.rs", format!("#[cfg(test)]\n{long}"))]).is_empty());
    }
}
