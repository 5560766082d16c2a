//! `compliance`: COMPLIANCE.md, made from a table of requirements and from what the tests that show them came to; and the
//! README's count of its rows.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};
use regex_lite::Regex;
use serde::Deserialize;

use crate::results::{Outcome, Results};
use crate::sources::Source;
use crate::{docs, run};

/// The table.
const TABLE: &str = "docs/compliance.toml";
/// What is made of it.
const DOCUMENT: &str = "COMPLIANCE.md";
/// Where its rows are counted.
const README: &str = "README.md";
/// The name of the count in the markers there.
const COUNT: &str = "compliance";

const LEVELS: [&str; 5] = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "derived"];
/// What a row without tests says.
const STATUSES: [&str; 3] = ["pending", "not met", "not applicable"];
/// Where the table of whole documents has something other than a level.
const DOCUMENTS: &str = "Out of scope";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    section: Vec<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    title: String,
    #[serde(default)]
    intro: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    level: String,
    requires: String,
    #[serde(default)]
    natgw: String,
    #[serde(default)]
    tests: Vec<String>,
    status: Option<String>,
}

/// Writes the document anew, and the README's count, from the results that the last runs of the tests have left.
pub fn write() -> Result<()> {
    let (table, results) = (table()?, Results::read()?);
    store(DOCUMENT, &document(&table, &results))?;
    let readme = fs::read_to_string(run::workspace().join(README)).context(README)?;
    let counted = with_count(&readme, &table, &results);
    store(README, &counted.with_context(|| format!("{README}: no markers of `{COUNT}`"))?)?;
    println!("compliance: {DOCUMENT} written, and its count in {README}");
    Ok(())
}

fn store(document: &str, text: &str) -> Result<()> {
    fs::write(run::workspace().join(document), text).with_context(|| format!("cannot write {document}"))
}

/// What is wrong with the table, and whether the document or its count is another one's.
pub fn problems(sources: &[Source]) -> Vec<String> {
    let table = match table() {
        Ok(table) => table,
        Err(error) => return vec![format!("{TABLE}: {error:#}")],
    };
    let mut findings = doubts(&table, sources);
    let read = |document| fs::read_to_string(run::workspace().join(document)).unwrap_or_default();
    let (written, readme) = (read(DOCUMENT), read(README));
    // What the tests came to is no part of the table: it is taken from the document itself.
    let results = stated(&written);
    if document(&table, &results) != written {
        findings.push(format!("{DOCUMENT}: it differs from {TABLE}; run `cargo xtask compliance`"));
    }
    if with_count(&readme, &table, &results).as_ref() != Some(&readme) {
        findings.push(format!("{README}: it counts other rows; run `cargo xtask compliance`"));
    }
    findings
}

fn table() -> Result<Table> {
    let text = fs::read_to_string(run::workspace().join(TABLE)).context("it cannot be read")?;
    let table: Table = toml::from_str(&text)?;
    if table.section.is_empty() {
        bail!("it has no section");
    }
    Ok(table)
}

/// Rows that say nothing, the same twice, or name a test that there is not.
fn doubts(table: &Table, sources: &[Source]) -> Vec<String> {
    let tests = test_names(sources);
    let (mut findings, mut known) = (Vec::new(), HashSet::new());
    for section in &table.section {
        for row in &section.rows {
            let mut complain = |what: String| findings.push(format!("{TABLE}: {}: {what}", row.id));
            if !known.insert(&row.id) {
                complain("it stands there twice".into());
            }
            if section.title != DOCUMENTS && !LEVELS.contains(&row.level.as_str()) {
                complain(format!("`{}` is no level; write one of {LEVELS:?}", row.level));
            }
            match (&row.status, row.tests.is_empty()) {
                (None, true) => complain(format!("name its tests, or a status: one of {STATUSES:?}")),
                (Some(_), false) => complain("it has tests, and so no status".into()),
                (Some(status), true) if !STATUSES.contains(&status.as_str()) => {
                    complain(format!("`{status}` is no status; write one of {STATUSES:?}"));
                }
                (Some(status), true) if status != "pending" && row.natgw.is_empty() => {
                    complain("say in `natgw` why".into());
                }
                _ => {}
            }
            for test in row.tests.iter().filter(|test| !tests.contains(test.as_str())) {
                complain(format!("there is no test `{test}`"));
            }
        }
    }
    findings
}

