//! Where a configuration came from, and the collecting of what is wrong with it.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use super::error::{Place, Problem};

/// The bytes of a file, or the indices of flags, that a value was read from.
pub(super) type Span = Range<usize>;

/// Turns spans into places.
pub(super) enum Source<'a> {
    /// Spans are byte ranges of the file's text.
    File {
        /// As given by the user.
        path: &'a Path,
        /// Its whole content.
        text: &'a str,
    },
    /// Spans start at an index of this list of flags with their values.
    Flags(Vec<String>),
}

impl<'a> Source<'a> {
    /// The file at `path` with this `text`.
    pub(super) const fn file(path: &'a Path, text: &'a str) -> Self {
        Self::File { path, text }
    }

    /// The problem that at `span` something is wrong with `object`, and what to write instead.
    pub(super) fn problem(
        &self,
        span: &Span,
        object: impl Display,
        message: impl Display,
        remedy: impl Display,
    ) -> Problem {
        Problem {
            place: self.place(span),
            object: printable(&object),
            message: printable(&message),
            remedy: printable(&remedy),
        }
    }

    /// Where `span` stands.
    pub(super) fn place(&self, span: &Span) -> Place {
        match self {
            Self::File { path, text } => {
                let before = text.as_bytes().iter().take(span.start);
                let line = 1 + before.filter(|byte| **byte == b'\n').count();
                Place::Line { file: path.to_path_buf(), line }
            }
            Self::Flags(flags) => Place::Flag {
                flag: flags.get(span.start).cloned().unwrap_or_else(|| "command line".to_owned()),
            },
        }
    }
}

/// Collects problems; a sieve ends with [`Report::finish`].
pub(super) struct Report<'a> {
    source: &'a Source<'a>,
    problems: Vec<(Span, Problem)>,
}

impl<'a> Report<'a> {
    /// An empty report about `source`.
    pub(super) const fn new(source: &'a Source<'a>) -> Self {
        Self { source, problems: Vec::new() }
    }

    /// Notes that at `span` something is wrong with `object`, and what to write instead.
    pub(super) fn add(
        &mut self,
        span: Span,
        object: impl Display,
        message: impl Display,
        remedy: impl Display,
    ) {
        let problem = self.source.problem(&span, object, message, remedy);
        self.problems.push((span, problem));
    }

    /// `value` if nothing was wrong, else every problem in the order of the source.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        let mut problems = self.problems;
        problems.sort_by_key(|(span, _)| span.start);
        let mut problems: Vec<_> = problems.into_iter().map(|(_, problem)| problem).collect();
        if matches!(self.source, Source::Flags(_)) {
            // One flag stands for several objects; its first problem explains the others.
            problems.dedup_by(|later, first| later.place == first.place);
        }
        Err(problems)
    }
}

/// The text on one line: what a file says must not move the cursor of whoever reads the error.
fn printable(text: &impl Display) -> String {
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.to_string().chars().map(escape).collect()
}
