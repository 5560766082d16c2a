//! The host natgw runs on: what it asks of it and what it does to it, through netlink and sysctl.
//!
//! [`Host`] is the entry point. It lives in the network namespace of the thread that opened it:
//!
//! ```no_run
//! # async fn example() -> Result<(), nat_userspace::host::HostError> {
//! use nat_userspace::host::Host;
//!
//! let host = Host::open()?;
//! for interface in host.facts().await?.interfaces {
//!     println!("{} {:?}", interface.name, interface.addresses);
//! }
//! # Ok(())
//! # }
//! ```

mod arp;
mod batch;
mod cache;
mod elastic_ip;
mod error;
mod facts;
mod forwarding;
mod memory;
mod neighbour;
mod ports;
pub mod preflight;
mod reset;
mod rss;
mod sockets;
mod watch;

use rtnetlink::Handle;
use tokio::task::JoinHandle;

pub use self::{
    batch::batched,
    cache::cache_bytes,
    elastic_ip::Announced,
    error::HostError,
    facts::{HostFacts, HostInterface},
    forwarding::{disable_fib_lookup, enable_fib_lookup, forwarding_interfaces},
    memory::{MemoryError, check_memory},
    neighbour::{Neighbour, Outcome},
    ports::HostPorts,
    reset::Resets,
    rss::HostRss,
    sockets::BoundPort,
    watch::HostChange,
};

/// A connection to the kernel's routing tables, closed when dropped.
#[derive(Debug)]
pub struct Host {
    handle: Handle,
    _connection: Connection,
}

impl Host {
    /// Connects to the network namespace of the calling thread. Needs a tokio runtime, but no privilege.
    ///
    /// # Errors
    /// [`HostError::Open`] if the netlink socket cannot be opened.
    pub fn open() -> Result<Self, HostError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(HostError::Open)?;
        Ok(Self { handle, _connection: Connection::spawn(connection) })
    }

    /// The netlink handle, for requests this module does not wrap.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Reads the host's interfaces, addresses and next hops.
    ///
    /// # Errors
    /// [`HostError::Netlink`] if the kernel refuses one of the listings.
    pub async fn facts(&self) -> Result<HostFacts, HostError> {
        HostFacts::read(&self.handle).await
    }
}

/// The task that moves messages between a netlink socket and its users; it ends with its owner.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Connection {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}
