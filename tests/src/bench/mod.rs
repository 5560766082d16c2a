//! The comparison of gateways: CPU time per packet, sessions and TCP of natgw, of the kernel's own NAT, and of the
//! limits that no gateway can pass.

pub mod canary;
pub mod chart;
pub mod compare;
pub mod config;
pub mod conntrack;
pub mod cpu;
pub mod fill;
pub mod gateway;
pub mod machine;
pub mod million;
pub mod options;
pub mod packets;
pub mod ratios;
pub mod report;
pub mod results;
pub mod tcp;
pub mod topology;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::unistd::geteuid;

use crate::lab::sweep;
use options::Options;

/// Compares, as the command line says, and reports.
///
/// # Errors
/// Without root, or when nothing can be measured here.
pub fn run() -> Result<ExitCode> {
    let options = Options::parse();
    ensure!(geteuid().is_root(), "network namespaces and BPF programs need root; run `cargo xtask bench`");
    sweep::prepare();
    let machine = machine::describe();
    let results = compare::compare(&options)?;
    let formed = ratios::form(&results, options.noisy);
    println!("{machine}\n");
    report::print(&results, &formed);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report::json(&machine, &options, &results, &formed))?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, chart::draw(&results)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if results.too_noisy() && !options.noisy {
        eprintln!(
            "the machine was too noisy for a report: wait until it is quiet and repeat, or say --noisy"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
