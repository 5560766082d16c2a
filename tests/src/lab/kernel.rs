//! The baseline: the kernel forwards and nftables translates.

use std::fs;

use anyhow::{Context, Result};

use crate::lab::host::Host;
use crate::lab::{ELASTIC_IP, Lab, Node};

/// The kernel's NAT in the gateway's namespace.
pub struct KernelNat {
    host: Host,
    external: &'static str,
    running: bool,
}

impl KernelNat {
    /// Sets up rules, Elastic IP and forwarding, in the order that lets nothing leak.
    ///
    /// # Errors
    /// When nftables or the kernel refuse.
    pub fn start(lab: &Lab) -> Result<Self> {
        let gateway = Self { host: lab.host(Node::Gateway), external: lab.plan().external(), running: true };
        gateway.host.run_with_input(&["nft", "-f", "-"], &rules())?;
        gateway.host.run(&["ip", "addr", "add", &format!("{ELASTIC_IP}/32"), "dev", gateway.external])?;
        gateway.forward("1")?;
        Ok(gateway)
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// When something was gone already.
    pub fn stop(mut self) -> Result<()> {
        self.take_off()
    }

    fn take_off(&mut self) -> Result<()> {
        self.running = false;
        self.forward("0")?;
        self.host.run(&["nft", "delete", "table", "ip", "lab"])?;
        self.host.run(&["ip", "addr", "del", &format!("{ELASTIC_IP}/32"), "dev", self.external]).map(drop)
    }

    fn forward(&self, value: &'static str) -> Result<()> {
        let file = "/proc/sys/net/ipv4/ip_forward";
        self.host.within(move || fs::write(file, value).with_context(|| format!("cannot write {file}")))
    }
}

impl Drop for KernelNat {
    fn drop(&mut self) {
        if self.running
            && let Err(error) = self.take_off()
        {
            eprintln!("kernel NAT: {error:#}");
        }
    }
}

/// Source NAT for the private hosts; what is invalid or comes from outside unasked is dropped, as natgw does.
fn rules() -> String {
    format!(
        "table ip lab {{
           chain translate {{
             type nat hook postrouting priority srcnat;
             ip saddr 10.0.0.0/16 ip daddr != 10.0.0.0/16 snat to {ELASTIC_IP}
           }}
           chain through {{
             type filter hook forward priority filter;
             ct state invalid drop
             ip saddr != 10.0.0.0/16 ct state new drop
           }}
           chain local {{
             type filter hook input priority filter;
             ip daddr {ELASTIC_IP} drop
           }}
         }}
        "
    )
}
