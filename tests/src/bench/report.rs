//! The report: tables for people, JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::bench::machine::Machine;
use crate::bench::options::Options;
use crate::bench::ratios::{Bound, Formed, RATIOS};
use crate::bench::results::Results;

/// Prints every series and every ratio.
pub fn print(results: &Results, formed: &Formed) {
    println!("{}\n\n{}", series(results), ratios(formed));
    for (gateway, why) in &results.unavailable {
        println!("not available: {gateway}: {why}");
    }
    for failure in &results.failures {
        println!("failed: {failure}");
    }
    println!("{} of {} runs began on a disturbed core", results.noisy_runs, results.runs);
}

fn series(results: &Results) -> Table {
    let mut table = table(&["scenario", "sessions", "bytes", "gateway", "median", "lowest", "highest", ""]);
    for column in [1, 2, 4, 5, 6] {
        align_right(&mut table, column);
    }
    for (key, series) in &results.series {
        let (low, high) = series.range();
        let bytes = if key.bytes == 0 { String::new() } else { key.bytes.to_string() };
        table.add_row([
            name(key.scenario),
            key.sessions.to_string(),
            bytes,
            key.gateway.clone(),
            figure(series.median()),
            figure(low),
            figure(high),
            key.scenario.unit().to_owned(),
        ]);
    }
    table
}

fn ratios(formed: &Formed) -> Table {
    let mut table = table(&["ratio", "measured", "wanted", ""]);
    align_right(&mut table, 1);
    for ratio in &RATIOS {
        let wanted = match ratio.bound {
            Bound::AtLeast(least) => format!("at least {least}"),
            Bound::AtMost(most) => format!("at most {most}"),
        };
        let (measured, verdict) = match formed.ratios.get(ratio.name) {
            Some(value) => (figure(*value), if ratio.bound.holds(*value) { "✔" } else { "✘" }.to_owned()),
            None => ("–".to_owned(), formed.not_measured.get(ratio.name).cloned().unwrap_or_default()),
        };
        table.add_row([ratio.name.to_owned(), measured, wanted, verdict]);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Everything that was measured.
#[must_use]
pub fn json(machine: &Machine, options: &Options, results: &Results, formed: &Formed) -> Value {
    let series: Vec<Value> = results
        .series
        .iter()
        .map(|(key, series)| {
            let (lowest, highest) = series.range();
            json!({
                "scenario": key.scenario, "sessions": key.sessions, "bytes": key.bytes, "gateway": key.gateway,
                "unit": key.scenario.unit(), "median": series.median(), "lowest": lowest, "highest": highest,
                "spread": series.spread(), "runs": series.runs,
            })
        })
        .collect();
    json!({
        "machine": machine, "quick": options.quick, "ratios": formed.ratios, "not_measured": formed.not_measured,
        "series": series, "unavailable": results.unavailable, "failures": results.failures,
        "runs": results.runs, "noisy_runs": results.noisy_runs, "too_noisy": results.too_noisy(),
    })
}

/// A scenario as the JSON names it.
fn name(scenario: crate::bench::results::Scenario) -> String {
    json!(scenario).as_str().unwrap_or_default().to_owned()
}

/// Three significant digits or so.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::bench::machine;
    use crate::bench::ratios::form;
    use crate::bench::results::Scenario;

    #[test]
    fn the_json_has_every_run_and_no_ratio_that_was_not_measured() {
        let mut results = Results { runs: 2, ..Results::default() };
        for run in [200.0, 210.0] {
            results.add(Scenario::EstablishedOutbound, 1_000, 64, "natgw XDP", run);
        }
        let options = Options::parse_from(["bench"]);
        let json = json(&machine::describe(), &options, &results, &form(&results, false));
        assert_eq!(json["series"][0]["scenario"], "established_outbound");
        assert_eq!(json["series"][0]["runs"], json!([200.0, 210.0]));
        assert_eq!(json["series"][0]["median"], 205.0);
        assert_eq!(json["ratios"], json!({}));
        assert_eq!(json["not_measured"].as_object().unwrap().len(), RATIOS.len());
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([figure(1234.5), figure(45.67), figure(0.756)], ["1234", "45.7", "0.76"]);
    }
}
