//! Which sessions to list.

use std::net::Ipv4Addr;

use clap::Args;
use ipnet::{AddrParseError, Ipv4Net};
use thiserror::Error;

use super::{FlowProtocol, FlowReport, FlowState};
use crate::config::Config;

/// A filter asks for something that the gateway does not have, so that no session can ever match.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{kind} {name} does not exist; the configuration in force has {}", listed(.existing))]
pub struct NotFound {
    /// What it would be: `vpc`, `nat gateway` or `elastic ip`.
    pub kind: &'static str,
    /// What was asked for.
    pub name: String,
    /// What there is instead.
    pub existing: Vec<String>,
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Which sessions to list.
///
/// A session has to match every filter that is given, and of each filter any value.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FlowFilter {
    /// Private hosts: an address or a CIDR
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = network)]
    pub source: Vec<Ipv4Net>,

    /// Remote hosts: an address or a CIDR
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = network)]
    pub destination: Vec<Ipv4Net>,

    /// Ports of private hosts
    #[arg(long, value_name = "PORT")]
    pub source_port: Vec<u16>,

    /// Ports of remote hosts
    #[arg(long, value_name = "PORT")]
    pub destination_port: Vec<u16>,

    /// Ports of either side
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,

    /// Protocols
    #[arg(long, value_enum)]
    pub protocol: Vec<FlowProtocol>,

    /// Elastic IPs
    #[arg(long, value_name = "ADDRESS")]
    pub elastic_ip: Vec<Ipv4Addr>,

    /// How far the conversation has got
    #[arg(long, value_enum)]
    pub state: Vec<FlowState>,

    /// NAT gateways
    #[arg(long, value_name = "NAME")]
    pub nat_gateway: Vec<String>,

    /// VPCs
    #[arg(long, value_name = "NAME")]
    pub vpc: Vec<String>,
}

impl FlowFilter {
    /// Whether everything that this filter names exists. An Elastic IP that is no longer configured exists while it
    /// has sessions, which are among `flows`.
    ///
    /// # Errors
    ///
    /// [`NotFound`] about the first name that does not.
    pub fn check(&self, config: &Config, flows: &[FlowReport<'_>]) -> Result<(), NotFound> {
        known("vpc", &self.vpc, config.vpcs.iter().map(|vpc| &vpc.name))?;
        known("nat gateway", &self.nat_gateway, config.nat_gateways.iter().map(|gateway| &gateway.name))?;
        let lingers = |address: &Ipv4Addr| flows.iter().any(|flow| flow.elastic_ip == *address);
        let configured = |address: &Ipv4Addr| config.elastic_ip(*address).is_some();
        let asked = self.elastic_ip.iter().copied();
        let unknown: Vec<_> = asked.filter(|address| !configured(address) && !lingers(address)).collect();
        known("elastic ip", &unknown, config.elastic_ips.iter().map(|elastic_ip| &elastic_ip.address))
    }

    /// Whether `flow` is among those asked for.
    #[must_use]
    pub fn matches(&self, flow: &FlowReport<'_>) -> bool {
        let within = |networks: &[Ipv4Net], address: Ipv4Addr| {
            networks.is_empty() || networks.iter().any(|network| network.contains(&address))
        };
        let either_port = self.port.is_empty()
            || self.port.iter().any(|port| [flow.source_port, flow.destination_port].contains(port));
        within(&self.source, flow.source)
            && within(&self.destination, flow.destination)
            && any(&self.source_port, &flow.source_port)
            && any(&self.destination_port, &flow.destination_port)
            && either_port
            && any(&self.protocol, &flow.protocol)
            && any(&self.elastic_ip, &flow.elastic_ip)
            && any(&self.state, &flow.state)
            && (self.nat_gateway.is_empty()
                || self.nat_gateway.iter().any(|name| flow.nat_gateway == Some(name)))
            && (self.vpc.is_empty() || self.vpc.iter().any(|name| flow.vpc == *name))
    }
}

/// A filter that is not given lets everything pass.
fn any<T: PartialEq>(wanted: &[T], found: &T) -> bool {
    wanted.is_empty() || wanted.contains(found)
}

fn known<'a, T: PartialEq + ToString + 'a>(
    kind: &'static str,
    wanted: &[T],
    existing: impl Iterator<Item = &'a T> + Clone,
) -> Result<(), NotFound> {
    match wanted.iter().find(|name| !existing.clone().any(|other| other == *name)) {
        None => Ok(()),
        Some(name) => {
            let existing = existing.map(ToString::to_string).collect();
            Err(NotFound { kind, name: name.to_string(), existing })
        }
    }
}

/// An address stands for itself; host bits of a CIDR are ignored.
fn network(text: &str) -> Result<Ipv4Net, AddrParseError> {
    text.parse().map(Ipv4Addr::into).or_else(|_| text.parse().map(|network: Ipv4Net| network.trunc()))
}
