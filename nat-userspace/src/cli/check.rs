//! `natgw check`: is a configuration valid, and what does it mean?

mod plan;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::args::CheckArgs;
use super::{FAILURE, output};
use crate::config::{Config, ConfigError, Problem, Warning};

/// Validates the file and prints the plan.
pub(super) fn execute(args: &CheckArgs) -> Result<ExitCode> {
    let result = Config::from_file(&args.file);
    if args.json {
        return report(result);
    }
    output::print(&explain(&result?, &args.file))?;
    Ok(ExitCode::SUCCESS)
}

/// The plan and the warnings, for people.
fn explain(config: &Config, file: &Path) -> String {
    let mut text = plan::plan(config);
    let warnings = config.warnings();
    for warning in &warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let count = match warnings.len() {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        count => format!(", with {count} warnings"),
    };
    text.push_str(&format!("{} is valid{count}\n", file.display()));
    text
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    problems: &'a [Problem],
    warnings: Vec<Warning>,
    config: Option<&'a Config>,
}

fn report(result: Result<Config, ConfigError>) -> Result<ExitCode> {
    match &result {
        Ok(config) => {
            let warnings = config.warnings();
            output::print_json(&Verdict { valid: true, problems: &[], warnings, config: Some(config) })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError::Invalid(problems)) => {
            output::print_json(&Verdict { valid: false, problems, warnings: Vec::new(), config: None })?;
            Ok(ExitCode::from(FAILURE))
        }
        Err(ConfigError::Unreadable { .. }) => Ok(result.map(|_| ExitCode::SUCCESS)?),
    }
}
