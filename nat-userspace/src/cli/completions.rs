//! `natgw completions` and `natgw man`: both are generated from the definition of the command line.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::output;

/// Prints the completion script of a shell.
pub(super) fn shell(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "natgw", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for every verb into a directory, or prints the main one.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode> {
    match &args.dir {
        Some(dir) => write_pages(dir)?,
        None => output::print(&page(Cli::command())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: Command) -> Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(String::from_utf8(page)?)
}

fn write_pages(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{}: cannot be created", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("{}: cannot be written", dir.display()))
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn the_man_page_names_every_verb() {
        let page = page(Cli::command()).unwrap();
        for verb in Cli::command().get_subcommands() {
            assert!(page.contains(&format!("natgw\\-{}", verb.get_name())), "{}", verb.get_name());
        }
    }

    #[test]
    fn every_verb_has_a_man_page_of_its_own() {
        let dir = std::env::temp_dir().join(format!("natgw-man-{}", std::process::id()));
        write_pages(&dir).unwrap();
        let written = ["natgw.1", "natgw-run.1", "natgw-flows.1", "natgw-eip-list.1"]
            .map(|page| dir.join(page).exists());
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(written, [true; 4]);
    }

    #[test]
    fn every_shell_completes_the_filters_of_flows() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "natgw", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("elastic-ip"), "{shell}");
        }
    }
}
