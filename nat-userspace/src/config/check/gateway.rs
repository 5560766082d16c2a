//! Elastic IPs and NAT gateways: every address has one definition and at most one gateway.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use toml::Spanned;

use super::Check;
use crate::config::{Config, ElasticIp, NatGateway, raw};

impl Check<'_> {
    pub(super) fn gateways(&mut self) {
        self.elastic_ips();
        let (config, document) = (self.config, self.document);
        let mut users = HashMap::new();
        for (gateway, raw) in config.nat_gateways.iter().zip(&document.nat_gateways) {
            self.gateway_subnet(gateway, &raw.get_ref().subnet);
            self.gateway_addresses(gateway, raw.get_ref(), &mut users);
        }
    }

    fn elastic_ips(&mut self) {
        let (config, document) = (self.config, self.document);
        let mut seen = std::collections::HashSet::new();
        for (elastic_ip, raw) in config.elastic_ips.iter().zip(&document.elastic_ips) {
            let address = &raw.get_ref().address;
            let object = format!("elastic ip {}", elastic_ip.address);
            if !seen.insert(elastic_ip.address) {
                self.report.add(address.span(), &object, "is defined twice", "keep one of the two");
            }
            if let Some(place) = internal_place(config, elastic_ip) {
                let message = format!("lies inside {place}, whose addresses are translated");
                self.report.add(
                    address.span(),
                    &object,
                    message,
                    "write an address that the outside can reach",
                );
            }
        }
    }

    fn gateway_subnet(&mut self, gateway: &NatGateway, reference: &Spanned<String>) {
        let config = self.config;
        let object = format!("nat gateway {}", gateway.name);
        match config.subnet(&gateway.subnet) {
            None => {
                let public = config.subnets.iter().filter(|subnet| !subnet.is_private());
                self.missing(&object, "subnet", reference, public.map(|subnet| subnet.name.as_str()));
            }
            Some(subnet) if subnet.is_private() => {
                let message = format!("subnet {} is private, since it has a route table", subnet.name);
                let remedy =
                    "put the nat gateway in a subnet without route_table whose interface faces the outside";
                self.report.add(reference.span(), &object, message, remedy);
            }
            Some(_) => {}
        }
    }

    fn gateway_addresses<'c>(
        &mut self,
        gateway: &'c NatGateway,
        raw: &raw::NatGateway,
        users: &mut HashMap<Ipv4Addr, &'c str>,
    ) {
        let object = format!("nat gateway {}", gateway.name);
        for (address, reference) in gateway.elastic_ips.iter().zip(raw.elastic_ips.get_ref()) {
            if self.config.elastic_ip(*address).is_none() {
                let known: Vec<_> =
                    self.config.elastic_ips.iter().map(|known| known.address.to_string()).collect();
                self.missing(&object, "elastic ip", reference, known.iter().map(String::as_str));
            }
            match users.insert(*address, &gateway.name) {
                Some(other) if other == gateway.name => {
                    let message = format!("elastic ip {address} is used twice");
                    self.report.add(reference.span(), &object, message, "name it once");
                }
                Some(other) => {
                    let message = format!("elastic ip {address} already belongs to nat gateway {other}");
                    self.report.add(reference.span(), &object, message, "give each nat gateway its own");
                }
                None => {}
            }
        }
    }
}

/// The private addresses that an Elastic IP lies among, if it does. An address of a VPC that stands in a NAT gateway's
/// own subnet is fine: a host in a cloud has such a one, and the cloud maps it to a public address.
pub(in crate::config) fn internal_place(config: &Config, elastic_ip: &ElasticIp) -> Option<String> {
    let address = &elastic_ip.address;
    let holders = || config.subnets.iter().filter(|subnet| subnet.cidr.contains(address));
    if let Some(subnet) = holders().find(|subnet| subnet.is_private()) {
        return Some(format!("private subnet {}", subnet.name));
    }
    let hosts_its_gateway = config.nat_gateways.iter().any(|gateway| {
        gateway.elastic_ips.contains(address) && holders().any(|subnet| subnet.name == gateway.subnet)
    });
    let vpc = config.vpcs.iter().find(|vpc| vpc.contains(&(*address).into()));
    vpc.filter(|_| !hosts_its_gateway).map(|vpc| format!("vpc {}", vpc.name))
}
