//! The configuration of the common case, from flags: one VPC, one NAT gateway, everything allowed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use toml::Spanned;

use super::error::Problem;
use super::raw::{self, Document};
use super::source::{Source, Span};
use super::{Arp, Mode};

/// What the flags of `natgw run` say.
///
/// With one internal interface all private blocks are behind it; with several, the first block is behind the first
/// interface, and so on. The names are `main` (VPC), `private-1`, `private-2`, ... and `public` (subnets), `private`
/// (route table) and `nat` (NAT gateway).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Interfaces toward the private hosts.
    pub internal: Vec<String>,
    /// The interface toward the outside; may be one of the internal ones.
    pub external: String,
    /// The external addresses.
    pub elastic_ips: Vec<Ipv4Addr>,
    /// The private hosts' addresses.
    pub private_cidrs: Vec<Ipv4Net>,
    /// How programs are attached.
    pub mode: Mode,
    /// How packets to the Elastic IPs reach this host.
    pub arp: Arp,
    /// Sessions the flow table can hold; the default if absent.
    pub max_sessions: Option<u32>,
}

impl Flags {
    /// The document a file would have held, and where its values come from.
    pub(super) fn document(&self) -> Result<(Document, Source<'static>), Problem> {
        let mut flags = Written::default();
        let max_sessions = self.max_sessions.map(|max| flags.write("--max-sessions", i64::from(max)));
        let cidrs: Vec<_> =
            self.private_cidrs.iter().map(|cidr| flags.text("--private-cidr", cidr)).collect();
        let internal: Vec<_> = self.internal.iter().map(|name| flags.text("--internal", name)).collect();
        let external = flags.text("--external", &self.external);
        let elastic_ips: Vec<_> =
            self.elastic_ips.iter().map(|address| flags.text("--elastic-ip", address)).collect();
        let nowhere = flags.nowhere();
        let source = Source::Flags(flags.0);

        let mut subnets = private_subnets(&internal, &cidrs, &source)?;
        subnets.extend(public_subnet(external, &elastic_ips));
        let document = Document {
            gateway: raw::Gateway { mode: Some(self.mode), max_sessions, ..raw::Gateway::default() },
            vpcs: vec![Spanned::new(
                nowhere.clone(),
                raw::Vpc { name: fixed("main", &nowhere), cidr: Spanned::new(nowhere.clone(), cidrs) },
            )],
            elastic_ips: elastic_ips.iter().map(|address| elastic_ip(address, self.arp)).collect(),
            nat_gateways: vec![nat_gateway(elastic_ips, &nowhere)],
            route_tables: vec![default_route(&nowhere)],
            subnets,
            ..Document::default()
        };
        Ok((document, source))
    }
}

/// Flags as they were written; a value's span starts at its flag's index.
#[derive(Default)]
struct Written(Vec<String>);

impl Written {
    fn write<T: ToString>(&mut self, flag: &str, value: T) -> Spanned<T> {
        self.0.push(format!("{flag} {}", value.to_string()));
        Spanned::new(self.0.len() - 1..self.0.len(), value)
    }

    fn text(&mut self, flag: &str, value: &impl ToString) -> Spanned<String> {
        self.write(flag, value.to_string())
    }

    /// A span after all flags, for what no flag says.
    fn nowhere(&self) -> Span {
        self.0.len()..self.0.len()
    }
}

fn fixed(name: &str, span: &Span) -> Spanned<String> {
    Spanned::new(span.clone(), name.to_owned())
}

fn private_subnets(
    internal: &[Spanned<String>],
    cidrs: &[Spanned<String>],
    source: &Source<'_>,
) -> Result<Vec<Spanned<raw::Subnet>>, Problem> {
    if internal.len() != 1 && internal.len() != cidrs.len() {
        let remedy =
            "give one --private-cidr for each --internal, in the same order, or write a --config file";
        let message = format!("{} interfaces for {} private blocks", internal.len(), cidrs.len());
        let span = internal.last().map_or(0..0, Spanned::span);
        return Err(source.problem(&span, "configuration", message, remedy));
    }
    let subnet = |(index, (cidr, interface)): (usize, (&Spanned<String>, &Spanned<String>))| {
        let span = cidr.span();
        let subnet = raw::Subnet {
            name: fixed(&format!("private-{}", index + 1), &span),
            vpc: fixed("main", &span),
            cidr: cidr.clone(),
            interface: interface.clone(),
            route_table: Some(fixed("private", &span)),
            nacl: None,
        };
        Spanned::new(span, subnet)
    };
    Ok(cidrs.iter().zip(internal.iter().cycle()).enumerate().map(subnet).collect())
}

/// No flag names the external subnet's addresses; the first Elastic IP is one of them or stands for them.
fn public_subnet(external: Spanned<String>, elastic_ips: &[Spanned<String>]) -> Option<Spanned<raw::Subnet>> {
    let first = elastic_ips.first()?;
    let span = external.span();
    let subnet = raw::Subnet {
        name: fixed("public", &span),
        vpc: fixed("main", &span),
        cidr: Spanned::new(first.span(), format!("{}/32", first.get_ref())),
        interface: external,
        route_table: None,
        nacl: None,
    };
    Some(Spanned::new(span, subnet))
}

