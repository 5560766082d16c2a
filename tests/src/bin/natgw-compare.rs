//! The comparison of gateways, run by `cargo xtask bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    natgw_tests::bench::run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