/// The functions below a `#[test]`, and those that a list of trials names.
fn test_names(sources: &[Source]) -> HashSet<&str> {
    let function = Regex::new(r"#\[(?:tokio::)?test\]\s+(?:async )?fn (\w+)").expect("a constant");
    let trial = Regex::new(r"(?m)^\s+(?:.+ => )?(\w+),$").expect("a constant");
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    let mut names = HashSet::new();
    for source in rust {
        let by_attribute = function.captures_iter(&source.text);
        names.extend(by_attribute.filter_map(|found| found.get(1)).map(|name| name.as_str()));
        if source.path.starts_with("tests/tests/") {
            let defined = |name: &&str| source.text.contains(&format!("fn {name}("));
            let listed = trial.captures_iter(&source.text);
            names.extend(listed.filter_map(|found| found.get(1)).map(|name| name.as_str()).filter(defined));
        }
    }
    names
}

/// The whole document.
fn document(table: &Table, results: &Results) -> String {
    let mut text = String::from(
        "# Compliance\n\n\
         What the RFCs require of a NAT and of an IPv4 router, what AWS documents of its NAT gateway, what natgw does, and \
         what the tests that show it came to when they last ran. Made by `cargo xtask compliance` from \
         [the table](docs/compliance.toml) and from the results of `cargo xtask test`.\n\n\
         ✔ passed, ✘ failed, · not run; `xdp` and `tc` are the hooks that the test ran at, where it runs at both. *Pending* \
         is what is not built, or not tested yet; *not met* is so on purpose. Rows marked *derived* follow from the text \
         without being required by a keyword of it.\n",
    );
    let counted = count(table, results);
    text += "\n| Rows | |\n|---|---|\n";
    for (name, rows) in &counted {
        let _ = writeln!(text, "| {name} | {rows} |");
    }
    for section in &table.section {
        let _ = writeln!(text, "\n## {}\n", section.title);
        if !section.intro.is_empty() {
            let _ = writeln!(text, "{}\n", section.intro);
        }
        text += "| Row | Level | Required | natgw | Result |\n|---|---|---|---|---|\n";
        for row in &section.rows {
            let Row { id, level, requires, natgw, .. } = row;
            let _ = writeln!(text, "| {id} | {level} | {requires} | {natgw} | {} |", result(row, results));
        }
    }
    text
}

/// How many rows came to what.
fn count(table: &Table, results: &Results) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for row in table.section.iter().flat_map(|section| &section.rows) {
        let outcomes: Vec<_> = row.tests.iter().flat_map(|test| results.of(test)).collect();
        let name = match &row.status {
            Some(status) => status,
            None if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Failed) => "failed",
            None if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::NotRun) => "not run whole",
            None => "met",
        };
        *counted.entry(name.to_owned()).or_insert(0) += 1;
    }
    counted
}

/// The README with the count of the rows; `None` if it has no place for it.
fn with_count(readme: &str, table: &Table, results: &Results) -> Option<String> {
    let counted = count(table, results);
    let each: Vec<_> = counted.iter().map(|(name, rows)| format!("{rows} {name}")).collect();
    let rows: usize = counted.values().sum();
    docs::replace(readme, COUNT, "compliance", &format!("{rows} rows: {}.\n", each.join(", ")))
}

/// The last cell of a row.
fn result(row: &Row, results: &Results) -> String {
    if let Some(status) = &row.status {
        return format!("*{status}*");
    }
    let tests = row.tests.iter().map(|test| {
        let outcomes = results.of(test);
        let marks = outcomes.iter().map(|(hook, outcome)| format!("{hook}{}", outcome.mark()));
        format!("`{test}` {}", marks.collect::<Vec<_>>().join(" "))
    });
    tests.collect::<Vec<_>>().join("<br>")
}

