//! The product demo, run by `cargo xtask demo`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match natgw_tests::demo::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
