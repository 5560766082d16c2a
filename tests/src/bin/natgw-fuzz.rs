//! The fuzzer, run by `cargo xtask fuzz`.

use std::process::ExitCode;

fn main() -> ExitCode {
    natgw_tests::fuzz::main().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
