//! `test`: every test of the workspace, each with the privilege it needs, and one line that sums them up.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::{self, Executable};
use crate::summary::{Parser, Skipped, Summary};
use crate::{compliance, run, setup};

/// The suites that need root, as package and test target, in the order in which they run.
const ROOT_SUITES: [(&str, &str); 3] =
    [("nat-userspace", "host"), ("natgw-tests", "datapath"), ("natgw-tests", "lab")];

/// What `--workspace` leaves out: the data plane is no program of this host.
const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "nat-ebpf"];

const NO_SUDO: &str = "needs root, and there is no sudo";

/// Where tests find the program under test.
const NATGW_BIN: &str = "NATGW_BIN";

/// How long the output of a suite that has ended may still be held open by something it left behind.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Options of `test`.
#[derive(clap::Args)]
pub struct Options {
    /// Skip what needs root: the data-plane tests and the lab
    #[arg(long)]
    no_root: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Runs all suites and prints the summary; exit status 1 if a test failed or, in CI, was skipped for want of root.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.no_root {
        setup::build_tools()?
    } else {
        setup::everything()?
    }
    let mut cargo = run::cargo();
    let built = build::executables(cargo.args(["test", "--no-run"]).args(HOST_PACKAGES))?;
    let natgw = build::binary(&built, "natgw")?;
    let filter = options.filter.as_deref();

    let mut summary = Summary::default();
    for suite in built.iter().filter(|built| built.is_test && !needs_root(built)) {
        let mut command = Command::new(&suite.path);
        command.current_dir(&suite.directory).env(NATGW_BIN, natgw);
        summary.add(execute(&name(suite), &mut command, filter)?);
    }
    let mut cargo = run::cargo();
    cargo.args(["test", "--doc"]).args(HOST_PACKAGES).arg("--");
    summary.add(execute("documentation", &mut cargo, filter)?);

    let no_root = if options.no_root { Some("--no-root was given") } else { why_not_root() };
    let mut privileged = Summary::default();
    for (package, target) in ROOT_SUITES {
        let suite = built.iter().find(|built| is(built, package, target));
        let suite = suite.with_context(|| format!("cargo has built no test `{target}` of {package}"))?;
        let outcome = as_root(suite, natgw, filter, no_root)?;
        privileged.add(if filter.is_none() { outcome.not_empty(&name(suite)) } else { outcome });
    }
    let mut results = summary.results.clone();
    results.add(privileged.results.clone());
    let whole = options.filter.is_none() && no_root.is_none();
    results.keep(whole)?;
    if whole {
        compliance::write()?;
    }
    Ok(conclude(summary, privileged, run::in_ci()))
}

/// Runs a suite as root, or skips it where there is a reason why that cannot be.
fn as_root(suite: &Executable, natgw: &Path, filter: Option<&str>, no_root: Option<&str>) -> Result<Summary> {
    if let Some(reason) = no_root {
        return skip(suite, filter, reason);
    }
    match run::as_root(&suite.path, &[(NATGW_BIN, natgw.as_os_str())]) {
        Some(mut command) => execute(&name(suite), command.current_dir(&suite.directory), filter),
        None => skip(suite, filter, NO_SUDO),
    }
}

