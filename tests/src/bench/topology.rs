//! Client, gateway and server in three namespaces, with every neighbour known beforehand.
//!
//! ```text
//! client 10.0.1.2 ── 10.0.1.1 gateway 198.51.100.1 ── 198.51.100.2 server (198.18.0.0/16)
//! ```

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use anyhow::{Context, Result};
use nat_common::rig::{FIRST_HOST, HOSTS};

use crate::lab::host::Host;
use crate::lab::namespace::Namespace;
use crate::lab::topology::{ip, tune};
use crate::lab::{ELASTIC_IP, GATEWAY_EXTERNAL, GATEWAY_INTERNAL, sweep};

/// The client, whose real sockets use this address; the generator uses many others.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
/// The server, and the gateway's next hop.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The end hosts' only interface.
pub const END: &str = "eth0";
/// The gateway's internal interface.
pub const INTERNAL: &str = "int0";
/// The gateway's external interface.
pub const EXTERNAL: &str = "ext0";

/// A MAC address of the topology.
pub type Mac = [u8; 6];
/// The client's.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 1, 2];
/// The gateway's internal interface's.
pub const INTERNAL_MAC: Mac = [2, 0, 0, 0, 1, 1];
/// The gateway's external interface's.
pub const EXTERNAL_MAC: Mac = [2, 0, 0, 0, 2, 1];
/// The server's.
pub const SERVER_MAC: Mac = [2, 0, 0, 0, 2, 2];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The three namespaces and a directory for files; all removed when dropped.
pub struct Topology {
    id: String,
    directory: PathBuf,
    namespaces: [Namespace; 3],
}

impl Topology {
    /// Builds it. Only where nothing translates may the server know a way back to internal addresses.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn new(translated: bool) -> Result<Self> {
        let id = format!("{}{}-{}", sweep::BENCH_PREFIX, process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = env::temp_dir().join(format!("{}{id}", sweep::DIRECTORY_PREFIX));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let create = |name: &str| Namespace::create(&format!("{id}-{name}"));
        let namespaces = [create("cl")?, create("gw")?, create("sv")?];
        let topology = Self { id, directory, namespaces };
        for host in [topology.client(), topology.gateway(), topology.server()] {
            host.within(|| tune(false))?;
        }
        topology.connect()?;
        topology.address(translated)?;
        Ok(topology)
    }

    /// Unique name, for the pin directory of a gateway.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Directory for files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The internal end.
    #[must_use]
    pub fn client(&self) -> Host {
        Host::new(self.namespaces[0].path())
    }

    /// The middle.
    #[must_use]
    pub fn gateway(&self) -> Host {
        Host::new(self.namespaces[1].path())
    }

    /// The external end.
    #[must_use]
    pub fn server(&self) -> Host {
        Host::new(self.namespaces[2].path())
    }

    /// Two veth pairs; GRO gives every end NAPI, without which native redirect into it loses frames silently.
    fn connect(&self) -> Result<()> {
        let pairs = [
            (self.client(), CLIENT_MAC, INTERNAL, INTERNAL_MAC),
            (self.server(), SERVER_MAC, EXTERNAL, EXTERNAL_MAC),
        ];
        for (host, mac, peer, peer_mac) in pairs {
            let (mac, peer_mac) = (text(mac), text(peer_mac));
            let script = format!(
                "link set dev lo up\nlink add dev {END} address {mac} type veth peer name {peer} address {peer_mac} \
                 netns {}-gw\n",
                self.id
            );
            ip(&host, &script)?;
            for (host, name) in [(&host, END), (&self.gateway(), peer)] {
                ip(host, &format!("link set dev {name} up\n"))?;
                // Only an interface that is up tells its peer that it takes redirected frames.
                host.run(&["ethtool", "-K", name, "gro", "on"])?;
            }
        }
        Ok(())
    }

    fn address(&self, translated: bool) -> Result<()> {
        let (internal, external) = (text(INTERNAL_MAC), text(EXTERNAL_MAC));
        let neighbour = |address: Ipv4Addr, mac: &str, device: &str| {
            format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent\n")
        };
        let client = format!(
            "addr add {CLIENT}/24 dev {END}\nroute add default via {GATEWAY_INTERNAL}\n{}",
            neighbour(GATEWAY_INTERNAL, &internal, END)
        );
        ip(&self.client(), &client)?;
        let back = if translated { "" } else { "route add 10.0.1.0/24 via 198.51.100.1\n" };
        let server = format!(
            "addr add {SERVER}/24 dev {END}\nroute add local 198.18.0.0/16 dev lo\n\
             route add {ELASTIC_IP}/32 via {GATEWAY_EXTERNAL}\n{back}{}",
            neighbour(GATEWAY_EXTERNAL, &external, END)
        );
        ip(&self.server(), &server)?;
        let mut gateway = format!(
            "link set dev lo up\naddr add {GATEWAY_INTERNAL}/24 dev {INTERNAL}\naddr add {GATEWAY_EXTERNAL}/24 dev {EXTERNAL}\n\
             route add default via {SERVER}\n{}",
            neighbour(SERVER, &text(SERVER_MAC), EXTERNAL)
        );
        let hosts = (FIRST_HOST..FIRST_HOST + HOSTS).map(Ipv4Addr::from);
        for host in hosts.chain([CLIENT]) {
            // Writing to a string cannot fail.
            let _ = write!(gateway, "{}", neighbour(host, &text(CLIENT_MAC), INTERNAL));
        }
        ip(&self.gateway(), &gateway)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // A leftover directory harms nobody, and the next run sweeps it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A MAC address as it stands in a frame's header.
#[must_use]
pub fn words(mac: Mac) -> [u16; 3] {
    [[mac[0], mac[1]], [mac[2], mac[3]], [mac[4], mac[5]]].map(u16::from_ne_bytes)
}
