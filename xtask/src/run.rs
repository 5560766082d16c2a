//! Running other programs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use anyhow::{Context, Result, bail};

/// Variables that a program run through sudo, which clears the environment, gets all the same.
const KEPT_BY_SUDO: [&str; 4] = ["CI", "NATGW_PIN_DIR", "RUST_BACKTRACE", "RUST_LOG"];

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `cargo`, in the root of the workspace.
///
/// The outer `cargo run` describes the xtask package in the environment; build scripts of other packages would
/// take that for a change and run again.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace());
    for (name, _) in env::vars_os() {
        let outer = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(outer) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` with this process's input and output; anything but success is an error.
pub fn check(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed: {status}", line(command))
}

/// Runs `command` with this process's input and output.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run `{}`", line(command)))
}

/// Runs `command` and collects what it prints.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot run `{}`", line(command)))
}

/// `command` as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs `program` with `variables` as root, through sudo where this process is not root; `None` if
/// there is no way.
pub fn as_root(program: &Path, variables: &[(&str, &OsStr)]) -> Option<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        return Some(command);
    }
    let kept = KEPT_BY_SUDO.iter().filter_map(|name| Some((*name, env::var_os(name)?)));
    let given = variables.iter().map(|(name, value)| (*name, value.to_os_string()));
    Some(through_sudo(&find("sudo")?, program, kept.chain(given)))
}

fn through_sudo<'a>(
    sudo: &Path,
    program: &Path,
    variables: impl Iterator<Item = (&'a str, OsString)>,
) -> Command {
    let mut command = Command::new(sudo);
    command.args(["--", "env"]);
    for (name, value) in variables {
        let mut variable = OsString::from(name);
        variable.push("=");
        variable.push(value);
        command.arg(variable);
    }
    command.arg(program);
    command
}

/// Finds `program` in PATH or where administrators' programs are, which a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(administrators)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this is a continuous-integration run, where nothing may be skipped.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_and_a_missing_one_is_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn through_sudo_a_program_gets_its_variables() {
        let variables = [("NATGW_BIN", OsString::from("/b/natgw"))].into_iter();
        let command = through_sudo(Path::new("/bin/sudo"), Path::new("/b/lab"), variables);
        assert_eq!(line(&command), "/bin/sudo -- env NATGW_BIN=/b/natgw /b/lab");
    }

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let error = check(Command::new("false").arg("--why")).unwrap_err().to_string();
        assert!(error.contains("`false --why`"), "{error}");
    }
}
