//! The measurements: each in several rounds, of which the median counts.

use anyhow::{Result, ensure};
use nat_common::flow::{Direction, FlowEntry4, FlowKey4};

use super::{
    Measurement, Report,
    rig::{Rig, outbound},
};
use crate::datapath::Driver;

/// Rounds of every measurement.
const ROUNDS: usize = 5;
/// Packets that a round of new sessions has at the least, in as many runs as that takes.
const NEW_PACKETS: u32 = 1_000;
/// Lets every session be idle for longer than any timeout.
const AGES: u32 = u32::MAX / 4;
/// The verdict of a packet that was translated and leaves by another device.
const REDIRECT: u32 = 4;

/// Measures at each of these numbers of sessions, with `packets` packets per measurement of established sessions.
///
/// # Errors
/// Without privileges, and when packets do not get through as they should.
pub async fn measure(sessions: &[u32], packets: u32) -> Result<Report> {
    let most = sessions.iter().copied().max().unwrap_or(1);
    let mut bench = Bench { rig: Rig::new(most).await?, driver: Driver::load(most)?, packets, empty_ns: 0.0 };
    bench.driver.set_flows(&[outbound(0)])?;
    bench.driver.aim_at_nothing()?;
    bench.empty_ns = bench.baseline()?;
    bench.driver.aim_at_bare_forwarding()?;
    let bare_ns = bench.baseline()?;
    let mut results = Vec::new();
    for &sessions in sessions {
        bench.at(sessions, &mut results)?;
    }
    Ok(Report { kernel: kernel(), cpu: cpu(), empty_ns: bench.empty_ns, bare_ns, results })
}

struct Bench {
    rig: Rig,
    driver: Driver,
    packets: u32,
    empty_ns: f64,
}

impl Bench {
    /// What the program aimed at costs, and the driver.
    fn baseline(&mut self) -> Result<f64> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(self.driver.send(1, self.packets, self.rig.internal)?.1.as_nanos() as f64);
        }
        Ok(median(rounds))
    }

    /// All measurements at one number of sessions.
    fn at(&mut self, sessions: u32, results: &mut Vec<Measurement>) -> Result<()> {
        self.driver.aim_at(&mut self.rig.datapath)?;
        let flows: Vec<FlowKey4> = (0..sessions).map(outbound).collect();
        let runs = NEW_PACKETS.div_ceil(sessions).max(1);
        let (mut opened, mut answered) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut open_ns, mut answer_ns) = (0.0, 0.0);
            for _ in 0..runs {
                self.clear()?;
                self.driver.set_flows(&flows)?;
                open_ns += self.send(sessions, sessions, self.rig.internal)?;
                self.driver.set_flows(&self.inbound(sessions)?)?;
                answer_ns += self.send(sessions, sessions, self.rig.external)?;
            }
            opened.push(open_ns / f64::from(runs));
            answered.push(answer_ns / f64::from(runs));
        }
        let new_packets = u64::from(sessions) * u64::from(runs) * ROUNDS as u64;
        let inbound = self.established(sessions, self.rig.external)?;
        self.driver.set_flows(&flows)?;
        let outbound = self.established(sessions, self.rig.internal)?;
        let packets = u64::from(self.packets) * ROUNDS as u64;
        results.push(self.result("outbound", "established", sessions, packets, outbound));
        results.push(self.result("inbound", "established", sessions, packets, inbound));
        results.push(self.result("outbound", "new", sessions, new_packets, opened));
        results.push(self.result("inbound", "new", sessions, new_packets, answered));
        Ok(())
    }

    fn established(&mut self, sessions: u32, ingress: u32) -> Result<Vec<f64>> {
        // Once through all of them, so that each has been seen in this tick.
        self.send(sessions, sessions, ingress)?;
        (0..ROUNDS).map(|_| self.send(sessions, self.packets, ingress)).collect()
    }

    /// Sends packets and makes sure that they were translated.
    fn send(&mut self, sessions: u32, packets: u32, ingress: u32) -> Result<f64> {
        let before = self.rig.datapath.maps.counters()?;
        let (verdict, time) = self.driver.send(sessions, packets, ingress)?;
        let after = self.rig.datapath.maps.counters()?;
        let translated =
            after.outbound_packets + after.inbound_packets - before.outbound_packets - before.inbound_packets;
        ensure!(
            verdict == REDIRECT && translated == u64::from(packets),
            "of {packets} packets {translated} were translated, the last one with verdict {verdict}"
        );
        Ok(time.as_nanos() as f64)
    }

    /// Releases every session.
    fn clear(&mut self) -> Result<()> {
        self.rig.datapath.age(false, AGES)?;
        let left = self.rig.datapath.maps.session_count()?;
        ensure!(left == 0, "{left} sessions are left where none should be");
        Ok(())
    }

    /// The keys of all inbound flows.
    fn inbound(&self, sessions: u32) -> Result<Vec<FlowKey4>> {
        let flows = self.rig.datapath.maps.flows()?;
        let keys: Vec<_> =
            flows.iter().map(FlowEntry4::key).filter(|key| key.direction() == Direction::Inbound).collect();
        ensure!(keys.len() == sessions as usize, "{} sessions were opened instead of {sessions}", keys.len());
        Ok(keys)
    }

    fn result(
        &self,
        direction: &'static str,
        kind: &'static str,
        sessions: u32,
        packets: u64,
        rounds: Vec<f64>,
    ) -> Measurement {
        let ns = median(rounds);
        let net_ns = (ns - self.empty_ns).max(0.0);
        Measurement { direction, kind, sessions, packets, ns, net_ns, packets_per_second: 1e9 / ns }
    }
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
