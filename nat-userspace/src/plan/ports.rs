//! Which ports of an Elastic IP are lent: on an address of the host itself, those that the host does not use.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::{
    config::ElasticIp,
    host::{BoundPort, HostPorts},
    ports::Ports,
};

/// Port ranges that an address shared with the host is divided into at most: a search goes through them in turn.
pub(super) const MAX_SHARED_RANGES: usize = 128;

/// An Elastic IP that is the host's own address too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The ports that sessions may use.
    pub ports: Ports,
    /// What of that the operator should know, each with its remedy.
    pub warnings: Vec<String>,
}

/// The ports of `elastic_ip` that a host lends which has the address itself and uses the ports in `host`.
///
/// # Errors
/// [`PlanError::NoPorts`] if there is none.
pub(super) fn spare(elastic_ip: &ElasticIp, host: &HostPorts) -> Result<SharedAddress, PlanError> {
    let address = elastic_ip.address;
    let usable = elastic_ip.usable_ports();
    let mut warnings = Vec::new();
    let chosen = if elastic_ip.ports.is_some() {
        // Of the ports that the kernel hands out, clients come and go; only what stays is worth a hole.
        warnings.extend(also_handed_out(&usable, host));
        let bound =
            host.bound.iter().filter(|bound| !bound.connected || !host.ephemeral.contains(bound.port));
        usable.without(&held(address, bound))
    } else {
        // What is reserved waits for programs that bind it by number, so it is not natgw's either.
        let own = host.ephemeral.with(&host.reserved);
        usable.without(&own).without(&held(address, host.bound.iter()))
    };
    let ports = chosen.largest(MAX_SHARED_RANGES);
    if ports != chosen {
        let lost = chosen.count() - ports.count();
        warnings.push(format!(
            "the host's sockets divide its ports into {} ranges, of which natgw lends the {MAX_SHARED_RANGES} \
             largest and leaves {lost} ports unused; name ports that the host leaves alone",
            chosen.ranges().len()
        ));
    }
    if ports.is_empty() {
        return Err(PlanError::NoPorts { address });
    }
    Ok(SharedAddress { address, ports, warnings })
}

/// The ports that sockets hold on `address`.
fn held<'a>(address: Ipv4Addr, bound: impl Iterator<Item = &'a BoundPort>) -> Ports {
    let here = bound.filter(|bound| bound.address.is_none_or(|found| found == address));
    here.map(|bound| bound.port).collect()
}

/// Says which ports both natgw and the kernel may hand out, if any.
fn also_handed_out(usable: &Ports, host: &HostPorts) -> Option<String> {
    let both = usable.common(&host.ephemeral.without(&host.reserved));
    (!both.is_empty()).then(|| {
        format!(
            "ports {both} are also the host's own ephemeral ports: a session and a client of the host may get the same \
             one toward the same remote; name others, or list them in net.ipv4.ip_local_reserved_ports"
        )
    })
}

#[cfg(test)]
mod tests;
