//! A small internet in network namespaces: two private hosts, the gateway, a router and two outside servers.
//!
//! ```text
//! h1 10.0.1.10 ─┐                                              ┌─ s1 192.0.2.10
//!               switch ─ 10.0.1.1 gateway 198.51.100.1 ─ .254 router .1
//! h2 10.0.1.11 ─┘                                              └─ s2 192.0.2.20
//! ```
//!
//! The router holds 203.0.113.0/24 on the gateway's link; the outside has no route to 10.0.0.0/8, so whatever leaks is
//! lost and, by the captures, found.

pub mod capture;
pub mod check;
pub mod coturn;
pub mod frame;
pub mod gateway;
pub mod host;
pub mod kernel;
pub mod namespace;
pub mod natgw;
pub mod nginx;
pub mod process;
pub mod raw;
pub mod settings;
pub mod stream;
pub mod sweep;
pub mod topology;
pub mod traffic;
pub mod watch;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process as this;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use capture::Capture;
use host::Host;
use namespace::Namespace;
pub use topology::{Arms, Hook, Node, Plan, Uplink};

/// First private host.
pub const H1: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
/// Second private host.
pub const H2: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
/// The gateway's internal address.
pub const GATEWAY_INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The gateway's own external address.
pub const GATEWAY_EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router on the gateway's link.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// The Elastic IP.
pub const ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// A second Elastic IP, for gateways that have two.
pub const SECOND_ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
/// First outside server.
pub const S1: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Second outside server.
pub const S2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One lab: its namespaces, links and captures, all removed when it is dropped.
pub struct Lab {
    plan: Plan,
    id: String,
    directory: PathBuf,
    captures: Vec<Capture>,
    namespaces: Vec<(Node, Namespace)>,
    discarded: AtomicBool,
}

impl Lab {
    /// Builds the topology of `plan` and starts the captures, if they can judge what they see.
    ///
    /// # Errors
    /// Without root, or when a namespace, link or capture cannot be made.
    pub fn new(plan: Plan) -> Result<Self> {
        sweep::prepare();
        let id = format!("{}{}-{}", sweep::PREFIX, this::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(format!("{}{id}", sweep::DIRECTORY_PREFIX));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let mut lab = Self {
            plan,
            id,
            directory,
            captures: Vec::new(),
            namespaces: Vec::new(),
            discarded: AtomicBool::new(false),
        };
        for node in Node::ALL {
            lab.namespaces.push((node, Namespace::create(&format!("{}-{}", lab.id, node.name()))?));
        }
        topology::build(&lab)?;
        if plan.offloads {
            return Ok(lab);
        }
        lab.captures.push(Capture::start(
            &lab.host(Node::Router),
            "gw",
            &lab.directory.join("external.pcap"),
        )?);
        lab.captures.push(Capture::start(
            &lab.host(Node::Switch),
            "gw",
            &lab.directory.join("internal.pcap"),
        )?);
        Ok(lab)
    }

    /// What the lab was built from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Unique name of this lab: `lab-<pid>-<n>`, the prefix of its namespaces and the name of its pin directory.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Directory for configuration files, logs and captures; removed with a lab whose captures held, else renamed.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A handle on one node.
    ///
    /// # Panics
    /// Never: every node has a namespace once the lab exists.
    #[must_use]
    pub fn host(&self, node: Node) -> Host {
        let namespace = self.namespaces.iter().find(|(held, _)| *held == node);
        Host::new(namespace.expect("every node has a namespace").1.path())
    }

    /// Pings both servers from both private hosts until they answer, so that no neighbour is unknown any more.
    ///
    /// # Errors
    /// When one does not answer within 10 seconds.
    pub fn warm_up(&self) -> Result<()> {
        for node in [Node::H1, Node::H2] {
            for server in [S1, S2] {
                self.wait_for_ping(node, server)?;
            }
        }
        Ok(())
    }

    /// Pings `destination` from `node` until it answers.
    ///
    /// # Errors
    /// When it does not within 10 seconds.
    pub fn wait_for_ping(&self, node: Node, destination: Ipv4Addr) -> Result<()> {
        let host = self.host(node);
        let destination = destination.to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if host.try_run(&["ping", "-n", "-c1", "-W1", &destination])?.success() {
                return Ok(());
            }
        }
        bail!("{} gets no answer from {destination}", node.name())
    }

    /// Packets seen so far on the external link; 0 where nothing is captured.
    #[must_use]
    pub fn external_packets(&self) -> u64 {
        self.captures.first().map_or(0, Capture::packets)
    }

    /// Fails on any bad checksum on either side and on any internal address on the external link.
    ///
    /// # Errors
    /// Names the first offending packets; the capture files are kept, and the lab's end says where.
    pub fn verify_captures(&self) -> Result<()> {
        let mut findings = Vec::new();
        for capture in &self.captures {
            findings.extend(capture.settle());
        }
        if !findings.is_empty() {
            let all = findings.join("\n  ");
            bail!("the captures hold bad packets:\n  {all}");
        }
        self.discard();
        Ok(())
    }

    /// Removes the captures and logs together with the lab: they hold nothing that anybody will look for.
    pub fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.captures.clear();
        self.namespaces.clear();
        // What a gateway that failed has pinned; usually there is nothing.
        let _ = fs::remove_dir_all(Path::new(sweep::BPFFS).join(&self.id));
        if self.discarded.load(Ordering::Relaxed) && !std::thread::panicking() {
            // A leftover directory harms nobody, and there is no one to tell.
            let _ = fs::remove_dir_all(&self.directory);
            return;
        }
        let kept = std::env::temp_dir().join(format!("natgw-kept-{}", self.id));
        match fs::rename(&self.directory, &kept) {
            Ok(()) => eprintln!("captures and logs are kept in {}", kept.display()),
            Err(error) => eprintln!("captures and logs in {} are lost: {error}", self.directory.display()),
        }
    }
}
