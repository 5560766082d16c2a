//! What the docs refer to: links and tests.

use std::collections::HashSet;
use std::path::Path;

use regex_lite::Regex;

use crate::run;
use crate::sources::Source;

/// Heading of the table column that names the tests behind a claim.
const TEST_COLUMN: &str = "Test";
/// What stands there while there is none.
const PENDING: &str = "pending";

/// Every relative link that leads nowhere.
pub fn broken_links(sources: &[Source]) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("the pattern is a constant");
    let mut findings = Vec::new();
    for source in documents(sources) {
        for found in link.captures_iter(&source.text) {
            let target = &found[1];
            if !target.contains("://") && !leads_somewhere(source, target, sources) {
                let line = source.line_at(found.get(0).map_or(0, |found| found.start()));
                findings.push(format!("{}:{line}: the link to {target} leads nowhere", source.path));
            }
        }
    }
    findings
}

/// Every row of a claims table whose test does not exist, or that neither names one nor says that it is pending.
pub fn unproved_claims(sources: &[Source]) -> Vec<String> {
    let known = names(sources);
    let mut findings = Vec::new();
    for source in documents(sources) {
        let mut in_table = false;
        for (number, line) in source.text.lines().enumerate() {
            let Some(cell) = last_cell(line) else {
                in_table = false;
                continue;
            };
            if in_table {
                let complain = |what| format!("{}:{}: {what}", source.path, number + 1);
                findings.extend(doubt(cell, &known).map(complain));
            }
            in_table |= cell == TEST_COLUMN;
        }
    }
    findings
}

/// What is wrong with a claim whose test column says `cell`.
fn doubt(cell: &str, known: &HashSet<&str>) -> Option<String> {
    let mut tests = cell.split('`').skip(1).step_by(2).peekable();
    if tests.peek().is_none() {
        let separator = cell.chars().all(|character| matches!(character, '-' | ':'));
        return (!separator && cell != PENDING).then(|| format!("name the test, or write `{PENDING}`"));
    }
    tests.find(|test| !known.contains(test)).map(|test| format!("there is no test `{test}`"))
}

/// Every word of the Rust sources that could be a test's name: an item, or a string that names a trial.
fn names(sources: &[Source]) -> HashSet<&str> {
    let name = Regex::new(r#"\bfn (\w+)\(|"(\w+)""#).expect("the pattern is a constant");
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    rust.flat_map(|source| name.captures_iter(&source.text).collect::<Vec<_>>())
        .filter_map(|found| found.get(1).or(found.get(2)).map(|name| name.as_str()))
        .collect()
}

fn documents(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".md"))
}

fn last_cell(line: &str) -> Option<&str> {
    line.trim().strip_prefix('|')?.strip_suffix('|')?.rsplit('|').next().map(str::trim)
}

fn leads_somewhere(from: &Source, target: &str, sources: &[Source]) -> bool {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => from.path.clone(),
        file => Path::new(&from.path).with_file_name(file).to_string_lossy().into_owned(),
    };
    if !run::workspace().join(&path).exists() && !sources.iter().any(|source| source.path == path) {
        return false;
    }
    let target = sources.iter().find(|source| source.path == path);
    anchor.is_empty() || target.is_some_and(|target| headings(&target.text).any(|heading| heading == anchor))
}

/// The anchors of a document's headings, as forges make them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title
            .chars()
            .filter(|character| character.is_alphanumeric() || matches!(character, '-' | '_'))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn links_to_files_and_headings_are_followed() {
        let other = source("docs/a.md", "# One word\n## What, exactly?\n");
        let good = "[a](docs/a.md) [b](docs/a.md#what-exactly) [c](#top) [d](https://example.net/x)\n# Top";
        assert!(broken_links(&[source("README.md", good), other]).is_empty());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_reported_with_its_line() {
        let findings = broken_links(&[source("README.md", "\n[a](gone.md) [b](#gone)")]);
        assert_eq!(findings[0], "README.md:2: the link to gone.md leads nowhere");
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn links_start_from_the_document_they_stand_in() {
        assert!(broken_links(&[source("docs/a.md", "[b](b.md)"), source("docs/b.md", "")]).is_empty());
        assert_eq!(broken_links(&[source("docs/a.md", "[b](b.md)"), source("b.md", "")]).len(), 1);
    }

    const TABLE: &str = "| Promise | Test |\n|---|---|\n| one | `it_holds` |\n| two | pending |\n";

    #[test]
    fn a_claim_is_proved_by_a_test_that_exists() {
        assert!(
            unproved_claims(&[source("README.md", TABLE), source("a.rs", "fn it_holds() {}")]).is_empty()
        );
        assert!(
            unproved_claims(&[source("README.md", TABLE), source("a.rs", "trial(\"it_holds\")")]).is_empty()
        );
    }

    #[test]
    fn a_claim_whose_test_is_gone_is_reported() {
        let findings = unproved_claims(&[source("README.md", TABLE), source("a.rs", "fn it_holds_not() {}")]);
        assert_eq!(findings, ["README.md:3: there is no test `it_holds`"]);
    }

    #[test]
    fn a_claim_without_a_test_must_say_so() {
        let table = TABLE.replace("pending", "surely");
        let findings = unproved_claims(&[source("README.md", &table), source("a.rs", "fn it_holds() {}")]);
        assert_eq!(findings, ["README.md:4: name the test, or write `pending`"]);
    }

    #[test]
    fn tables_without_a_test_column_claim_nothing() {
        assert!(
            unproved_claims(&[source("README.md", "| Word | Meaning |\n|---|---|\n| `a` | b |\n")])
                .is_empty()
        );
    }
}
