//! Writing to stdout, where a reader that has seen enough is no failure.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::table::{Row, table};

/// Writes `text` as it is.
///
/// # Errors
///
/// When stdout cannot be written, unless its reader has gone.
pub(super) fn print(text: &str) -> Result<()> {
    write(|stdout| stdout.write_all(text.as_bytes())).map(drop)
}

/// Writes `value` as JSON for programs: indented, with a newline at the end.
///
/// # Errors
///
/// As [`print()`].
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    write(|stdout| {
        serde_json::to_writer_pretty(&mut *stdout, value)?;
        stdout.write_all(b"\n")
    })
    .map(drop)
}

/// Writes `rows` as JSON or as a table.
///
/// # Errors
///
/// As [`print()`].
pub(super) fn list<R: Row + Serialize>(rows: &[R], json: bool) -> Result<ExitCode> {
    if json {
        print_json(&rows)?
    } else {
        print(&table(rows))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes what `frame` gives, once, or `every` so many seconds until interrupted. On a terminal each takes the
/// place of the one before, elsewhere they follow each other after a blank line.
///
/// # Errors
///
/// As [`print()`], and what `frame` fails with.
pub(super) fn watch(every: Option<u32>, mut frame: impl FnMut() -> Result<String>) -> Result<ExitCode> {
    let Some(seconds) = every else {
        print(&frame()?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let between = if io::stdout().is_terminal() { CLEAR } else { "" };
    let after = if io::stdout().is_terminal() { "" } else { "\n" };
    loop {
        let text = format!("{between}{}{after}", frame()?);
        if write(|stdout| stdout.write_all(text.as_bytes()))? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(Duration::from_secs(seconds.into()));
    }
}

/// Cursor to the upper left corner, then everything below it erased (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Who reads what is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Here,
    Gone,
}

fn write(content: impl FnOnce(&mut BufWriter<StdoutLock<'_>>) -> io::Result<()>) -> Result<Reader> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    match content(&mut stdout).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Here),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            // What is left in the buffer has nobody to go to.
            let _ = stdout.into_parts();
            Ok(Reader::Gone)
        }
        Err(error) => Err(error).context("stdout cannot be written"),
    }
}
