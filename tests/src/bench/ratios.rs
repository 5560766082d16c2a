//! The ratios by which natgw is judged, by the names under which they are reported.

use std::collections::BTreeMap;

use crate::bench::fill;
use crate::bench::gateway::Kind;
use crate::bench::results::{Results, Scenario, Series};

use Formula::{Costs, Figure, Growth, Rates};
use Kind::{Bare, BareTc, NatgwAuto, NatgwTc, NatgwXdp, Nftables, Routing};
use Scenario::{
    AgeingCpu, BytesPerSession, EstablishedInbound, EstablishedOutbound, New, NewAtFill, TcpBulk, TcpCrr,
    TcpRrP99,
};

/// One ratio.
pub struct Ratio {
    /// Its name in the JSON.
    pub name: &'static str,
    /// What it should be.
    pub bound: Bound,
    formula: Formula,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
}

/// How a ratio comes from medians; more is better but for plain figures.
enum Formula {
    /// Theirs by ours: what costs less is faster. Several scenarios are averaged.
    Costs(&'static [Scenario], u32, u32, Kind, Kind),
    /// Ours by theirs, summed up over several numbers of streams.
    Rates(Scenario, &'static [u32], Kind, Kind),
    /// What ours costs at the first fill of a remote's ports, by what it costs at the second; in thousandths.
    Growth(u32, u32, usize),
    /// Ours alone.
    Figure(Scenario, Kind),
}

const BOTH: &[Scenario] = &[EstablishedOutbound, EstablishedInbound];
const SMALL: u32 = 64;
const K: u32 = 1_000;
const M: u32 = 1_000_000;
/// Connections in flight of connect-request-close.
pub const IN_FLIGHT: u32 = 64;
/// Streams of TCP in bulk.
pub const STREAMS: &[u32] = &[1, 8];

/// Every ratio, in the order of the report.
pub const RATIOS: [Ratio; 19] = [
    ratio("xdp_established_1k_vs_bare", 0.75, Costs(BOTH, K, SMALL, NatgwXdp, Bare)),
    ratio("xdp_established_1m_vs_bare", 0.42, Costs(BOTH, M, SMALL, NatgwXdp, Bare)),
    ratio("xdp_established_1k_vs_nft", 4.2, Costs(BOTH, K, SMALL, NatgwXdp, Nftables)),
    ratio("xdp_established_1m_vs_nft", 3.2, Costs(BOTH, M, SMALL, NatgwXdp, Nftables)),
    ratio("xdp_new_50k_vs_nft", 2.7, Costs(&[New], 50 * K, SMALL, NatgwXdp, Nftables)),
    ratio("xdp_new_1m_vs_nft", 2.7, Costs(&[New], M, SMALL, NatgwXdp, Nftables)),
    ratio("tc_established_1k_vs_bare", 0.75, Costs(BOTH, K, SMALL, NatgwTc, BareTc)),
    ratio("tc_established_1k_vs_nft", 1.5, Costs(BOTH, K, SMALL, NatgwTc, Nftables)),
    ratio("tc_established_1m_vs_nft", 1.5, Costs(BOTH, M, SMALL, NatgwTc, Nftables)),
    ratio("tc_new_50k_vs_nft", 1.6, Costs(&[New], 50 * K, SMALL, NatgwTc, Nftables)),
    ratio("tcp_bulk_auto_vs_routing", 0.97, Rates(TcpBulk, STREAMS, NatgwAuto, Routing)),
    ratio("tcp_crr_auto_vs_nft", 1.15, Rates(TcpCrr, &[IN_FLIGHT], NatgwAuto, Nftables)),
    ratio("tcp_rr_p99_nft_vs_auto", 1.08, Costs(&[TcpRrP99], 1, 0, NatgwAuto, Nftables)),
    Ratio {
        name: "bytes_per_session",
        bound: Bound::AtMost(288.0),
        formula: Figure(BytesPerSession, NatgwXdp),
    },
    Ratio { name: "ageing_1m_cpu_ms", bound: Bound::AtMost(150.0), formula: Figure(AgeingCpu, NatgwXdp) },
    growth("new_at_99_vs_10_percent_1_cpu", 2.0, 990, 1),
    growth("new_at_99_vs_10_percent_2_cpus", 2.0, 990, 2),
    growth("new_at_99_9_vs_10_percent_1_cpu", 4.0, 999, 1),
    growth("new_at_99_9_vs_10_percent_2_cpus", 4.0, 999, 2),
];

const fn growth(name: &'static str, most: f64, fill: u32, processors: usize) -> Ratio {
    Ratio { name, bound: Bound::AtMost(most), formula: Growth(fill, 100, processors) }
}

const fn ratio(name: &'static str, least: f64, formula: Formula) -> Ratio {
    Ratio { name, bound: Bound::AtLeast(least), formula }
}

/// The ratios that could be formed, and why the others could not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formed {
    /// By name.
    pub ratios: BTreeMap<&'static str, f64>,
    /// By name.
    pub not_measured: BTreeMap<&'static str, String>,
}

/// Forms every ratio; those of series that vary too much only if `noisy`.
#[must_use]
pub fn form(results: &Results, noisy: bool) -> Formed {
    let mut formed = Formed::default();
    for ratio in &RATIOS {
        let value = if results.too_noisy() && !noisy {
            Err(format!("the core was disturbed in {} of {} runs", results.noisy_runs, results.runs))
        } else {
            Reader { results, noisy }.value(&ratio.formula)
        };
        match value {
            Ok(value) => drop(formed.ratios.insert(ratio.name, value)),
            Err(why) => drop(formed.not_measured.insert(ratio.name, why)),
        }
    }
    formed
}

impl Bound {
    /// Whether `value` keeps to it.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

struct Reader<'a> {
    results: &'a Results,
    noisy: bool,
}

impl Reader<'_> {
    fn value(&self, formula: &Formula) -> Result<f64, String> {
        match formula {
            Costs(scenarios, sessions, bytes, ours, theirs) => {
                let sum = |kind: &Kind| {
                    scenarios
                        .iter()
                        .map(|scenario| self.median(*scenario, *sessions, *bytes, &kind.to_string()))
                        .sum::<Result<f64, String>>()
                };
                let (ours, theirs) = (sum(ours)?, sum(theirs)?);
                Ok(theirs / ours)
            }
            Rates(scenario, streams, ours, theirs) => {
                let sum = |kind: &Kind| {
                    streams
                        .iter()
                        .map(|streams| self.median(*scenario, *streams, 0, &kind.to_string()))
                        .sum::<Result<f64, String>>()
                };
                let (ours, theirs) = (sum(ours)?, sum(theirs)?);
                Ok(ours / theirs)
            }
            Growth(full, empty, processors) => {
                let name = fill::name(*processors);
                let cost = |fill| self.median(NewAtFill, fill::sessions(fill), SMALL, &name);
                Ok(cost(*full)? / cost(*empty)?)
            }
            Figure(scenario, kind) => self.median(*scenario, M, 0, &kind.to_string()),
        }
    }