/// The results that a document states.
fn stated(document: &str) -> Results {
    let cell = Regex::new(r"`(\w+)` ((?:(?:xdp |tc )?[✔✘·] ?)+)").expect("a constant");
    let mark = Regex::new(r"(xdp |tc )?([✔✘·])").expect("a constant");
    let mut results = Results::default();
    for found in cell.captures_iter(document) {
        for one in mark.captures_iter(&found[2]) {
            let hook = one.get(1).map_or("", |hook| hook.as_str());
            results.state(&found[1], hook, Outcome::of_mark(&one[2]));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{ id = "1", level = "MUST", requires = "r", natgw = "n", tests = ["one", "two"] }"#;

    fn table_of(rows: &str) -> Table {
        toml::from_str(&format!("[[section]]\ntitle = \"t\"\nrows = [{rows}]\n")).unwrap()
    }

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_document_states_the_results_that_it_was_made_of() {
        let mut results = Results::default();
        results.state("one", "xdp ", Outcome::Passed);
        results.state("one", "tc ", Outcome::Failed);
        results.state("two", "", Outcome::Passed);
        let text = document(&table_of(ROW), &results);
        assert!(text.contains("| `one` xdp ✔ tc ✘<br>`two` ✔ |"), "{text}");
        assert!(text.contains("| failed | 1 |"));
        assert_eq!(document(&table_of(ROW), &stated(&text)), text);
    }

    #[test]
    fn a_test_without_a_result_is_not_met() {
        let text = document(&table_of(ROW), &Results::default());
        assert!(text.contains("`one` ·<br>`two` ·") && text.contains("| not run whole | 1 |"), "{text}");
        assert_eq!(document(&table_of(ROW), &stated(&text)), text);
    }

    #[test]
    fn the_readme_counts_the_rows_of_the_document() {
        const PLACE: &str = "a\n<!-- compliance: generated by `cargo xtask compliance` -->\n0 rows\n\
                             <!-- end of compliance -->\nb\n";
        let table = table_of(&format!(
            "{ROW}, {}, {}",
            ROW.replace("\"1\"", "\"2\""),
            r#"{ id = "3", level = "MUST", requires = "r", natgw = "n", status = "not met" }"#
        ));
        let mut results = Results::default();
        results.state("one", "", Outcome::Passed);
        results.state("two", "", Outcome::Passed);
        let readme = with_count(PLACE, &table, &results).unwrap();
        assert!(readme.contains("\n\n3 rows: 2 met, 1 not met.\n\n"), "{readme}");
        assert_eq!(with_count(&readme, &table, &results).as_ref(), Some(&readme));
        results.state("two", "", Outcome::Failed);
        assert_ne!(with_count(&readme, &table, &results).as_ref(), Some(&readme));
        assert_eq!(with_count("no place", &table, &results), None);
    }

    #[test]
    fn a_row_names_tests_that_there_are_or_says_why_not() {
        let sources = [
            source("a/src/x.rs", "#[test]\n    fn one() {}\nfn two() {}"),
            source("tests/tests/d/y.rs", "super::tests![\n    three,\n    four,\n];\nfn three() {}"),
        ];
        let of = |row: &str| doubts(&table_of(row), &sources).len();
        let with = |rest: &str| format!(r#"{{ id = "1", level = "MUST", requires = "r", {rest} }}"#);
        assert_eq!(of(&with(r#"tests = ["one", "three"]"#)), 0);
        assert_eq!(of(&with(r#"tests = ["two"]"#)), 1);
        assert_eq!(of(&with(r#"tests = ["four"]"#)), 1);
        assert_eq!(of(&with(r#"tests = []"#)), 1);
        assert_eq!(of(&with(r#"status = "pending""#)), 0);
        assert_eq!(of(&with(r#"status = "not met""#)), 1);
        assert_eq!(of(&with(r#"status = "not met", natgw = "because""#)), 0);
        assert_eq!(of(&with(r#"status = "done""#)), 1);
        assert_eq!(of(&with(r#"status = "pending", tests = ["one"]"#)), 1);
        assert_eq!(of(&format!("{0}, {0}", with(r#"tests = ["one"]"#))), 1);
    }
}
