//! The whole comparison: every gateway in turn, forth and back, each started freshly for every run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use nat_common::rig::{ONE_HOST_FLOWS, pattern};
use nat_userspace::datapath::Rig;

use crate::bench::canary::Canary;
use crate::bench::conntrack::Limits;
use crate::bench::cpu::Core;
use crate::bench::fill;
use crate::bench::gateway::{Gateway, Kind};
use crate::bench::million;
use crate::bench::options::{Options, Part};
use crate::bench::packets::{Road, Traffic};
use crate::bench::ratios::{IN_FLIGHT, STREAMS};
use crate::bench::results::{Results, Scenario};
use crate::bench::tcp;

/// Bytes of a frame beyond its IP packet: Ethernet header and frame check sequence.
const FRAMING: u32 = 18;
/// The smallest frame.
const SMALL: u32 = 64;
/// Fewer first packets take too little time for a figure.
const ENOUGH_NEW: u32 = 10_000;
/// How often a run is repeated that lost packets or failed.
const ATTEMPTS: u32 = 3;

/// Measures what `options` ask for.
///
/// # Errors
/// Without root, or when the kernel refuses the generator.
pub fn compare(options: &Options) -> Result<Results> {
    let core = Core::last()?;
    let most = options.sessions().into_iter().chain([million::SESSIONS]).max().unwrap_or(1);
    let mut comparison = Comparison {
        options,
        canary: Canary::new(&core, if options.quick { 1 } else { 30 })?,
        rig: Rig::load(most)?,
        core,
        results: Results::default(),
        limits: Limits::default(),
        present: BTreeSet::new(),
    };
    comparison.all()?;
    Ok(comparison.results)
}

struct Comparison<'a> {
    options: &'a Options,
    core: Core,
    canary: Canary,
    rig: Rig,
    results: Results,
    limits: Limits,
    /// Gateways that have been started: a later failure is not for lack of them.
    present: BTreeSet<String>,
}