/// Prints the summary. In CI nothing that needs root may be skipped.
fn conclude(mut summary: Summary, privileged: Summary, in_ci: bool) -> ExitCode {
    let forbidden = in_ci && !privileged.skipped.is_empty();
    summary.add(privileged);
    println!();
    if forbidden {
        println!("error: tests that need root were skipped, which CI does not allow");
    }
    println!("{summary}");
    if summary.failed.is_empty() && !forbidden { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is(executable: &Executable, package: &str, target: &str) -> bool {
    executable.is_test && executable.package == package && executable.target == target
}

fn needs_root(executable: &Executable) -> bool {
    ROOT_SUITES.iter().any(|(package, target)| is(executable, package, target))
}

/// How people call the suite: the package's unit tests by the package, other targets with their own name.
fn name(suite: &Executable) -> String {
    if suite.target.replace('_', "-") == suite.package {
        return suite.package.clone();
    }
    format!("{}/{}", suite.package, suite.target)
}

/// Why suites cannot run as root; `None` if they can.
fn why_not_root() -> Option<&'static str> {
    if run::is_root() {
        return None;
    }
    println!(
        "The data-plane tests and the lab make network namespaces and load BPF programs: they need root."
    );
    let Some(sudo) = run::find("sudo") else {
        return Some(NO_SUDO);
    };
    let granted = Command::new(sudo).arg("--validate").status().is_ok_and(|status| status.success());
    if granted { None } else { Some("needs root, and sudo refused") }
}

/// Runs one suite, showing its output as it comes.
fn execute(suite: &str, command: &mut Command, filter: Option<&str>) -> Result<Summary> {
    println!("\n=== {suite}");
    command.args(filter).stdin(Stdio::null()).stdout(Stdio::piped());
    let line = run::line(command);
    let mut child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
    let stdout = child.stdout.take().context("the suite has no output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let status = child.wait()?;
    let mut parser = Parser::new(suite);
    while let Ok(line) = lines.recv_timeout(STRAGGLERS) {
        parser.line(&line);
    }
    Ok(parser.finish(status.success()))
}

/// The tests of a suite that cannot run, each with the reason.
fn skip(suite: &Executable, filter: Option<&str>, reason: &str) -> Result<Summary> {
    let mut command = Command::new(&suite.path);
    let output = run::output(command.args(["--list", "--format", "terse"]).args(filter))?;
    let skipped = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|test| Skipped { test: format!("{}: {test}", name(suite)), reason: reason.to_owned() })
        .collect();
    Ok(Summary { skipped, ..Summary::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(package: &str, target: &str) -> Executable {
        Executable {
            package: package.into(),
            target: target.into(),
            is_test: true,
            path: "/bin/echo".into(),
            directory: "/".into(),
        }
    }

    #[test]
    fn unit_tests_are_called_by_their_package_and_others_by_their_own_name() {
        assert_eq!(name(&suite("nat-userspace", "nat_userspace")), "nat-userspace");
        assert_eq!(name(&suite("natgw-tests", "lab")), "natgw-tests/lab");
    }

    #[test]
    fn only_the_listed_test_targets_run_as_root() {
        assert!(needs_root(&suite("natgw-tests", "lab")));
        assert!(!needs_root(&suite("natgw-tests", "natgw_tests")));
        assert!(!needs_root(&suite("nat-common", "lab")));
        assert!(!needs_root(&Executable { is_test: false, ..suite("natgw-tests", "lab") }));
    }

    #[test]
    fn in_ci_a_skipped_suite_that_needs_root_is_a_failure() {
        let skipped = || Summary {
            skipped: vec![Skipped { test: "lab: a".into(), reason: "no root".into() }],
            ..pass()
        };
        let pass_code = format!("{:?}", ExitCode::SUCCESS);
        assert_ne!(format!("{:?}", conclude(pass(), skipped(), true)), pass_code);
        assert_eq!(format!("{:?}", conclude(pass(), skipped(), false)), pass_code);
        assert_eq!(format!("{:?}", conclude(skipped(), pass(), true)), pass_code);
    }

    fn pass() -> Summary {
        Summary { passed: 1, ..Summary::default() }
    }

    #[test]
    fn a_suite_whose_output_is_held_open_by_a_straggler_still_ends() {
        let mut shell = Command::new("sh");
        let script = "sleep 8 & echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'";
        let started = std::time::Instant::now();
        let summary = execute("straggler", shell.args(["-c", script]), None).unwrap();
        assert_eq!(summary.passed, 1);
        assert!(started.elapsed() < Duration::from_secs(6));
    }
}
