//! What every test came to when it last ran, kept below `target`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run;

/// What a test came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was skipped, or there is no result of it.
    NotRun,
}

impl Outcome {
    const ALL: [(Self, &str, &str); 3] =
        [(Self::Passed, "passed", "✔"), (Self::Failed, "failed", "✘"), (Self::NotRun, "not run", "·")];

    /// How documents write it.
    pub fn mark(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or("·", |(.., mark)| mark)
    }

    /// What a document has written so.
    pub fn of_mark(mark: &str) -> Self {
        Self::ALL.iter().find(|(.., known)| *known == mark).map_or(Self::NotRun, |(outcome, ..)| *outcome)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or("not run", |(_, name, _)| name)
    }

    fn of_name(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map_or(Self::NotRun, |(outcome, ..)| *outcome)
    }
}

/// Suffix of a test's name at the second of the two hooks.
const AT_TC: &str = "_on_tc";

/// The latest outcome of each test, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results(BTreeMap<String, Outcome>);

impl Results {
    /// Notes an outcome.
    pub fn note(&mut self, test: &str, outcome: Outcome) {
        self.0.insert(test.to_owned(), outcome);
    }

    /// Adds those of another suite.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Notes what a document says of a test at a hook.
    pub fn state(&mut self, test: &str, hook: &str, outcome: Outcome) {
        match hook.trim() {
            "tc" => self.note(&format!("{test}{AT_TC}"), outcome),
            _ => self.note(test, outcome),
        }
    }

    /// What a test came to: once, or at each hook that it runs at.
    pub fn of(&self, test: &str) -> Vec<(&'static str, Outcome)> {
        let first = self.0.get(test).copied();
        match (first, self.0.get(&format!("{test}{AT_TC}")).copied()) {
            (first, None) => vec![("", first.unwrap_or(Outcome::NotRun))],
            (None, Some(tc)) => vec![("tc ", tc)],
            (Some(xdp), Some(tc)) => vec![("xdp ", xdp), ("tc ", tc)],
        }
    }

    /// The results that are kept; none if there was no run.
    pub fn read() -> Result<Self> {
        let Ok(text) = fs::read_to_string(path()) else { return Ok(Self::default()) };
        let kept: BTreeMap<String, Value> =
            serde_json::from_str(&text).with_context(|| format!("{}: no results", path().display()))?;
        let named =
            kept.into_iter().map(|(test, value)| (test, Outcome::of_name(value.as_str().unwrap_or(""))));
        Ok(Self(named.collect()))
    }

    /// Adds these to those that are kept; after a run of all tests, those are forgotten that have gone.
    pub fn keep(self, whole: bool) -> Result<()> {
        let mut kept = if whole { Self::default() } else { Self::read().unwrap_or_default() };
        kept.0.extend(self.0);
        let named: BTreeMap<_, _> = kept.0.iter().map(|(test, outcome)| (test, outcome.name())).collect();
        let text = serde_json::to_string_pretty(&named)?;
        fs::write(path(), text).with_context(|| format!("cannot write {}", path().display()))
    }
}

fn path() -> PathBuf {
    run::workspace().join("target/test-results.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_at_two_hooks_has_two_outcomes() {
        let mut results = Results::default();
        results.note("a", Outcome::Passed);
        results.note("a_on_tc", Outcome::Failed);
        results.note("b", Outcome::Passed);
        results.note("c_on_tc", Outcome::Passed);
        assert_eq!(results.of("a"), [("xdp ", Outcome::Passed), ("tc ", Outcome::Failed)]);
        assert_eq!(results.of("b"), [("", Outcome::Passed)]);
        assert_eq!(results.of("c"), [("tc ", Outcome::Passed)]);
        assert_eq!(results.of("d"), [("", Outcome::NotRun)]);
    }

    #[test]
    fn an_outcome_survives_its_mark_and_its_name() {
        for (outcome, name, mark) in Outcome::ALL {
            assert_eq!((Outcome::of_mark(mark), Outcome::of_name(name)), (outcome, outcome));
            assert_eq!((outcome.mark(), outcome.name()), (mark, name));
        }
    }
}
