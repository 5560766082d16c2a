//! The second sieve: the values of one object at a time, from text to types.

mod mapping;
mod nacl;
mod per_host;
mod translation;

use std::collections::HashSet;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use toml::Spanned;

use super::error::Problem;
use super::gateway::DEFAULT_PORTS;
use super::raw::{self, Document};
use super::scalar::{List, Scalar};
use super::source::{Report, Source};
use super::{
    Config, DEFAULT_DRAIN, DEFAULT_FRAGMENTED, DEFAULT_NACL, ElasticIp, NatGateway, OwnElasticIps, Route,
    RouteTable, Subnet, Target, Timeouts, Vpc,
};
use crate::ports::Ports;

/// Sessions the flow table may be sized for.
const SESSIONS: RangeInclusive<i64> = 1_024..=67_108_864;

const DEFAULT_SESSIONS: u32 = 262_144;
const ICMP_ERRORS: RangeInclusive<i64> = 0..=1_000_000;
const DEFAULT_ICMP_ERRORS: u32 = 1_000;
/// Datagrams in fragments that the table of their records may be sized for.
const FRAGMENTED: RangeInclusive<i64> = 64..=1_048_576;
const MAX_NAME: usize = 64;
/// IFNAMSIZ without the terminating zero.
const MAX_INTERFACE: usize = 15;

/// Turns every object of `document` into its domain type, in the same order.
pub(super) fn lower(document: &Document, source: &Source<'_>) -> Result<Config, Vec<Problem>> {
    let mut lower = Lower { report: Report::new(source) };
    let gateway = &document.gateway;
    let config = Config {
        mode: gateway.mode.unwrap_or_default(),
        max_sessions: lower.count("max_sessions", &gateway.max_sessions, SESSIONS, DEFAULT_SESSIONS),
        icmp_errors_per_second: lower.count(
            "icmp_errors_per_second",
            &gateway.icmp_errors_per_second,
            ICMP_ERRORS,
            DEFAULT_ICMP_ERRORS,
        ),
        same_queue: gateway.same_queue.unwrap_or(false),
        bursts: gateway.bursts.unwrap_or_default(),
        drain: lower.drain(&gateway.drain),
        idle_reset: gateway.idle_reset.unwrap_or_default(),
        fragments: gateway.fragments.unwrap_or_default(),
        max_fragmented_datagrams: lower.count(
            "max_fragmented_datagrams",
            &gateway.max_fragmented_datagrams,
            FRAGMENTED,
            DEFAULT_FRAGMENTED,
        ),
        timeouts: lower.timeouts(&document.timeouts),
        vpcs: document.vpcs.iter().map(|vpc| lower.vpc(vpc)).collect(),
        subnets: document.subnets.iter().map(|subnet| lower.subnet(subnet.get_ref())).collect(),
        elastic_ips: document.elastic_ips.iter().map(|address| lower.elastic_ip(address.get_ref())).collect(),
        nat_gateways: document
            .nat_gateways
            .iter()
            .map(|gateway| lower.nat_gateway(gateway.get_ref()))
            .collect(),
        route_tables: document.route_tables.iter().map(|table| lower.route_table(table.get_ref())).collect(),
        nacls: document.nacls.iter().map(|nacl| lower.nacl(nacl.get_ref())).collect(),
    };
    lower.report.finish(config)
}

/// Why no packet on a wire can come from or go to all of `network`, if so.
pub(super) fn unusable(network: &Ipv4Net) -> Option<&'static str> {
    const UNUSABLE: [(&str, Ipv4Net); 4] = [
        ("this-network", Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8)),
        ("loopback", Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        ("link-local", Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
        ("multicast or reserved", Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    ];
    let overlap = |special: &Ipv4Net| special.contains(network) || network.contains(special);
    UNUSABLE.iter().find(|(_, special)| overlap(special)).map(|(name, _)| *name)
}

/// Lowers objects. What cannot be understood is reported and stands as a placeholder in a result nobody sees.
struct Lower<'a> {
    report: Report<'a>,
}

