//! Reading what test executables print, and summing it up.

use std::fmt;

use regex_lite::Regex;

use crate::results::{Outcome, Results};

/// The outcome of one suite or of several.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, and suites that ended without a result.
    pub failed: Vec<String>,
    /// Tests that did not run.
    pub skipped: Vec<Skipped>,
    /// What each test came to.
    pub results: Results,
}

/// A test that did not run.
#[derive(Debug, PartialEq)]
pub struct Skipped {
    /// Suite and name.
    pub test: String,
    /// Why it did not run.
    pub reason: String,
}

impl Summary {
    /// Adds another suite's outcome.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
        self.results.add(other.results);
    }

    /// The same outcome, with a failure if `suite` turned out to have no tests at all.
    pub fn not_empty(mut self, suite: &str) -> Self {
        if self == Self::default() {
            self.failed.push(format!("{suite}: has no tests"));
        }
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skipped in &self.skipped {
            writeln!(formatter, "skipped: {}: {}", skipped.test, skipped.reason)?;
        }
        for failed in &self.failed {
            writeln!(formatter, "failed: {failed}")?;
        }
        write!(
            formatter,
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        )
    }
}

const NO_REASON: &str = "no reason given";

/// Reads the output of libtest or libtest-mimic line by line.
pub struct Parser {
    suite: String,
    summary: Summary,
    single: Regex,
    result: Regex,
    failures: usize,
    ignored: usize,
    results: usize,
}

impl Parser {
    /// A parser for the output of `suite`.
    pub fn new(suite: &str) -> Self {
        let regex = |pattern| Regex::new(pattern).expect("the pattern is a constant");
        Self {
            suite: suite.to_owned(),
            summary: Summary::default(),
            single: regex(r"^test (.+?) +\.\.\. (ok|ignored|FAILED)(?:, (.*)| \((.*)\))?$"),
            result: regex(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;"),
            failures: 0,
            ignored: 0,
            results: 0,
        }
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        if let Some(found) = self.result.captures(line) {
            let number = |group: usize| found[group].parse().unwrap_or(0);
            self.summary.passed += number(1);
            self.failures += number(2);
            self.ignored += number(3);
            self.results += 1;
        } else if let Some(found) = self.single.captures(line) {
            let test = format!("{}: {}", self.suite, &found[1]);
            // Of a unit test's path only its own name.
            let name = found[1].rsplit("::").next().unwrap_or_default();
            let outcome = match &found[2] {
                "ok" => Outcome::Passed,
                "FAILED" => Outcome::Failed,
                _ => Outcome::NotRun,
            };
            self.summary.results.note(name, outcome);
            if outcome == Outcome::Failed {
                self.summary.failed.push(test);
            } else if outcome == Outcome::NotRun {
                let reason = found.get(3).or(found.get(4)).map_or(NO_REASON, |reason| reason.as_str());
                self.summary.skipped.push(Skipped { test, reason: reason.to_owned() });
            }
        }
    }

    /// The outcome, given whether the executable ended with success.
    ///
    /// A suite that died, or that failed without naming a test, counts as a failure of its own: nothing that went
    /// wrong may look like a pass.
    pub fn finish(mut self, success: bool) -> Summary {
        let nameless = format!("{}: a test whose line was not understood", self.suite);
        for _ in self.summary.failed.len()..self.failures {
            self.summary.failed.push(nameless.clone());
        }
        for _ in self.summary.skipped.len()..self.ignored {
            self.summary.skipped.push(Skipped { test: nameless.clone(), reason: NO_REASON.to_owned() });
        }
        if self.results == 0 {
            self.summary.failed.push(format!("{}: ended without a result", self.suite));
        } else if !success && self.summary.failed.is_empty() {
            self.summary.failed.push(format!("{}: failed after its last test", self.suite));
        }
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str], success: bool) -> Summary {
        let mut parser = Parser::new("lab");
        for line in lines {
            parser.line(line);
        }
        parser.finish(success)
    }

    const OK: &str =
        "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
    const BAD: &str = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn passed_failed_and_skipped_tests_are_counted() {
        let summary = parse(
            &["running 5 tests", "test a ... ok", "test b ... FAILED", "test c ... ignored", BAD],
            false,
        );
        assert_eq!(summary.passed, 3);
        assert_eq!(summary.failed, ["lab: b"]);
        assert_eq!(summary.to_string().lines().last(), Some("3 passed, 1 failed, 1 skipped"));
    }

    #[test]
    fn a_skipped_test_is_listed_with_its_reason() {
        for line in
            ["test needs_a_nic ... ignored, no second NIC", "test needs_a_nic ... ignored (no second NIC)"]
        {
            let summary = parse(&[line, OK], true);
            let skipped = Skipped { test: "lab: needs_a_nic".into(), reason: "no second NIC".into() };
            assert_eq!(summary.skipped, [skipped]);
        }
        let summary = parse(&["test needs_a_nic ... ignored, no second NIC", OK], true);
        assert!(summary.to_string().starts_with("skipped: lab: needs_a_nic: no second NIC\n"));
    }

    #[test]
    fn several_results_of_one_run_are_summed() {
        assert_eq!(parse(&[OK, OK], true).passed, 6);
    }

    #[test]
    fn a_suite_that_dies_before_its_result_is_a_failure() {
        assert_eq!(parse(&["test a ... ok"], false).failed, ["lab: ended without a result"]);
        assert_eq!(parse(&[], true).failed.len(), 1);
    }

    #[test]
    fn a_suite_that_fails_after_all_tests_passed_is_a_failure() {
        assert_eq!(parse(&[OK], false).failed, ["lab: failed after its last test"]);
    }

    #[test]
    fn what_no_line_names_is_counted_all_the_same() {
        assert_eq!(parse(&[BAD], false).failed.len(), 1);
        assert_eq!(parse(&["test a ... printed by the test itself", "ignored", OK], true).skipped.len(), 1);
    }

    #[test]
    fn a_suite_without_tests_is_a_failure_where_tests_are_expected() {
        assert_eq!(Summary::default().not_empty("lab").failed, ["lab: has no tests"]);
        assert!(parse(&[OK], true).not_empty("lab").failed.is_empty());
    }

    #[test]
    fn what_tests_print_themselves_is_not_taken_for_a_result() {
        assert_eq!(parse(&["testing ... ignored", "result: test ok. 9 passed;", OK], true).passed, 3);
    }
}
