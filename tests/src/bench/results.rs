//! What was measured: series of runs, their medians and their spread.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// CPU nanoseconds per packet from internal hosts.
    EstablishedOutbound,
    /// CPU nanoseconds per packet from remotes.
    EstablishedInbound,
    /// CPU nanoseconds per packet, every one the first of its session.
    New,
    /// The same where all sessions are of one host to one remote.
    NewOneHost,
    /// Nanoseconds that the data plane takes for a first packet toward a remote with so many sessions.
    NewAtFill,
    /// The same, what one in a thousand takes longer than.
    NewAtFillP999,
    /// Gbit/s of TCP; `sessions` are streams.
    TcpBulk,
    /// TCP connections per second, each with a request and an answer; `sessions` are in flight.
    TcpCrr,
    /// Median of a TCP request's latency, microseconds.
    TcpRrP50,
    /// 99th percentile, microseconds.
    TcpRrP99,
    /// 99.9th percentile, microseconds.
    TcpRrP999,
    /// Bytes of kernel memory per session.
    BytesPerSession,
    /// CPU milliseconds of an ageing pass over all sessions.
    AgeingCpu,
}

impl Scenario {
    /// The unit of its figures.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::EstablishedOutbound | Self::EstablishedInbound | Self::New | Self::NewOneHost => {
                "CPU ns per packet"
            }
            Self::NewAtFill | Self::NewAtFillP999 => "ns",
            Self::TcpBulk => "Gbit/s",
            Self::TcpCrr => "connections/s",
            Self::TcpRrP50 | Self::TcpRrP99 | Self::TcpRrP999 => "µs",
            Self::BytesPerSession => "bytes",
            Self::AgeingCpu => "CPU ms",
        }
    }

    /// By how much of the median its runs may differ: what the wall clock tells varies more than CPU time.
    #[must_use]
    pub const fn tolerance(self) -> f64 {
        match self {
            Self::EstablishedOutbound | Self::EstablishedInbound | Self::New | Self::NewOneHost => 0.10,
            Self::TcpBulk | Self::TcpCrr | Self::TcpRrP50 | Self::TcpRrP99 | Self::AgeingCpu => 0.20,
            Self::NewAtFill => 0.20,
            Self::TcpRrP999 | Self::NewAtFillP999 => 0.50,
            Self::BytesPerSession => 0.0,
        }
    }
}

/// What a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// What is measured.
    pub scenario: Scenario,
    /// Sessions, streams or connections in flight.
    pub sessions: u32,
    /// Frame size with the frame check sequence; 0 where frames have many sizes.
    pub bytes: u32,
    /// The gateway's name.
    pub gateway: String,
}

/// Every run's figure of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the order in which they were measured.
    pub runs: Vec<f64>,
}

impl Series {
    /// The figure that counts.
    #[must_use]
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        }
    }

    /// The lowest and the highest run.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN))
    }

    /// By how much of the median the runs differ; of five or more, the lowest and the highest do not count.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let sorted = self.sorted();
        let outliers = usize::from(sorted.len() >= 5);
        let kept = &sorted[outliers..sorted.len() - outliers];
        match (kept.first(), kept.last()) {
            (Some(low), Some(high)) => (high - low) / self.median(),
            _ => f64::NAN,
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Everything that was measured, and why the rest was not.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// By key.
    pub series: BTreeMap<Key, Series>,
    /// Gateways that could not be started, and why.
    pub unavailable: BTreeMap<String, String>,
    /// Measurements that failed.
    pub failures: Vec<String>,
    /// Runs before which the core was disturbed however long one waited.
    pub noisy_runs: u32,
    /// All runs.
    pub runs: u32,
}

impl Results {
    /// Adds a run.
    pub fn add(&mut self, scenario: Scenario, sessions: u32, bytes: u32, gateway: &str, figure: f64) {
        let key = Key { scenario, sessions, bytes, gateway: gateway.to_owned() };
        self.series.entry(key).or_default().runs.push(figure);
    }

    /// The series of a key.
    #[must_use]
    pub fn get(&self, scenario: Scenario, sessions: u32, bytes: u32, gateway: &str) -> Option<&Series> {
        self.series.get(&Key { scenario, sessions, bytes, gateway: gateway.to_owned() })
    }

    /// Whether too many runs were disturbed for any of it to be reported.
    #[must_use]
    pub fn too_noisy(&self) -> bool {
        self.noisy_runs * 5 > self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(runs: &[f64]) -> Series {
        Series { runs: runs.to_vec() }
    }

    #[test]
    fn the_median_is_the_middle_run_or_between_the_two() {
        assert_eq!(series(&[9.0, 1.0, 5.0]).median(), 5.0);
        assert_eq!(series(&[4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert!(series(&[]).median().is_nan());
    }

    #[test]
    fn one_outlier_of_five_runs_on_each_side_is_no_spread() {
        assert_eq!(series(&[100.0, 500.0, 100.0, 1.0, 100.0]).spread(), 0.0);
        assert_eq!(series(&[90.0, 100.0, 110.0]).spread(), 0.2);
        assert_eq!(series(&[90.0, 100.0, 110.0]).range(), (90.0, 110.0));
    }

    #[test]
    fn more_than_a_fifth_of_disturbed_runs_is_too_noisy() {
        let results = |noisy_runs| Results { noisy_runs, runs: 10, ..Results::default() };
        assert!(!results(2).too_noisy());
        assert!(results(3).too_noisy());
    }
}
