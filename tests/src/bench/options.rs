//! The command line of the comparison.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::bench::gateway::Kind;

/// Compare natgw with the kernel's NAT, with other gateways and with the limits of this machine.
///
/// Exit status: 0 if everything was measured; 1 if the machine was too noisy for a report; 2 on failure.
#[derive(Clone, Debug, Parser)]
#[command(bin_name = "cargo xtask bench")]
pub struct Options {
    /// What to measure; everything unless named
    #[arg(value_enum, value_name = "PART")]
    pub parts: Vec<Part>,
    /// Few runs of few packets: shows that all works, and no figures to quote
    #[arg(long)]
    pub quick: bool,
    /// Numbers of sessions, as in 1k,50k,1m (up to 16m) [default: 1k,50k,100k,1m; --quick: 1k,50k]
    #[arg(long, value_delimiter = ',', value_parser = count)]
    pub sessions: Vec<u32>,
    /// Frame sizes in bytes, the frame check sequence included, at 1k sessions [default: 64 to 1518]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(64..=1518))]
    pub sizes: Vec<u32>,
    /// Runs of every measurement, the gateways in turn [default: 5; --quick: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: Option<u32>,
    /// Packets of a measurement of established sessions [default: 1m; --quick: 200k]
    #[arg(long, value_parser = count)]
    pub packets: Option<u32>,
    /// Another gateway, as name=command: run by `sh -c` in the gateway's namespace, in the foreground, with INTERNAL,
    /// EXTERNAL, EXTERNAL_ADDRESS, ELASTIC_IP and PRIVATE_CIDR in its environment
    #[arg(long, value_parser = peer)]
    pub peer: Vec<Kind>,
    /// Compare only gateways whose name contains this
    #[arg(long)]
    pub gateway: Vec<String>,
    /// Report also when the machine is noisy
    #[arg(long)]
    pub noisy: bool,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the figures of packets to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Packets of established and of new sessions
    Packets,
    /// New sessions toward one remote, where only ports differ, and where most of them are taken
    Ports,
    /// Packets of several sizes
    Sizes,
    /// TCP through real sockets: bulk, connect-request-close, latency
    Tcp,
    /// Memory and ageing of a million sessions
    Ageing,
}

impl Options {
    /// Whether to measure this part.
    #[must_use]
    pub fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// Whether to compare this gateway.
    #[must_use]
    pub fn compares(&self, kind: &Kind) -> bool {
        let name = kind.to_string();
        self.gateway.is_empty() || self.gateway.iter().any(|part| name.contains(part.as_str()))
    }

    /// Numbers of sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<u32> {
        match (self.sessions.is_empty(), self.quick) {
            (false, _) => self.sessions.clone(),
            (true, true) => vec![1_000, 50_000],
            (true, false) => vec![1_000, 50_000, 100_000, 1_000_000],
        }
    }

    /// Frame sizes other than the smallest.
    #[must_use]
    pub fn sizes(&self) -> Vec<u32> {
        match (self.sizes.is_empty(), self.quick) {
            (false, _) => self.sizes.clone(),
            (true, true) => vec![1518],
            (true, false) => vec![128, 256, 512, 1024, 1518],
        }
    }

    /// Runs of every measurement.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// Packets of a measurement of established sessions.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets.unwrap_or(if self.quick { 200_000 } else { 1_000_000 })
    }
}

/// A number with `k` or `m` for thousands or millions, up to 16 million.
fn count(text: &str) -> Result<u32> {
    let lower = text.to_lowercase();
    let (digits, factor) = match lower.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => lower.strip_suffix('m').map_or((lower.as_str(), 1), |digits| (digits, 1_000_000)),
    };
    let number: u32 =
        digits.parse().with_context(|| format!("`{text}` is no number; write 1000, 1k or 1m"))?;
    match number.checked_mul(factor) {
        Some(number @ 1..=MOST) => Ok(number),
        _ => bail!("`{text}` is out of range; write 1 to 16m"),
    }
}

fn peer(text: &str) -> Result<Kind> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.is_empty() => {
            Ok(Kind::Peer { name: name.to_owned(), command: command.to_owned() })
        }
        _ => bail!("`{text}` names no command; write name=command"),
    }
}

const MOST: u32 = 16_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sessions_may_be_written_with_k_and_m() {
        let options = Options::try_parse_from(["bench", "--sessions", "1k,1M,7"]).unwrap();
        assert_eq!(options.sessions(), [1_000, 1_000_000, 7]);
        for bad in ["0", "17m", "k", "1g", "-1"] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_peers_command_may_hold_an_equals_sign() {
        let peer = peer("einat=einat --a=b").unwrap();
        assert_eq!(peer, Kind::Peer { name: "einat".into(), command: "einat --a=b".into() });
        assert!(super::peer("einat").is_err());
    }

    #[test]
    fn only_the_named_parts_are_measured() {
        let options = Options::try_parse_from(["bench", "tcp", "--quick"]).unwrap();
        assert!(options.wants(Part::Tcp) && !options.wants(Part::Packets));
        assert!(Options::try_parse_from(["bench"]).unwrap().wants(Part::Packets));
    }
}