impl Lower<'_> {
    fn count(
        &mut self,
        field: &str,
        value: &Option<Spanned<i64>>,
        range: RangeInclusive<i64>,
        default: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if !range.contains(&number) {
            self.report.add(
                value.span(),
                "gateway",
                format_args!("{field} {number} is out of range"),
                format_args!("write {} to {}", range.start(), range.end()),
            );
        }
        u32::try_from(number).unwrap_or(default)
    }

    fn drain(&mut self, value: &Option<Spanned<Scalar>>) -> u64 {
        let Some(value) = value else { return DEFAULT_DRAIN };
        value.get_ref().drain().unwrap_or_else(|(message, remedy)| {
            self.report.add(value.span(), "gateway, drain", message, remedy);
            DEFAULT_DRAIN
        })
    }

    fn timeouts(&mut self, raw: &raw::Timeouts) -> Timeouts {
        let default = raw.profile.unwrap_or_default().timeouts();
        Timeouts {
            tcp_established: self.seconds("tcp_established", &raw.tcp_established, default.tcp_established),
            tcp_transitory: self.seconds("tcp_transitory", &raw.tcp_transitory, default.tcp_transitory),
            tcp_closing: self.seconds("tcp_closing", &raw.tcp_closing, default.tcp_closing),
            udp: self.seconds("udp", &raw.udp, default.udp),
            icmp: self.seconds("icmp", &raw.icmp, default.icmp),
            inbound_refresh: raw.inbound_refresh.unwrap_or(default.inbound_refresh),
            fragments: self.seconds("fragments", &raw.fragments, default.fragments),
        }
    }

    fn seconds(&mut self, field: &str, value: &Option<Spanned<Scalar>>, default: u64) -> u64 {
        let Some(value) = value else { return default };
        value.get_ref().seconds().unwrap_or_else(|(message, remedy)| {
            self.report.add(value.span(), format_args!("timeouts, {field}"), message, remedy);
            default
        })
    }

    fn vpc(&mut self, spanned: &Spanned<raw::Vpc>) -> Vpc {
        let raw = spanned.get_ref();
        let object = format!("vpc {}", raw.name.get_ref());
        self.name(&object, &raw.name);
        if raw.cidr.get_ref().is_empty() {
            self.report.add(
                raw.cidr.span(),
                &object,
                "has no cidr",
                "write at least one, as in [\"10.0.0.0/16\"]",
            );
        }
        let blocks = raw.cidr.get_ref().iter();
        Vpc {
            name: raw.name.get_ref().clone(),
            cidr: blocks.filter_map(|block| self.usable_network(&object, block)).collect(),
        }
    }

    fn subnet(&mut self, raw: &raw::Subnet) -> Subnet {
        let object = format!("subnet {}", raw.name.get_ref());
        self.name(&object, &raw.name);
        self.interface(&object, &raw.interface);
        let text = |value: &Spanned<String>| value.get_ref().clone();
        Subnet {
            name: text(&raw.name),
            vpc: text(&raw.vpc),
            cidr: self.usable_network(&object, &raw.cidr).unwrap_or_default(),
            interface: text(&raw.interface),
            route_table: raw.route_table.as_ref().map(text),
            nacl: raw.nacl.as_ref().map_or_else(|| DEFAULT_NACL.to_owned(), text),
        }
    }

    fn elastic_ip(&mut self, raw: &raw::ElasticIp) -> ElasticIp {
        let object = format!("elastic ip {}", raw.address.get_ref());
        let address = self.address(&object, &raw.address);
        if let Some(kind) = address.and_then(|address| unusable(&address.into())) {
            self.report.add(
                raw.address.span(),
                &object,
                format_args!("is a {kind} address"),
                "write a unicast address that the outside can reach",
            );
        }
        let ports = raw.ports.as_ref().and_then(|ports| self.port_list(&object, ports));
        let reserved_ports = raw.reserved_ports.as_ref().and_then(|ports| self.port_list(&object, ports));
        let elastic_ip = ElasticIp {
            address: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            arp: raw.arp.unwrap_or_default(),
            ports,
            reserved_ports: reserved_ports.unwrap_or_default(),
        };
        self.some_port(&object, raw, &elastic_ip);
        elastic_ip
    }

    /// An Elastic IP without ports serves nobody.
    fn some_port(&mut self, object: &str, raw: &raw::ElasticIp, elastic_ip: &ElasticIp) {
        let Some(place) = raw.reserved_ports.as_ref().or(raw.ports.as_ref()) else { return };
        if elastic_ip.usable_ports().is_empty() {
            let message = "no port is left for sessions";
            self.report.add(place.span(), object, message, "write more ports or fewer reserved_ports");
        }
    }

    fn nat_gateway(&mut self, raw: &raw::NatGateway) -> NatGateway {
        let name = raw.name.get_ref();
        let object = format!("nat gateway {name}");
        self.name(&object, &raw.name);
        if matches!(name.as_str(), Target::LOCAL | Target::BLACKHOLE) {
            let message = format!("{name} is the name of a route's own target");
            self.report.add(raw.name.span(), &object, message, "give the nat gateway another name");
        }
        NatGateway {
            name: name.clone(),
            subnet: raw.subnet.get_ref().clone(),
            elastic_ips: self.addresses(&object, &raw.elastic_ips),
            nacl_both_sides: raw.nacl_both_sides.unwrap_or(false),
            strategy: raw.strategy.unwrap_or_default(),
            behaviour: self.behaviour(&object, raw),
            sources: self.sources(&object, &raw.sources),
            port_less: self.port_less(&object, &raw.port_less),
            mss_clamp: self.mss_clamp(&object, &raw.mss_clamp),
            per_host: self.per_host(&object, raw),
        }
    }

    fn sources(&mut self, object: &str, raw: &[Spanned<raw::OwnElasticIps>]) -> Vec<OwnElasticIps> {
        let mut sources: Vec<OwnElasticIps> = Vec::with_capacity(raw.len());
        for source in raw.iter().map(Spanned::get_ref) {
            let Some(cidr) = self.network(object, &source.cidr) else { continue };
            if sources.iter().any(|known| known.cidr == cidr) {
                let message = format!("source {cidr} stands there twice");
                self.report.add(source.cidr.span(), object, message, "write its elastic ips into one list");
            }
            let elastic_ips = self.addresses(&format!("{object}, source {cidr}"), &source.elastic_ips);
            sources.push(OwnElasticIps { cidr, elastic_ips });
        }
        sources
    }

    /// A list of Elastic IPs, at least one.
    fn addresses(&mut self, object: &str, list: &Spanned<Vec<Spanned<String>>>) -> Vec<Ipv4Addr> {
        if list.get_ref().is_empty() {
            let remedy = "name at least one, as in [\"203.0.113.10\"]";
            self.report.add(list.span(), object, "has no elastic ip", remedy);
        }
        list.get_ref().iter().filter_map(|address| self.address(object, address)).collect()
    }

    fn route_table(&mut self, raw: &raw::RouteTable) -> RouteTable {
        let name = raw.name.get_ref();
        let object = format!("route table {name}");
        self.name(&object, &raw.name);
        let mut seen = HashSet::new();
        let mut routes = Vec::with_capacity(raw.routes.len());
        for route in raw.routes.iter().map(Spanned::get_ref) {
            let Some(destination) = self.network(&object, &route.destination) else { continue };
            if !seen.insert(destination) {
                let message = format!("destination {destination} has two routes");
                self.report.add(route.destination.span(), &object, message, "keep one of them");
            }
            routes.push(Route { destination, target: Target::from(route.target.get_ref().clone()) });
        }
        RouteTable { name: name.clone(), routes }
    }

    fn name(&mut self, object: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(ordinary) {
            let message = format!("name \"{text}\" cannot be used");
            let remedy = format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`");
            self.report.add(name.span(), object, message, remedy);
        }
    }

    fn interface(&mut self, object: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        let ordinary = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
        if matches!(text.as_str(), "" | "." | "..")
            || text.len() > MAX_INTERFACE
            || !text.bytes().all(ordinary)
        {
            let message = format!("\"{text}\" cannot be an interface");
            self.report.add(
                name.span(),
                object,
                message,
                "write a name that `ip link` shows, as in \"eth1\"",
            );
        }
    }

    fn address(&mut self, object: &str, text: &Spanned<String>) -> Option<Ipv4Addr> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let message = format!("\"{}\" is not an IPv4 address", text.get_ref());
            self.report.add(text.span(), object, message, "write one as in \"203.0.113.10\"");
        }
        address
    }

    /// A network with its host bits zero.
    fn network(&mut self, object: &str, text: &Spanned<String>) -> Option<Ipv4Net> {
        let network = self.any_network(object, text)?;
        let canonical = network.trunc();
        if network != canonical {
            let message = format!("cidr {network} has host bits set");
            self.report.add(text.span(), object, message, format_args!("write \"{canonical}\""));
        }
        Some(canonical)
    }

    /// A network of addresses that hosts can have.
    fn usable_network(&mut self, object: &str, text: &Spanned<String>) -> Option<Ipv4Net> {
        let network = self.network(object, text)?;
        if let Some(kind) = unusable(&network) {
            let message = format!("cidr {network} holds {kind} addresses");
            self.report.add(
                text.span(),
                object,
                message,
                "write addresses that hosts can have, as in \"10.0.0.0/16\"",
            );
        }
        Some(network)
    }

    fn any_network(&mut self, object: &str, text: &Spanned<String>) -> Option<Ipv4Net> {
        let network = text.get_ref().parse().ok();
        if network.is_none() {
            let message = format!("\"{}\" is not an IPv4 cidr", text.get_ref());
            self.report.add(
                text.span(),
                object,
                message,
                "write an address and a prefix length, as in \"10.0.0.0/16\"",
            );
        }
        network
    }

    fn ports(&mut self, object: impl Display, ports: &Spanned<Scalar>) -> (u16, u16) {
        ports.get_ref().ports().unwrap_or_else(|(message, remedy)| {
            self.report.add(ports.span(), object, message, remedy);
            DEFAULT_PORTS
        })
    }

    /// The ports of a list; `None` if some of it is wrong.
    fn port_list(&mut self, object: &str, list: &Spanned<List>) -> Option<Ports> {
        let mut ranges = Some(Vec::new());
        for part in list.get_ref().parts() {
            match part.ports() {
                Ok(range) => ranges.iter_mut().for_each(|ranges| ranges.push(range)),
                Err((message, remedy)) => {
                    self.report.add(list.span(), object, message, remedy);
                    ranges = None;
                }
            }
        }
        Some(ranges?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
