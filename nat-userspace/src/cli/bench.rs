//! `natgw bench`.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use super::{args::BenchArgs, output, runtime};
use crate::{
    bench::{self, Report},
    host::preflight,
};

/// Measures and prints.
pub fn execute(args: &BenchArgs) -> Result<ExitCode> {
    preflight::check_kernel()?;
    preflight::check_capabilities()?;
    let report = runtime()?.block_on(bench::measure(&args.sessions, args.packets))?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head = [
        "direction",
        "kind",
        "sessions",
        "ns/packet",
        "beyond empty",
        "Mpps/CPU",
        "Gbit/s 64 B",
        "Gbit/s 1500 B",
    ];
    table.set_header(head);
    for found in &report.results {
        table.add_row([
            found.direction.to_owned(),
            found.kind.to_owned(),
            found.sessions.to_string(),
            format!("{:.0}", found.ns),
            format!("{:.0}", found.net_ns),
            format!("{:.2}", found.packets_per_second / 1e6),
            format!("{:.1}", found.line_rate(64)),
            format!("{:.1}", found.line_rate(1_514)),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{}, Linux {}\nan empty XDP program: {:.0} ns/packet; one that only forwards: {:.0} ns/packet\n\n{table}\n\n\
         One CPU, the program alone: a driver and its NIC add their own share to every packet.\n",
        report.cpu, report.kernel, report.empty_ns, report.bare_ns
    )
}
