//! What the data plane's maps can hold.

use nat_common::nacl::{MAX_NACLS, MAX_RULES, MAX_RULES_PER_LIST};
use nat_common::pool::{MAX_ELASTIC_IPS, MAX_GATEWAYS, MAX_SOURCES};
use nat_common::route::{MAX_ROUTES, MAX_SUBNETS};

use crate::config::error::Problem;
use crate::config::raw::Document;
use crate::config::source::{Report, Source, Span};
use crate::config::{Config, Nacl, NatGateway};

/// The zone of a packet is one byte, and zero is the outside.
const MAX_VPCS: u32 = 255;

/// Refuses what a configuration slot cannot hold.
pub(super) fn check(document: &Document, config: &Config, source: &Source<'_>) -> Result<(), Vec<Problem>> {
    let mut limits = Limits { report: Report::new(source) };
    let vpcs = document.vpcs.iter().map(|vpc| (1, vpc.span()));
    limits.total("vpcs", MAX_VPCS, vpcs);

    let subnets = config.subnets.iter().zip(&document.subnets);
    let private = subnets.filter(|(subnet, _)| subnet.is_private()).map(|(_, raw)| (1, raw.span()));
    limits.total("private subnets", MAX_SUBNETS / 2, private);

    let gateways = config.nat_gateways.iter().zip(&document.nat_gateways);
    limits.total("nat gateways", MAX_GATEWAYS, gateways.clone().map(|(_, raw)| (1, raw.span())));
    limits.total(
        "sources with elastic ips of their own",
        MAX_SOURCES,
        gateways.clone().map(|(gateway, raw)| (gateway.sources.len(), raw.span())),
    );
    let addresses = gateways.map(|(gateway, raw)| (lent_to(gateway), raw.span()));
    limits.total("elastic ips of nat gateways", MAX_ELASTIC_IPS, addresses);

    let tables = config.route_tables.iter().zip(&document.route_tables);
    let routes = tables.map(|(table, raw)| (table.routes.len(), raw.span()));
    limits.total("routes, local ones included", MAX_ROUTES / 2, routes);

    limits.nacls(document, config);
    limits.report.finish(())
}

/// Entries that a NAT gateway's Elastic IPs take: one that several sources share counts for each.
fn lent_to(gateway: &NatGateway) -> usize {
    let own: usize = gateway.sources.iter().map(|source| source.elastic_ips.len()).sum();
    gateway.common_elastic_ips().count() + own
}

struct Limits<'a> {
    report: Report<'a>,
}

impl Limits<'_> {
    /// Reports the object with which the sum first exceeds `limit`.
    fn total(&mut self, what: &str, limit: u32, counts: impl Iterator<Item = (usize, Span)>) {
        let mut sum = 0;
        let mut counts = counts.map(|(count, span)| {
            sum += count;
            (sum, span)
        });
        if let Some((_, span)) = counts.find(|(sum, _)| *sum > limit as usize) {
            let remedy = format!("keep to {limit}, or share the work between two gateway hosts");
            self.report.add(span, "configuration", format_args!("more than {limit} {what}"), remedy);
        }
    }

    fn nacls(&mut self, document: &Document, config: &Config) {
        // The default NACL, where it is implicit, is the last and stands nowhere.
        let spans = document.nacls.iter().map(toml::Spanned::span);
        let last = document.nacls.last().map_or(0..0, toml::Spanned::span);
        let nacls = || config.nacls.iter().zip(spans.clone().chain([last.clone()]));
        self.total("nacls, the default one included", MAX_NACLS, nacls().map(|(_, span)| (1, span)));
        let rules = |nacl: &Nacl| nacl.inbound.len() + nacl.outbound.len();
        self.total("nacl rules", MAX_RULES, nacls().map(|(nacl, span)| (rules(nacl), span)));
        for (nacl, span) in nacls() {
            for (direction, list) in [("inbound", &nacl.inbound), ("outbound", &nacl.outbound)] {
                if list.len() > MAX_RULES_PER_LIST as usize {
                    let object = format!("nacl {}, {direction}", nacl.name);
                    let message = format!("{} rules are more than {MAX_RULES_PER_LIST}", list.len());
                    self.report.add(
                        span.clone(),
                        object,
                        message,
                        "join rules, with wider cidrs for example",
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