    fn median(&self, scenario: Scenario, sessions: u32, bytes: u32, name: &str) -> Result<f64, String> {
        let Some(series) = self.results.get(scenario, sessions, bytes, name) else {
            return Err(match self.results.unavailable.get(name) {
                Some(why) => format!("{name} is not available: {why}"),
                None => format!("{name} was not measured at {sessions}"),
            });
        };
        self.steady(series, scenario, name)
    }

    fn steady(&self, series: &Series, scenario: Scenario, name: &str) -> Result<f64, String> {
        let spread = series.spread();
        if spread > scenario.tolerance() && !self.noisy {
            let (spread, most) = (spread * 100.0, scenario.tolerance() * 100.0);
            return Err(format!(
                "too noisy: the runs of {name} differ by {spread:.0} %, at most {most:.0} %"
            ));
        }
        Ok(series.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of all scenarios that ratios need: natgw always takes half of what the others take.
    fn complete() -> Results {
        let mut results = Results { runs: 10, ..Results::default() };
        for (kind, cost) in [(NatgwXdp, 200.0), (NatgwTc, 200.0), (NatgwAuto, 200.0), (Bare, 100.0)]
            .into_iter()
            .chain([(BareTc, 100.0), (Nftables, 800.0), (Routing, 400.0)])
        {
            let name = kind.to_string();
            for sessions in [K, 50 * K, M] {
                for scenario in [EstablishedOutbound, EstablishedInbound, New] {
                    results.add(scenario, sessions, SMALL, &name, cost);
                }
            }
            for streams in STREAMS {
                results.add(TcpBulk, *streams, 0, &name, cost);
            }
            results.add(TcpCrr, IN_FLIGHT, 0, &name, cost);
            results.add(TcpRrP99, 1, 0, &name, cost);
            results.add(BytesPerSession, M, 0, &name, 250.0);
            results.add(AgeingCpu, M, 0, &name, 90.0);
        }
        for processors in fill::PROCESSORS {
            for (fill, cost) in [(100, 500.0), (990, 600.0), (999, 1_000.0)] {
                let name = fill::name(processors);
                results.add(NewAtFill, fill::sessions(fill), SMALL, &name, cost);
            }
        }
        results
    }

    #[test]
    fn all_ratios_are_formed_from_a_complete_measurement() {
        let formed = form(&complete(), false);
        assert!(formed.not_measured.is_empty(), "{:?}", formed.not_measured);
        let names: Vec<_> = formed.ratios.keys().copied().collect();
        assert_eq!(
            names,
            [
                "ageing_1m_cpu_ms",
                "bytes_per_session",
                "new_at_99_9_vs_10_percent_1_cpu",
                "new_at_99_9_vs_10_percent_2_cpus",
                "new_at_99_vs_10_percent_1_cpu",
                "new_at_99_vs_10_percent_2_cpus",
                "tc_established_1k_vs_bare",
                "tc_established_1k_vs_nft",
                "tc_established_1m_vs_nft",
                "tc_new_50k_vs_nft",
                "tcp_bulk_auto_vs_routing",
                "tcp_crr_auto_vs_nft",
                "tcp_rr_p99_nft_vs_auto",
                "xdp_established_1k_vs_bare",
                "xdp_established_1k_vs_nft",
                "xdp_established_1m_vs_bare",
                "xdp_established_1m_vs_nft",
                "xdp_new_1m_vs_nft",
                "xdp_new_50k_vs_nft",
            ]
        );
    }

    #[test]
    fn a_ratio_is_higher_the_faster_natgw_is() {
        let ratios = form(&complete(), false).ratios;
        assert_eq!(ratios["xdp_established_1k_vs_bare"], 0.5);
        assert_eq!(ratios["xdp_established_1m_vs_nft"], 4.0);
        assert_eq!(ratios["tcp_rr_p99_nft_vs_auto"], 4.0);
        assert_eq!(ratios["tcp_bulk_auto_vs_routing"], 0.5);
        assert_eq!(ratios["ageing_1m_cpu_ms"], 90.0);
        assert_eq!(ratios["new_at_99_9_vs_10_percent_2_cpus"], 2.0);
    }

    #[test]
    fn both_directions_count_in_a_ratio() {
        let mut results = complete();
        for key in [EstablishedOutbound, EstablishedInbound] {
            let series = results.series.iter_mut().find(|(held, _)| {
                held.scenario == key && held.sessions == K && held.gateway == NatgwXdp.to_string()
            });
            series.unwrap().1.runs = vec![if key == EstablishedInbound { 300.0 } else { 100.0 }];
        }
        assert_eq!(form(&results, false).ratios["xdp_established_1k_vs_bare"], 0.5);
    }

    #[test]
    fn what_is_missing_is_told_with_its_reason_and_not_as_zero() {
        let mut results = complete();
        results.series.retain(|key, _| key.gateway != NatgwTc.to_string());
        results.unavailable.insert(NatgwTc.to_string(), "unknown mode".into());
        let formed = form(&results, false);
        assert!(!formed.ratios.contains_key("tc_new_50k_vs_nft"));
        assert_eq!(formed.not_measured["tc_new_50k_vs_nft"], "natgw TC is not available: unknown mode");
    }

    #[test]
    fn a_series_that_varies_too_much_gives_no_ratio_unless_noise_is_allowed() {
        let mut results = complete();
        for figure in [700.0, 900.0] {
            results.add(New, M, SMALL, &Nftables.to_string(), figure);
        }
        let why = form(&results, false).not_measured["xdp_new_1m_vs_nft"].clone();
        assert!(why.starts_with("too noisy: the runs of nftables masquerade differ by 25 %"), "{why}");
        assert_eq!(form(&results, true).ratios["xdp_new_1m_vs_nft"], 4.0);
    }

    #[test]
    fn a_disturbed_core_refuses_every_ratio() {
        let results = Results { noisy_runs: 5, ..complete() };
        assert!(form(&results, false).ratios.is_empty());
        assert_eq!(form(&results, false).not_measured.len(), RATIOS.len());
    }

    #[test]
    fn bounds_hold_on_their_edge() {
        assert!(Bound::AtLeast(0.75).holds(0.75) && !Bound::AtLeast(0.75).holds(0.74));
        assert!(Bound::AtMost(288.0).holds(288.0) && !Bound::AtMost(288.0).holds(289.0));
    }
}
