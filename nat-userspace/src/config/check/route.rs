//! Route tables: each serves one VPC and leads to NAT gateways of that VPC.

use std::collections::HashMap;

use super::Check;
use crate::config::{Route, RouteTable, Target, Vpc, raw};

impl<'a> Check<'a> {
    pub(super) fn routes(&mut self) {
        let vpcs = self.table_vpcs();
        let (config, document) = (self.config, self.document);
        for (table, raw) in config.route_tables.iter().zip(&document.route_tables) {
            let vpc = vpcs.get(table.name.as_str()).copied();
            for (route, raw) in table.routes.iter().zip(&raw.get_ref().routes) {
                self.route(table, route, raw.get_ref(), vpc);
            }
        }
    }

    /// The VPC that each used route table belongs to; a second one is refused.
    fn table_vpcs(&mut self) -> HashMap<&'a str, &'a Vpc> {
        let (config, document) = (self.config, self.document);
        let mut vpcs: HashMap<&str, &Vpc> = HashMap::new();
        for (subnet, raw) in config.subnets.iter().zip(&document.subnets) {
            let (Some(table), Some(vpc)) = (&subnet.route_table, config.vpc(&subnet.vpc)) else { continue };
            let first = *vpcs.entry(table).or_insert(vpc);
            if let Some(reference) = raw.get_ref().route_table.as_ref().filter(|_| first.name != vpc.name) {
                let message = format!("route table {table} already serves vpc {}", first.name);
                let remedy = "give each vpc a route table of its own";
                self.report.add(reference.span(), format_args!("subnet {}", subnet.name), message, remedy);
            }
        }
        vpcs
    }

    fn route(&mut self, table: &RouteTable, route: &Route, raw: &raw::Route, vpc: Option<&Vpc>) {
        let object = format!("route table {}, route {}", table.name, route.destination);
        match &route.target {
            Target::NatGateway(name) => self.gateway_target(&object, name, raw, vpc),
            Target::Local => self.local_target(&object, route, raw, vpc),
            Target::Blackhole => {}
        }
    }

    fn gateway_target(&mut self, object: &str, name: &str, raw: &raw::Route, vpc: Option<&Vpc>) {
        let config = self.config;
        let Some(gateway) = config.nat_gateway(name) else {
            let known = config.nat_gateways.iter().map(|gateway| gateway.name.as_str());
            let known: Vec<_> = known.chain([Target::LOCAL, Target::BLACKHOLE]).collect();
            let message = format!("target {name} is not defined");
            let remedy = format!("define the nat gateway or write one of: {}", known.join(", "));
            self.report.add(raw.target.span(), object, message, remedy);
            return;
        };
        let home = config.subnet(&gateway.subnet).map(|subnet| subnet.vpc.as_str());
        if let (Some(home), Some(vpc)) = (home, vpc)
            && home != vpc.name
        {
            let message =
                format!("nat gateway {name} lives in vpc {home}, the table's subnets in vpc {}", vpc.name);
            let remedy = format!("write a nat gateway of vpc {}", vpc.name);
            self.report.add(raw.target.span(), object, message, remedy);
        }
    }

    fn local_target(&mut self, object: &str, route: &Route, raw: &raw::Route, vpc: Option<&Vpc>) {
        if let Some(vpc) = vpc.filter(|vpc| !vpc.contains(&route.destination)) {
            let message = format!("destination lies outside vpc {}, so it cannot be local", vpc.name);
            let remedy = "write a part of the vpc's cidr, or another target";
            self.report.add(raw.destination.span(), object, message, remedy);
        }
    }
}
