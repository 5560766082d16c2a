//! The gateways under comparison: started, asked whether they are there, and stopped.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nat_common::rig::Way;
use nat_userspace::datapath::{LINES, Link, Redirect, Rig};
use nix::net::if_::if_nametoindex;

use crate::bench::config;
use crate::bench::conntrack;
use crate::bench::topology::{
    CLIENT_MAC, END, EXTERNAL, EXTERNAL_MAC, INTERNAL, INTERNAL_MAC, SERVER_MAC, Topology, words,
};
use crate::lab::natgw::Natgw;
use crate::lab::process::Process;
use crate::lab::topology::tune;
use crate::lab::{ELASTIC_IP, GATEWAY_EXTERNAL};

/// A gateway that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MACs and a redirect at the XDP hook: the limit there.
    Bare,
    /// The same with a lookup in the kernel's routing table.
    Fib,
    /// The same as `Bare` with one cache line of a table for each flow: the limit of what remembers.
    Line,
    /// The same as `Line` with as many instructions as a translation: the limit of what remembers and translates.
    Work,
    /// MACs and a redirect at the TC hook: the limit there.
    BareTc,
    /// The kernel, without translation.
    Routing,
    /// The kernel with nftables masquerade.
    Nftables,
    /// The kernel with iptables MASQUERADE.
    Iptables,
    /// natgw at the XDP hook.
    NatgwXdp,
    /// natgw at the TC hook.
    NatgwTc,
    /// natgw at the hooks that it chooses itself.
    NatgwAuto,
    /// Any other, by the command that runs it in the foreground.
    Peer {
        /// What it is called.
        name: String,
        /// For the shell.
        command: String,
    },
}

impl Kind {
    /// All that come with this program or with Linux.
    pub const OWN: [Self; 10] = [
        Self::Bare,
        Self::Fib,
        Self::Line,
        Self::Work,
        Self::NatgwXdp,
        Self::BareTc,
        Self::NatgwTc,
        Self::Routing,
        Self::Nftables,
        Self::Iptables,
    ];

    /// Whether it translates.
    #[must_use]
    pub const fn translates(&self) -> bool {
        !matches!(self, Self::Bare | Self::Fib | Self::Line | Self::Work | Self::BareTc | Self::Routing)
    }

    /// Whether the kernel's connection tracking holds its sessions.
    #[must_use]
    pub const fn tracks(&self) -> bool {
        matches!(self, Self::Nftables | Self::Iptables)
    }

    /// The external addresses that its packets may come from, in network order.
    #[must_use]
    pub fn sources(&self) -> [u32; 2] {
        let [elastic_ip, own] =
            [ELASTIC_IP, GATEWAY_EXTERNAL].map(|address| u32::from_ne_bytes(address.octets()));
        match self {
            Self::Bare | Self::Fib | Self::Line | Self::Work | Self::BareTc | Self::Routing => [0; 2],
            Self::Nftables | Self::Iptables => [own; 2],
            Self::NatgwXdp | Self::NatgwTc | Self::NatgwAuto => [elastic_ip; 2],
            Self::Peer { .. } => [own, elastic_ip],
        }
    }

    /// Whether it is natgw's.
    #[must_use]
    pub const fn is_natgw(&self) -> bool {
        self.mode().is_some()
    }

    const fn mode(&self) -> Option<&'static str> {
        match self {
            Self::NatgwXdp => Some("xdp"),
            Self::NatgwTc => Some("tc"),
            Self::NatgwAuto => Some("auto"),
            Self::Bare
            | Self::Fib
            | Self::Line
            | Self::Work
            | Self::BareTc
            | Self::Routing
            | Self::Nftables
            | Self::Iptables
            | Self::Peer { .. } => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bare => "bare redirect",
            Self::Fib => "FIB redirect",
            Self::Line => "redirect, one line",
            Self::Work => "redirect, one line, work",
            Self::BareTc => "bare TC redirect",
            Self::Routing => "kernel routing",
            Self::Nftables => "nftables masquerade",
            Self::Iptables => "iptables masquerade",
            Self::NatgwXdp => "natgw XDP",
            Self::NatgwTc => "natgw TC",
            Self::NatgwAuto => "natgw auto",
            Self::Peer { name, .. } => name,
        })
    }
}

/// A running gateway in its own topology.
pub struct Gateway {
    running: Running,
    kind: Kind,
    /// Where it runs; the last to go.
    pub topology: Topology,
}

