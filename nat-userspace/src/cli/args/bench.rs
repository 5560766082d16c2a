//! `natgw bench`.

use clap::Args;

/// `natgw bench`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  natgw bench
  natgw bench --sessions 1,1000,100000 --packets 5000000
  natgw bench --json | jq .

Exit codes:
  0  measured
  2  failure or bad input")]
pub struct BenchArgs {
    /// Numbers of sessions to measure at, 1 to 1048576
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,1000,100000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(nat_common::bench::MAX_FLOWS)))]
    pub sessions: Vec<u32>,

    /// Packets per measurement
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub packets: u32,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
