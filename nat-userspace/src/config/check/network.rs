//! VPCs and subnets: whose address blocks are whose, and behind which interface.

use std::collections::HashMap;

use ipnet::Ipv4Net;
use toml::Spanned;

use super::Check;
use crate::config::source::Span;
use crate::config::{DEFAULT_NACL, Subnet, raw};

/// An address block and the object that claims it.
struct Claim<'a> {
    network: Ipv4Net,
    owner: &'a str,
    span: Span,
}

impl Check<'_> {
    pub(super) fn networks(&mut self) {
        self.vpc_overlaps();
        self.subnet_overlaps();
        self.interfaces();
        let (config, document) = (self.config, self.document);
        for (subnet, raw) in config.subnets.iter().zip(&document.subnets) {
            self.subnet(subnet, raw.get_ref());
        }
    }

    fn vpc_overlaps(&mut self) {
        let (config, document) = (self.config, self.document);
        let mut claims = Vec::new();
        for (vpc, raw) in config.vpcs.iter().zip(&document.vpcs) {
            let spans = raw.get_ref().cidr.get_ref().iter().map(Spanned::span);
            claims.extend(vpc.cidr.iter().zip(spans).map(|(network, span)| Claim {
                network: *network,
                owner: &vpc.name,
                span,
            }));
        }
        self.overlaps("vpc", claims);
    }

    fn subnet_overlaps(&mut self) {
        let (config, document) = (self.config, self.document);
        let claims = config.subnets.iter().zip(&document.subnets).map(|(subnet, raw)| Claim {
            network: subnet.cidr,
            owner: &subnet.name,
            span: raw.get_ref().cidr.span(),
        });
        self.overlaps("subnet", claims.collect());
    }

    /// Reports every claim that overlaps an earlier one. Two blocks are disjoint or nested, so in the order of their
    /// addresses, wider first, a block can only lie in the last one that was not itself nested.
    fn overlaps(&mut self, kind: &str, mut claims: Vec<Claim<'_>>) {
        claims.sort_by_key(|claim| (claim.network.network(), claim.network.prefix_len(), claim.span.start));
        let mut widest: Option<&Claim<'_>> = None;
        for claim in &claims {
            let Some(outer) = widest.filter(|outer| outer.network.contains(&claim.network)) else {
                widest = Some(claim);
                continue;
            };
            let (earlier, later) =
                if outer.span.start <= claim.span.start { (outer, claim) } else { (claim, outer) };
            let whose = if earlier.owner == later.owner {
                "its own".to_owned()
            } else {
                format!("{kind} {}'s", earlier.owner)
            };
            self.report.add(
                later.span.clone(),
                format_args!("{kind} {}", later.owner),
                format_args!("cidr {} overlaps {whose} {}", later.network, earlier.network),
                "give each block addresses of its own",
            );
        }
    }

    /// An interface's packets belong to one VPC: the data plane knows it by where they came in.
    fn interfaces(&mut self) {
        let (config, document) = (self.config, self.document);
        let mut users: HashMap<&str, &Subnet> = HashMap::new();
        for (subnet, raw) in
            config.subnets.iter().zip(&document.subnets).filter(|(subnet, _)| subnet.is_private())
        {
            let first = *users.entry(&subnet.interface).or_insert(subnet);
            if first.vpc != subnet.vpc {
                let message = format!(
                    "interface {} already leads to {} of vpc {}",
                    subnet.interface, first.name, first.vpc
                );
                let remedy = "give each vpc an interface of its own, a VLAN for example";
                self.report.add(
                    raw.get_ref().interface.span(),
                    format_args!("subnet {}", subnet.name),
                    message,
                    remedy,
                );
            }
        }
    }

    fn subnet(&mut self, subnet: &Subnet, raw: &raw::Subnet) {
        let config = self.config;
        let object = format!("subnet {}", subnet.name);
        match config.vpc(&subnet.vpc) {
            None => self.missing(&object, "vpc", &raw.vpc, config.vpcs.iter().map(|vpc| vpc.name.as_str())),
            Some(vpc) if subnet.is_private() && !vpc.contains(&subnet.cidr) => {
                let blocks: Vec<_> = vpc.cidr.iter().map(Ipv4Net::to_string).collect();
                let message = format!("cidr {} lies outside vpc {}", subnet.cidr, vpc.name);
                let remedy = format!("write a part of {}, or add the block to the vpc", blocks.join(", "));
                self.report.add(raw.cidr.span(), &object, message, remedy);
            }
            Some(_) => {}
        }
        if let Some(nacl) = raw.nacl.as_ref().filter(|nacl| !self.nacl_exists(nacl.get_ref())) {
            let known =
                config.nacls.iter().map(|nacl| nacl.name.as_str()).filter(|name| *name != DEFAULT_NACL);
            self.missing(&object, "nacl", nacl, std::iter::once(DEFAULT_NACL).chain(known));
        }
        if let Some(table) =
            raw.route_table.as_ref().filter(|table| config.route_table(table.get_ref()).is_none())
        {
            let known = config.route_tables.iter().map(|table| table.name.as_str());
            self.missing(&object, "route table", table, known);
        }
    }
}