enum Running {
    Redirect(#[expect(dead_code, reason = "attachments last as long as they are held")] Vec<Link>),
    Kernel,
    Natgw(Box<Natgw>),
    Peer(Process),
}

impl Gateway {
    /// Starts it in a fresh topology, with room for `sessions` sessions.
    ///
    /// # Errors
    /// When it does not start; the message says why.
    pub fn start(kind: &Kind, rig: &mut Rig, sessions: u32) -> Result<Self> {
        let topology = Topology::new(kind.translates())?;
        let running = match kind {
            Kind::Bare => redirect(&topology, rig, Redirect::Bare, sessions)?,
            Kind::Fib => redirect(&topology, rig, Redirect::Fib, sessions)?,
            Kind::Line => redirect(&topology, rig, Redirect::Line, sessions)?,
            Kind::Work => redirect(&topology, rig, Redirect::Work, sessions)?,
            Kind::BareTc => redirect(&topology, rig, Redirect::Tc, sessions)?,
            Kind::Routing => kernel(&topology, &[])?,
            Kind::Nftables => kernel(&topology, &["nft", "-f", "-"])?,
            Kind::Iptables => kernel(&topology, &IPTABLES)?,
            Kind::NatgwXdp | Kind::NatgwTc | Kind::NatgwAuto => natgw(&topology, kind, sessions)?,
            Kind::Peer { command, .. } => peer(&topology, command)?,
        };
        Ok(Self { running, kind: kind.clone(), topology })
    }

    /// The `natgw` that runs here, if it is one.
    #[must_use]
    pub fn natgw(&self) -> Option<&Natgw> {
        match &self.running {
            Running::Natgw(natgw) => Some(natgw),
            Running::Redirect(_) | Running::Kernel | Running::Peer(_) => None,
        }
    }

    /// Takes it off, and its sessions with it.
    ///
    /// # Errors
    /// When something is left behind.
    pub fn stop(self) -> Result<()> {
        match self.running {
            Running::Natgw(natgw) => natgw.detach(),
            Running::Kernel if self.kind.tracks() => conntrack::flush(&self.topology.gateway()),
            Running::Peer(process) => {
                process.kill();
                Ok(())
            }
            Running::Redirect(_) | Running::Kernel => Ok(()),
        }
    }
}

fn redirect(topology: &Topology, rig: &mut Rig, redirect: Redirect, sessions: u32) -> Result<Running> {
    let lines = sessions.saturating_mul(LINES);
    let links = topology.gateway().within(|| {
        tune(redirect == Redirect::Fib)?;
        let (internal, external) = (if_nametoindex(INTERNAL)?, if_nametoindex(EXTERNAL)?);
        let outbound = Way {
            ingress: internal,
            egress: external,
            destination: words(SERVER_MAC),
            source: words(EXTERNAL_MAC),
            lines,
        };
        let inbound = Way {
            ingress: external,
            egress: internal,
            destination: words(CLIENT_MAC),
            source: words(INTERNAL_MAC),
            lines,
        };
        rig.set_ways([outbound, inbound])?;
        Ok(vec![rig.attach(redirect, INTERNAL)?, rig.attach(redirect, EXTERNAL)?])
    })?;
    Ok(Running::Redirect(links))
}

fn kernel(topology: &Topology, translator: &[&str]) -> Result<Running> {
    let gateway = topology.gateway();
    if !translator.is_empty() {
        gateway.run_with_input(translator, NFTABLES)?;
        conntrack::extend_timeouts(&gateway)?;
    }
    gateway.within(|| tune(true))?;
    Ok(Running::Kernel)
}

fn natgw(topology: &Topology, kind: &Kind, sessions: u32) -> Result<Running> {
    let mode = kind.mode().context("only natgw has modes")?;
    let config = topology.directory().join("natgw.toml");
    let mut natgw = Natgw::at(topology.gateway(), EXTERNAL, topology.id(), config)?;
    natgw.write(&config::text(mode, sessions + sessions / 5))?;
    natgw.restart()?;
    Ok(Running::Natgw(Box::new(natgw)))
}

/// Runs a peer's command with the topology in its environment, and gives it time to set itself up.
fn peer(topology: &Topology, command: &str) -> Result<Running> {
    let gateway = topology.gateway();
    gateway.within(|| tune(true))?;
    let variables = [
        format!("INTERNAL={INTERNAL}"),
        format!("EXTERNAL={EXTERNAL}"),
        format!("EXTERNAL_ADDRESS={GATEWAY_EXTERNAL}"),
        format!("ELASTIC_IP={ELASTIC_IP}"),
        "PRIVATE_CIDR=10.0.0.0/16".to_owned(),
    ];
    let mut words = vec!["env"];
    words.extend(variables.iter().map(String::as_str));
    words.extend(["sh", "-c", command]);
    let mut process = gateway.spawn(&words)?;
    if process.has_ended_within(PEER_START)? {
        bail!("`{command}` has ended; it wrote: {}", process.stderr().trim());
    }
    Ok(Running::Peer(process))
}

/// Turns off transmit checksums of the end hosts: native XDP passes frames on as they are, unfinished sums included.
///
/// # Errors
/// When ethtool fails.
pub fn finish_checksums(topology: &Topology) -> Result<()> {
    for host in [topology.client(), topology.server()] {
        host.run(&["ethtool", "-K", END, "tx", "off"])?;
    }
    Ok(())
}

const NFTABLES: &str = "table ip bench {
  chain translate {
    type nat hook postrouting priority srcnat;
    oifname ext0 masquerade
  }
}
";
const IPTABLES: [&str; 9] =
    ["iptables", "-t", "nat", "-A", "POSTROUTING", "-o", EXTERNAL, "-j", "MASQUERADE"];
/// How long a peer may take to set itself up.
const PEER_START: Duration = Duration::from_secs(3);
