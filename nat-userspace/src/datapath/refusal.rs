//! What the kernel says when it refuses a program, in a few lines.

use aya::programs::ProgramError;
use nix::sys::utsname::uname;

use super::{DatapathError, error::with_sources};

/// Lines of the verifier's log that an error shows: at its end stands the reason.
const LINES: usize = 8;
/// Characters of each: the verifier's registers may fill a screen.
const LENGTH: usize = 160;
/// Lines behind the reason that say nothing about it begin so.
const STATISTICS: [&str; 2] = ["verification time ", "stack depth "];

/// For `map_err` on the loading of a program. The whole of the verifier's log goes to who debugs.
pub(super) fn refused(program: &'static str) -> impl FnOnce(ProgramError) -> DatapathError {
    move |error| {
        let (cause, log) = if let ProgramError::LoadError { io_error, verifier_log } = error {
            (io_error.to_string(), verifier_log.to_string())
        } else {
            (with_sources(&error), String::new())
        };
        if !log.is_empty() {
            tracing::debug!("the verifier on {program}:\n{log}");
        }
        let kernel = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
        DatapathError::Load { program, kernel, cause, log: end_of(&log) }
    }
}

/// The end of a verifier's log as the end of an error: nothing if it is empty.
fn end_of(log: &str) -> String {
    let says = |line: &&str| !line.is_empty() && !STATISTICS.iter().any(|other| line.starts_with(other));
    let lines: Vec<_> = log.lines().map(str::trim_end).filter(says).collect();
    if lines.is_empty() {
        return String::new();
    }
    let last =
        lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  {}", beginning(line)));
    format!("; its verifier ends with{}\nNATGW_LOG=debug shows the whole of it", last.collect::<String>())
}

fn beginning(line: &str) -> String {
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_last_lines_remain() {
        let mut log: String = (0..1_000).map(|number| format!("{number}: (bf) r1 = r2\n")).collect();
        log.push_str(
            "R1 invalid mem access 'scalar'\nverification time 700 usec\nstack depth 0+0+0\nprocessed 999 insns\n\n",
        );
        let expected = "; its verifier ends with\n  994: (bf) r1 = r2\n  995: (bf) r1 = r2\n  996: (bf) r1 = r2\n  \
                        997: (bf) r1 = r2\n  998: (bf) r1 = r2\n  999: (bf) r1 = r2\n  \
                        R1 invalid mem access 'scalar'\n  processed 999 insns\nNATGW_LOG=debug shows the whole of it";
        assert_eq!(end_of(&log), expected);
    }

    #[test]
    fn a_short_log_is_shown_whole_and_an_empty_one_not_at_all() {
        let expected =
            "; its verifier ends with\n  BPF program is too large\nNATGW_LOG=debug shows the whole of it";
        assert_eq!(end_of("BPF program is too large\n"), expected);
        assert_eq!(end_of(""), "");
        assert_eq!(end_of("\nverification time 1 usec\n"), "");
    }

    #[test]
    fn a_long_line_is_cut() {
        let end = end_of(&format!("R0={}\n", "é".repeat(1_000)));
        let line = end.lines().nth(1).unwrap();
        assert_eq!(line, format!("  R0={}...", "é".repeat(LENGTH - 3)));
    }

    #[test]
    fn whoever_lacks_a_log_is_told_the_cause_in_one_line() {
        let error = refused("natgw")(ProgramError::AlreadyLoaded).to_string();
        assert!(error.contains("program natgw: ") && error.lines().count() == 1, "{error}");
    }
}
