//! What is valid but probably not meant.

mod nacl;

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::{Config, DEFAULT_NACL, Subnet, Target};

/// Something valid that probably is not meant. Displayed as `object: message; remedy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The object it is about.
    pub object: String,
    /// What is odd about it.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Warning {
    fn new(object: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { object: object.into(), message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.message, self.remedy)
    }
}

/// Every warning about `config`, in a fixed order.
pub(super) fn of(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    warnings.extend(idle_gateway(config));
    warnings.extend(subnets(config));
    warnings.extend(nat_gateways(config));
    warnings.extend(elastic_ips(config));
    warnings.extend(route_tables(config));
    warnings.extend(nacl::of(config));
    warnings
}

fn idle_gateway(config: &Config) -> Option<Warning> {
    let idle = !config.subnets.iter().any(Subnet::is_private) || config.nat_gateways.is_empty();
    idle.then(|| {
        Warning::new(
            "configuration",
            "nothing is translated without a private subnet and a nat gateway",
            "see `natgw config sample`",
        )
    })
}

fn subnets(config: &Config) -> impl Iterator<Item = Warning> {
    config.subnets.iter().filter_map(|subnet| {
        let object = format!("subnet {}", subnet.name);
        let Some(table) = &subnet.route_table else {
            let used = config.nat_gateways.iter().any(|gateway| gateway.subnet == subnet.name);
            let message = "has neither a route table nor a nat gateway";
            return (!used)
                .then(|| Warning::new(object, message, "name its route_table if private hosts live in it"));
        };
        let routes = config.route_table(table).map_or(&[][..], |table| &table.routes);
        let leads_out = routes.iter().any(|route| matches!(route.target, Target::NatGateway(_)));
        (!leads_out).then(|| {
            let message = format!("no route of its table {table} leads to a nat gateway");
            Warning::new(object, message, "add { destination = \"0.0.0.0/0\", target = \"...\" }")
        })
    })
}

fn nat_gateways(config: &Config) -> impl Iterator<Item = Warning> {
    let routes = config.route_tables.iter().flat_map(|table| &table.routes);
    let used: HashSet<&str> = routes
        .filter_map(|route| match &route.target {
            Target::NatGateway(name) => Some(name.as_str()),
            Target::Local | Target::Blackhole => None,
        })
        .collect();
    config.nat_gateways.iter().filter(move |gateway| !used.contains(gateway.name.as_str())).map(|gateway| {
        Warning::new(
            format!("nat gateway {}", gateway.name),
            "no route leads to it",
            "name it as a route's target",
        )
    })
}

fn elastic_ips(config: &Config) -> impl Iterator<Item = Warning> {
    let used: HashSet<_> = config.nat_gateways.iter().flat_map(|gateway| &gateway.elastic_ips).collect();
    config.elastic_ips.iter().filter(move |elastic_ip| !used.contains(&elastic_ip.address)).map(
        |elastic_ip| {
            let object = format!("elastic ip {}", elastic_ip.address);
            Warning::new(object, "belongs to no nat gateway", "name it in a nat gateway's elastic_ips")
        },
    )
}

fn route_tables(config: &Config) -> impl Iterator<Item = Warning> {
    let used: HashSet<_> = config.subnets.iter().filter_map(|subnet| subnet.route_table.as_ref()).collect();
    config.route_tables.iter().filter(move |table| !used.contains(&table.name)).map(|table| {
        Warning::new(
            format!("route table {}", table.name),
            "no subnet uses it",
            "name it in a subnet's route_table",
        )
    })
}

#[cfg(test)]
mod tests;