impl Comparison<'_> {
    fn all(&mut self) -> Result<()> {
        for run in 0..self.options.runs() {
            eprintln!("run {} of {}", run + 1, self.options.runs());
            for (part, traffic) in self.traffics() {
                for kind in self.kinds(run, &Kind::OWN) {
                    if part != Part::Ports || kind.translates() {
                        self.repeatedly(&kind.to_string(), |this| this.packets(&kind, part, traffic))?;
                    }
                }
            }
            if self.options.wants(Part::Ports) && self.options.compares(&Kind::NatgwXdp) {
                for processors in fill::PROCESSORS {
                    let name = fill::name(processors);
                    self.repeatedly(&name, |this| this.fill(&name, processors))?;
                }
            }
            if self.options.wants(Part::Tcp) {
                for kind in self.kinds(run, &SOCKETS) {
                    self.repeatedly(&kind.to_string(), |this| this.tcp(&kind))?;
                }
            }
            if self.options.wants(Part::Ageing) && self.options.compares(&Kind::NatgwXdp) {
                self.repeatedly(&Kind::NatgwXdp.to_string(), Self::million)?;
            }
        }
        Ok(())
    }

    /// The gateways of this run: every other run goes backwards.
    fn kinds(&self, run: u32, own: &[Kind]) -> Vec<Kind> {
        let all = own.iter().chain(&self.options.peer).filter(|kind| self.options.compares(kind)).cloned();
        let mut kinds: Vec<Kind> = all.collect();
        if run % 2 == 1 {
            kinds.reverse();
        }
        kinds
    }

    /// All that the generator has to send.
    fn traffics(&self) -> Vec<(Part, Traffic)> {
        let options = self.options;
        let traffic = |pattern, sessions, bytes| Traffic {
            pattern,
            sessions,
            length: bytes - FRAMING,
            packets: options.packets(),
        };
        let mut all = Vec::new();
        if options.wants(Part::Packets) {
            let sessions = options.sessions().into_iter();
            all.extend(sessions.map(|number| (Part::Packets, traffic(pattern::SPREAD, number, SMALL))));
        }
        if options.wants(Part::Ports) {
            let number = 10_000.min(ONE_HOST_FLOWS);
            all.push((Part::Ports, traffic(pattern::ONE_HOST, number, SMALL)));
        }
        if options.wants(Part::Sizes) {
            let sizes = options.sizes().into_iter();
            all.extend(sizes.map(|bytes| (Part::Sizes, traffic(pattern::SPREAD, 1_000, bytes))));
        }
        all
    }

    /// Does a measurement on a quiet core, once more if it fails, and remembers if it fails for good.
    fn repeatedly(&mut self, name: &str, measure: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        for attempt in 1..=ATTEMPTS {
            if self.results.unavailable.contains_key(name) {
                return Ok(());
            }
            self.results.runs += 1;
            self.results.noisy_runs += u32::from(!self.canary.quiet(&self.core)?);
            match measure(self) {
                Ok(()) => return Ok(()),
                Err(error) if attempt == ATTEMPTS => {
                    eprintln!("{name}: {error:#}");
                    self.results.failures.push(format!("{name}: {error:#}"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Starts a gateway; `None`, and the reason remembered, if there is no such thing here.
    fn start(&mut self, kind: &Kind, sessions: u32) -> Result<Option<Gateway>> {
        match Gateway::start(kind, &mut self.rig, sessions) {
            Ok(gateway) => {
                self.present.insert(kind.to_string());
                if kind.tracks() {
                    self.limits.raise(sessions * 2)?;
                }
                Ok(Some(gateway))
            }
            Err(error) if self.present.contains(&kind.to_string()) => Err(error),
            Err(error) => {
                let why = format!("{error:#}");
                let why = why.lines().last().unwrap_or_default().trim().to_owned();
                eprintln!("{kind} is not available: {why}");
                self.results.unavailable.insert(kind.to_string(), why);
                Ok(None)
            }
        }
    }

    fn packets(&mut self, kind: &Kind, part: Part, traffic: Traffic) -> Result<()> {
        let Some(gateway) = self.start(kind, traffic.sessions)? else { return Ok(()) };
        let figures = Road::new(&gateway, kind, &mut self.rig, &self.core)?.measure(traffic)?;
        gateway.stop()?;
        let name = kind.to_string();
        let mut add = |scenario, figure| {
            self.results.add(scenario, traffic.sessions, traffic.length + FRAMING, &name, figure);
        };
        if part == Part::Ports {
            add(Scenario::NewOneHost, figures.new);
            return Ok(());
        }
        add(Scenario::EstablishedOutbound, figures.outbound);
        add(Scenario::EstablishedInbound, figures.inbound);
        if traffic.sessions >= ENOUGH_NEW && kind.translates() {
            add(Scenario::New, figures.new);
        }
        Ok(())
    }

    fn tcp(&mut self, kind: &Kind) -> Result<()> {
        let Some(gateway) = self.start(kind, 500_000)? else { return Ok(()) };
        let seconds = if self.options.quick { 1 } else { 5 };
        let lasting = Duration::from_secs(u64::from(seconds));
        tcp::prepare(&gateway.topology)?;
        let latency = tcp::latency(&gateway.topology, lasting)?;
        let rate = tcp::connect_request_close(&gateway.topology, IN_FLIGHT, lasting)?;
        let mut bulk = Vec::new();
        for streams in STREAMS {
            bulk.push((*streams, tcp::bulk(&gateway.topology, *streams, seconds)?));
        }
        gateway.stop()?;
        let name = kind.to_string();
        let mut add = |scenario, sessions, figure| self.results.add(scenario, sessions, 0, &name, figure);
        add(Scenario::TcpRrP50, 1, latency.p50);
        add(Scenario::TcpRrP99, 1, latency.p99);
        add(Scenario::TcpRrP999, 1, latency.p999);
        add(Scenario::TcpCrr, IN_FLIGHT, rate);
        for (streams, figure) in bulk {
            add(Scenario::TcpBulk, streams, figure);
        }
        Ok(())
    }

    fn fill(&mut self, name: &str, processors: usize) -> Result<()> {
        for figures in fill::measure(processors)? {
            let mut add =
                |scenario, figure| self.results.add(scenario, figures.sessions, SMALL, name, figure);
            add(Scenario::NewAtFill, figures.mean);
            add(Scenario::NewAtFillP999, figures.p999);
        }
        Ok(())
    }

    fn million(&mut self) -> Result<()> {
        let figures = million::measure(&mut self.rig, &self.core)?;
        let name = Kind::NatgwXdp.to_string();
        let mut add = |scenario, figure| self.results.add(scenario, million::SESSIONS, 0, &name, figure);
        add(Scenario::BytesPerSession, figures.bytes_per_session);
        add(Scenario::AgeingCpu, figures.ageing_ms);
        Ok(())
    }
}

/// Gateways that real sockets are tried through.
const SOCKETS: [Kind; 5] = [Kind::Routing, Kind::NatgwAuto, Kind::NatgwTc, Kind::NatgwXdp, Kind::Nftables];