fn elastic_ip(address: &Spanned<String>, arp: Arp) -> Spanned<raw::ElasticIp> {
    let elastic_ip =
        raw::ElasticIp { address: address.clone(), arp: Some(arp), ports: None, reserved_ports: None };
    Spanned::new(address.span(), elastic_ip)
}

fn nat_gateway(elastic_ips: Vec<Spanned<String>>, span: &Span) -> Spanned<raw::NatGateway> {
    let gateway = raw::NatGateway {
        name: fixed("nat", span),
        subnet: fixed("public", span),
        elastic_ips: Spanned::new(span.clone(), elastic_ips),
        nacl_both_sides: None,
        strategy: None,
        mapping: None,
        filtering: None,
        overload: None,
        port_parity: None,
        sources: Vec::new(),
        port_less: Vec::new(),
        mss_clamp: None,
        max_sessions_per_host: None,
        max_ports_per_destination: None,
        new_sessions_per_second_per_host: None,
        block_size: None,
        max_blocks: None,
        deterministic: None,
    };
    Spanned::new(span.clone(), gateway)
}

fn default_route(span: &Span) -> Spanned<raw::RouteTable> {
    let route = raw::Route { destination: fixed("0.0.0.0/0", span), target: fixed("nat", span) };
    let table =
        raw::RouteTable { name: fixed("private", span), routes: vec![Spanned::new(span.clone(), route)] };
    Spanned::new(span.clone(), table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Target};

    fn flags() -> Flags {
        Flags {
            internal: vec!["eth1".to_owned()],
            external: "eth0".to_owned(),
            elastic_ips: vec![Ipv4Addr::new(203, 0, 113, 10)],
            private_cidrs: vec!["10.0.0.0/16".parse().unwrap()],
            ..Flags::default()
        }
    }

    fn refusal(flags: &Flags) -> String {
        Config::from_flags(flags).unwrap_err().to_string()
    }

    #[test]
    fn the_common_case_needs_no_file_and_gives_no_warning() {
        let config = Config::from_flags(&flags()).unwrap();
        assert_eq!(config.warnings(), []);
        let private = config.subnet("private-1").unwrap();
        assert_eq!(
            (private.interface.as_str(), private.cidr.to_string()),
            ("eth1", "10.0.0.0/16".to_owned())
        );
        let gateway = config.nat_gateway("nat").unwrap();
        assert_eq!(config.subnet(&gateway.subnet).unwrap().interface, "eth0");
        let targets: Vec<_> = config.route_tables[0].routes.iter().map(|route| &route.target).collect();
        assert_eq!(targets, [&Target::NatGateway("nat".to_owned()), &Target::Local]);
    }

    #[test]
    fn one_internal_interface_leads_to_all_private_blocks() {
        let mut flags = flags();
        flags.private_cidrs.push("10.1.0.0/16".parse().unwrap());
        let config = Config::from_flags(&flags).unwrap();
        assert_eq!(config.subnet("private-2").unwrap().interface, "eth1");
        assert_eq!(config.vpcs[0].cidr.len(), 2);
    }

    #[test]
    fn several_internal_interfaces_are_paired_with_private_blocks_in_order() {
        let mut flags = flags();
        flags.internal.push("eth2".to_owned());
        assert_eq!(
            refusal(&flags),
            "--internal eth2: configuration: 2 interfaces for 1 private blocks; give one --private-cidr for each \
             --internal, in the same order, or write a --config file"
        );
        flags.private_cidrs.push("10.1.0.0/16".parse().unwrap());
        let config = Config::from_flags(&flags).unwrap();
        let subnet = config.subnet("private-2").unwrap();
        assert_eq!((subnet.interface.as_str(), subnet.cidr.to_string()), ("eth2", "10.1.0.0/16".to_owned()));
    }

    #[test]
    fn an_error_names_the_flag_once() {
        let mut twice = flags();
        twice.elastic_ips.push(twice.elastic_ips[0]);
        assert_eq!(
            refusal(&twice),
            "--elastic-ip 203.0.113.10: elastic ip 203.0.113.10: is defined twice; keep one of the two"
        );
        let inside = Flags { elastic_ips: vec![Ipv4Addr::new(10, 0, 0, 9)], ..flags() };
        assert_eq!(
            refusal(&inside),
            "--elastic-ip 10.0.0.9: elastic ip 10.0.0.9: lies inside private subnet private-1, whose addresses are \
             translated; write an address that the outside can reach"
        );
        let host_bits = Flags { private_cidrs: vec!["10.0.0.1/16".parse().unwrap()], ..flags() };
        assert_eq!(
            refusal(&host_bits),
            "--private-cidr 10.0.0.1/16: vpc main: cidr 10.0.0.1/16 has host bits set; write \"10.0.0.0/16\""
        );
    }

    #[test]
    fn one_network_card_may_be_both_sides() {
        Config::from_flags(&Flags { external: "eth1".to_owned(), ..flags() }).unwrap();
    }
}
