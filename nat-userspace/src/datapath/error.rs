//! What can go wrong between natgw and the kernel.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A failure of the data plane's handling.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The kernel refused one of the programs.
    #[error(
        "Linux {kernel} refuses the data plane's program {program}: {cause}; natgw needs Linux 5.18 or later with BTF{log}"
    )]
    Load {
        /// Which program.
        program: &'static str,
        /// The kernel's release.
        kernel: String,
        /// The kernel's answer.
        cause: String,
        /// The end of the verifier's log, beginning with "; its verifier", or nothing.
        log: String,
    },
    /// The object could not be read or its maps created.
    #[error(
        "the data plane cannot be set up: {0}; the flow table may not fit into memory, or a limit on locked memory is in force"
    )]
    Setup(String),
    /// A map is missing, or not what this version expects.
    #[error("map {name} {problem}; run `natgw detach` and start again")]
    Map {
        /// The map.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A map could not be read or written.
    #[error("cannot {what} map {name}: {cause}")]
    Access {
        /// Read, write...
        what: &'static str,
        /// The map.
        name: &'static str,
        /// The kernel's answer.
        cause: String,
    },
    /// A program could not be attached.
    #[error("cannot attach to interface {interface}: {cause}{remedy}")]
    Attach {
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        cause: String,
        /// What to do about it, beginning with "; ", or nothing.
        remedy: &'static str,
        /// Whether another program holds the interface: no reason to pass it by at another hook.
        held: bool,
    },
    /// A program could not be taken off.
    #[error(
        "cannot take natgw's TC filter off interface {interface}: {cause}; `tc filter del dev {interface} ingress prio 1` does"
    )]
    Detach {
        /// The interface's name.
        interface: String,
        /// The kernel's answer.
        cause: String,
    },
    /// A file of the pin directory could not be handled.
    #[error("cannot {what} {path}: {cause}")]
    Pin {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        cause: String,
    },
    /// Nothing is pinned there.
    #[error("no gateway is set up under {0}; start one with `natgw run`, or name its --pin-dir")]
    NotRunning(PathBuf),
    /// A program could not be run from user space.
    #[error("cannot run the data plane's program {program}: {cause}")]
    TestRun {
        /// Which program.
        program: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
}

impl DatapathError {
    /// For `map_err` on access to a map.
    pub(super) fn access<E: std::error::Error>(
        what: &'static str,
        name: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |cause| Self::Access { what, name, cause: with_sources(&cause) }
    }

    /// For `map_err` on the handling of a pinned file.
    pub(super) fn pin<E: std::error::Error>(
        what: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |cause| Self::Pin { what, path, cause: with_sources(&cause) }
    }
}

/// The kernel's answer to a request to run a program.
pub(super) fn answer(error: aya::programs::ProgramError) -> io::Error {
    if let aya::programs::ProgramError::SyscallError(error) = error {
        return error.io_error;
    }
    io::Error::other(error)
}

/// An error with everything that caused it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
