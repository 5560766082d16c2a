//! The comparison of gateways, run by `cargo xtask bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match natgw_tests::bench::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
