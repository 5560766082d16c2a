//! What AWS adds without being asked: `local` routes, and the default NACL.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use crate::config::{Action, Config, DEFAULT_NACL, Nacl, Protocol, Route, Rule, Subnet, Target, Vpc};

/// Number of the default NACL's one rule.
const DEFAULT_RULE: u16 = 100;

/// Writes out what is implicit in a checked configuration.
pub(super) fn complete(mut config: Config) -> Config {
    for table in &mut config.route_tables {
        let uses_table = |subnet: &&Subnet| subnet.route_table.as_ref() == Some(&table.name);
        let vpcs: BTreeSet<_> = config.subnets.iter().filter(uses_table).map(|subnet| &subnet.vpc).collect();
        let served = config.vpcs.iter().filter(|vpc| vpcs.contains(&vpc.name));
        add_local_routes(&mut table.routes, served);
    }
    if config.nacl(DEFAULT_NACL).is_none() {
        let name = DEFAULT_NACL.to_owned();
        config.nacls.push(Nacl { name, inbound: vec![allow_all()], outbound: vec![allow_all()] });
    }
    config
}

/// An explicit route for the same destination replaces the implicit one.
fn add_local_routes<'c>(routes: &mut Vec<Route>, vpcs: impl Iterator<Item = &'c Vpc>) {
    let explicit: BTreeSet<_> = routes.iter().map(|route| route.destination).collect();
    let implicit = vpcs.flat_map(|vpc| &vpc.cidr).filter(|block| !explicit.contains(block));
    routes.extend(implicit.map(|block| Route { destination: *block, target: Target::Local }));
    routes.sort_by_key(|route| route.destination);
}

fn allow_all() -> Rule {
    Rule {
        number: DEFAULT_RULE,
        action: Action::Allow,
        protocol: Protocol::All,
        cidr: Ipv4Net::default(),
        ports: None,
        icmp: None,
    }
}
