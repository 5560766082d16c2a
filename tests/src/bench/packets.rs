//! Packets through a gateway: sent by the generator, carried and taken on one core, every run verified.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nat_common::rig::{Expectation, Orders, flow};
use nat_userspace::datapath::{Link, Rig};
use nix::net::if_::if_nametoindex;

use crate::bench::cpu::Core;
use crate::bench::gateway::{Gateway, Kind};
use crate::bench::topology::{CLIENT_MAC, END, EXTERNAL_MAC, INTERNAL_MAC, Mac, SERVER_MAC, words};
use crate::lab::host::Host;

/// Sessions from which on natgw may go on otherwise than with few, and how long it takes for that at most.
const MANY: u32 = 10_000;
const SETTLE: Duration = Duration::from_millis(1_500);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// One of [`nat_common::rig::pattern`].
    pub pattern: u32,
    /// Flows to cycle through.
    pub sessions: u32,
    /// Bytes of IP in every packet.
    pub length: u32,
    /// Packets of a measurement of established sessions.
    pub packets: u32,
}

/// CPU nanoseconds per packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Every packet the first of its session.
    pub new: f64,
    /// From internal hosts, sessions known.
    pub outbound: f64,
    /// From remotes, sessions known.
    pub inbound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Outbound,
    Inbound,
}

/// A gateway with a generator and a sink at both ends.
pub struct Road<'a> {
    rig: &'a mut Rig,
    core: &'a Core,
    kind: &'a Kind,
    client: Host,
    server: Host,
    _sinks: [Link; 2],
}

impl<'a> Road<'a> {
    /// Attaches the sinks.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(gateway: &Gateway, kind: &'a Kind, rig: &'a mut Rig, core: &'a Core) -> Result<Self> {
        let (client, server) = (gateway.topology.client(), gateway.topology.server());
        let sinks =
            [client.within(|| Ok(rig.attach_sink(END)?))?, server.within(|| Ok(rig.attach_sink(END)?))?];
        Ok(Self { rig, core, kind, client, server, _sinks: sinks })
    }

    /// Opens the sessions of `traffic`, then measures them in both directions.
    ///
    /// # Errors
    /// When packets are lost, wrong or not translated as they should be.
    pub fn measure(&mut self, traffic: Traffic) -> Result<Figures> {
        let new = self.open(traffic)?;
        self.settle(traffic);
        let outbound = self.established(traffic, Direction::Outbound)?;
        let inbound = self.established(traffic, Direction::Inbound)?;
        Ok(Figures { new, outbound, inbound })
    }

    /// Sends the first packet of every session, and makes sure that no two sessions share an external endpoint.
    ///
    /// # Errors
    /// When packets are lost, wrong or not translated as they should be.
    pub fn open(&mut self, traffic: Traffic) -> Result<f64> {
        let ns = self.carry(traffic, Direction::Outbound, traffic.sessions, true)?;
        let distinct = self.distinct(traffic)?;
        ensure!(
            distinct == traffic.sessions as usize,
            "{} sessions have only {distinct} external endpoints",
            traffic.sessions
        );
        Ok(ns)
    }

    /// Gives natgw the time to follow the number of its sessions, which its controller does every second.
    fn settle(&self, traffic: Traffic) {
        if self.kind.is_natgw() && traffic.sessions >= MANY {
            thread::sleep(SETTLE);
        }
    }

    fn established(&mut self, traffic: Traffic, direction: Direction) -> Result<f64> {
        // Once through all sessions, so that each has been seen in this direction.
        self.carry(traffic, direction, traffic.sessions, false)?;
        self.carry(traffic, direction, traffic.packets.max(traffic.sessions), false)
    }

    /// CPU nanoseconds per packet of `packets` packets, all of which arrive as they should.
    fn carry(&mut self, traffic: Traffic, direction: Direction, packets: u32, learn: bool) -> Result<f64> {
        let inbound = direction == Direction::Inbound;
        self.rig.expect(Expectation {
            pattern: traffic.pattern,
            inbound: u32::from(inbound),
            learn: u32::from(learn),
            sources: self.kind.sources(),
        })?;
        let (source, destination) = direction.macs();
        let orders = Orders {
            flows: traffic.sessions,
            next: 0,
            pattern: traffic.pattern,
            inbound: u32::from(inbound),
            destination: words(destination),
            source: words(source),
            length: traffic.length,
        };
        let host = if inbound { self.server.clone() } else { self.client.clone() };
        let used = host.within(|| self.send(orders, packets))?;
        self.verify(packets)?;
        Ok(used.as_nanos() as f64 / f64::from(packets))
    }

    /// Sends from this thread, in the sender's namespace; the CPU time of all that happened.
    fn send(&mut self, orders: Orders, packets: u32) -> Result<Duration> {
        self.core.pin()?;
        let interface = if_nametoindex(END)?;
        let before = self.core.used()?;
        self.rig.generate(orders, packets, interface)?;
        let deadline = Instant::now() + SETTLED;
        while self.rig.tally()?.packets < u64::from(packets) && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(100));
        }
        Ok(self.core.used()?.saturating_sub(before))
    }

    fn verify(&self, packets: u32) -> Result<()> {
        let tally = self.rig.tally()?;
        ensure!(
            tally.packets == u64::from(packets),
            "of {packets} packets {} arrived, and {} other frames",
            tally.packets,
            tally.strangers
        );
        ensure!(
            tally.wrong_addresses + tally.wrong_ip_sums + tally.wrong_udp_sums == 0 && tally.checked > 0,
            "of {} packets looked into, {} had wrong addresses, {} wrong IP checksums, {} wrong UDP checksums",
            tally.checked,
            tally.wrong_addresses,
            tally.wrong_ip_sums,
            tally.wrong_udp_sums
        );
        Ok(())
    }

    /// How many external endpoints, each toward its remote, the sink has seen.
    fn distinct(&self, traffic: Traffic) -> Result<usize> {
        let seen = self.rig.seen()?;
        let numbered = (0..traffic.sessions).zip(seen);
        let mut tuples: Vec<_> = numbered
            .filter(|(_, seen)| seen.address != 0)
            .map(|(number, seen)| (flow(traffic.pattern, number).remote, seen))
            .collect();
        tuples.sort_unstable();
        tuples.dedup();
        Ok(tuples.len())
    }
}

impl Direction {
    /// Sender and receiver of its frames.
    const fn macs(self) -> (Mac, Mac) {
        match self {
            Self::Outbound => (CLIENT_MAC, INTERNAL_MAC),
            Self::Inbound => (SERVER_MAC, EXTERNAL_MAC),
        }
    }
}

/// How long the last packets may take.
const SETTLED: Duration = Duration::from_millis(500);
