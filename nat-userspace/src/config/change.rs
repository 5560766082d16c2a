//! Elastic IPs added and removed while the gateway runs: from one valid configuration to the next.

use std::net::Ipv4Addr;

use nat_common::pool::MAX_ELASTIC_IPS;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::check::internal_place;
use super::lower::unusable;
use super::scalar::{List, Scalar};
use super::{Arp, Config, ElasticIp, NatGateway};

/// An Elastic IP to be added. What is left out is as [`Config`] has it already, or else the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewElasticIp {
    /// The address that the outside sees.
    pub address: Ipv4Addr,
    /// The NAT gateway that is to use it; the only one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_gateway: Option<String>,
    /// How packets to it reach this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arp: Option<Arp>,
    /// The ports that sessions may use, as in the file: `1024-65535`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
}

/// Why an Elastic IP cannot be added or removed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// Nobody uses it.
    #[error("{address} is no Elastic IP in use; `natgw eip list` shows those that are")]
    Unknown {
        /// The address.
        address: Ipv4Addr,
    },
    /// There is no such NAT gateway.
    #[error("there is no NAT gateway {name}; name one of: {}", .known.join(", "))]
    UnknownGateway {
        /// The name.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// It has to be said which NAT gateway is meant.
    #[error("there are several NAT gateways; name one with --nat-gateway: {}", .known.join(", "))]
    WhichGateway {
        /// Those there are.
        known: Vec<String>,
    },
    /// It is in use already.
    #[error(
        "{address} is in use by NAT gateway {gateway}; to change it, write it into the configuration and reload"
    )]
    InUse {
        /// The address.
        address: Ipv4Addr,
        /// Who uses it.
        gateway: String,
    },
    /// Its sessions belong to another NAT gateway.
    #[error(
        "{address} drains from NAT gateway {gateway}, which would lose its sessions; add it to that one, or end them \
         with `natgw eip remove {address} --now` first"
    )]
    DrainsElsewhere {
        /// The address.
        address: Ipv4Addr,
        /// Whose it was.
        gateway: String,
    },
    /// No packet of the internet can carry it.
    #[error("{address} is a {kind} address; use a unicast address that the outside can reach")]
    Unusable {
        /// The address.
        address: Ipv4Addr,
        /// Of which kind.
        kind: &'static str,
    },
    /// It is one of the addresses that are translated.
    #[error(
        "{address} lies inside {place}, whose addresses are translated; use an address that the outside can reach"
    )]
    Internal {
        /// The address.
        address: Ipv4Addr,
        /// Where it lies.
        place: String,
    },
    /// New sessions would have nowhere to go.
    #[error(
        "{address} is the last Elastic IP that NAT gateway {gateway} lends to new sessions, which would all fail; add \
         another one first with `natgw eip add`, or take the NAT gateway out of the configuration and reload"
    )]
    Last {
        /// The address.
        address: Ipv4Addr,
        /// Whose it is.
        gateway: String,
    },
    /// The data plane has no room for it.
    #[error(
        "NAT gateways hold {MAX_ELASTIC_IPS} Elastic IPs already, draining ones included; remove one first"
    )]
    Full,
    /// It would give every host other ports.
    #[error(
        "NAT gateway {gateway} computes its hosts' blocks of ports from its Elastic IPs, so that hosts would get other \
         ports; change elastic_ips in the configuration and reload"
    )]
    Computed {
        /// The NAT gateway.
        gateway: String,
    },
    /// It has no block to lend.
    #[error(
        "{address} has no whole block of {size} ports, as NAT gateway {gateway} lends them; give it more ports"
    )]
    NoBlock {
        /// The address.
        address: Ipv4Addr,
        /// Ports of a block.
        size: u16,
        /// The NAT gateway.
        gateway: String,
    },
    /// Its ports are none.
    #[error("{message}; {remedy}")]
    Ports {
        /// What is wrong with them.
        message: String,
        /// What to write instead.
        remedy: String,
    },
}

