//! The comparison of gateways: CPU time per packet, sessions and TCP of natgw, of the kernel's own NAT, and of the
//! limits that no gateway can pass.

pub mod config;
pub mod conntrack;
pub mod cpu;
pub mod gateway;
pub mod packets;
pub mod topology;

use anyhow::Result;
use nat_userspace::datapath::Rig;

/// First light.
pub fn run() -> Result<()> {
    crate::lab::sweep::prepare();
    let core = cpu::Core::last()?;
    let mut rig = Rig::load(1_000)?;
    for kind in gateway::Kind::OWN {
        let gateway = match gateway::Gateway::start(&kind, &mut rig, 1_000) {
            Ok(gateway) => gateway,
            Err(error) => {
                println!("{kind}: not available: {error:#}");
                continue;
            }
        };
        let traffic = packets::Traffic { pattern: 0, sessions: 1_000, length: 46, packets: 500_000 };
        let road = packets::Road::new(&gateway, &kind, &mut rig, &core)?.measure(traffic);
        println!("{kind}: {road:?}");
        gateway.stop()?;
    }
    Ok(())
}