impl Config {
    /// This configuration with another Elastic IP; `before` is what it was when it was last in use.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], naming the remedy.
    pub fn with_elastic_ip(
        &self,
        wanted: &NewElasticIp,
        before: Option<&ElasticIp>,
    ) -> Result<Self, ChangeError> {
        let address = wanted.address;
        if let Some(owner) = self.owner(address) {
            return Err(ChangeError::InUse { address, gateway: owner.name.clone() });
        }
        if let Some(kind) = unusable(&address.into()) {
            return Err(ChangeError::Unusable { address, kind });
        }
        let gateway = self.gateway_for(wanted.nat_gateway.as_deref())?;
        let elastic_ip = elastic_ip(wanted, before.or_else(|| self.elastic_ip(address)))?;
        self.nat_gateways[gateway].may_change()?;
        let mut config = self.clone();
        config.nat_gateways[gateway].elastic_ips.push(address);
        config.elastic_ips.retain(|known| known.address != address);
        config.elastic_ips.push(elastic_ip.clone());
        if let Some(place) = internal_place(&config, &elastic_ip) {
            return Err(ChangeError::Internal { address, place });
        }
        let owner = &config.nat_gateways[gateway];
        if let Some(blocks) = &owner.per_host.blocks
            && config.block_counts(owner, blocks).any(|count| count == 0)
        {
            let gateway = owner.name.clone();
            return Err(ChangeError::NoBlock { address, size: blocks.size, gateway });
        }
        if config.addresses().count() > MAX_ELASTIC_IPS as usize {
            Err(ChangeError::Full)
        } else {
            Ok(config)
        }
    }

    /// This configuration without the Elastic IP `address`.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`] if no NAT gateway uses it, [`ChangeError::Last`] if new sessions need it.
    pub fn without_elastic_ip(&self, address: Ipv4Addr) -> Result<Self, ChangeError> {
        let owner = self.owner(address).ok_or(ChangeError::Unknown { address })?;
        let is_last = |list: &[Ipv4Addr]| list == [address];
        let common: Vec<_> = owner.common_elastic_ips().collect();
        if is_last(&common) || owner.sources.iter().any(|source| is_last(&source.elastic_ips)) {
            return Err(ChangeError::Last { address, gateway: owner.name.clone() });
        }
        owner.may_change()?;
        let mut config = self.clone();
        config.elastic_ips.retain(|known| known.address != address);
        for gateway in &mut config.nat_gateways {
            gateway.elastic_ips.retain(|known| *known != address);
            for source in &mut gateway.sources {
                source.elastic_ips.retain(|known| *known != address);
            }
        }
        Ok(config)
    }

    /// The Elastic IPs that NAT gateways use.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.nat_gateways.iter().flat_map(|gateway| gateway.elastic_ips.iter().copied())
    }

    /// Whether `address` could stand for sessions of the NAT gateway called `gateway` without being in use.
    #[must_use]
    pub fn may_drain(&self, elastic_ip: &ElasticIp, gateway: &str) -> bool {
        let mut with_it = self.clone();
        let Some(gateway) = with_it.nat_gateways.iter_mut().find(|found| found.name == gateway) else {
            return false;
        };
        gateway.elastic_ips.push(elastic_ip.address);
        self.owner(elastic_ip.address).is_none() && internal_place(&with_it, elastic_ip).is_none()
    }

    /// The position of the NAT gateway that is meant.
    fn gateway_for(&self, name: Option<&str>) -> Result<usize, ChangeError> {
        let known = || self.nat_gateways.iter().map(|gateway| gateway.name.clone()).collect();
        match name {
            Some(name) => self
                .nat_gateways
                .iter()
                .position(|gateway| gateway.name == name)
                .ok_or_else(|| ChangeError::UnknownGateway { name: name.to_owned(), known: known() }),
            None if self.nat_gateways.len() == 1 => Ok(0),
            None => Err(ChangeError::WhichGateway { known: known() }),
        }
    }
}

impl NatGateway {
    /// Whether its Elastic IPs may come and go while it runs.
    fn may_change(&self) -> Result<(), ChangeError> {
        if self.per_host.blocks.is_some_and(|blocks| blocks.deterministic) {
            return Err(ChangeError::Computed { gateway: self.name.clone() });
        }
        Ok(())
    }
}

fn elastic_ip(wanted: &NewElasticIp, known: Option<&ElasticIp>) -> Result<ElasticIp, ChangeError> {
    let ports = match &wanted.ports {
        Some(ports) => Some(
            List::One(Scalar::Text(ports.clone()))
                .ports()
                .map_err(|(message, remedy)| ChangeError::Ports { message, remedy })?,
        ),
        None => known.and_then(|known| known.ports.clone()),
    };
    let arp = wanted.arp.or(known.map(|known| known.arp)).unwrap_or_default();
    let reserved_ports = known.map(|known| known.reserved_ports.clone()).unwrap_or_default();
    Ok(ElasticIp { address: wanted.address, arp, ports, reserved_ports })
}

#[cfg(test)]
mod tests;
