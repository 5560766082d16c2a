//! Blocks of ports: every Elastic IP has some, and where they are computed there is one for every host.

use std::{collections::BTreeSet, ops::Range};

use nat_common::block::MAX_BASES;

use super::Check;
use crate::{
    config::{Blocks, NatGateway},
    plan::addresses,
};

impl Check<'_> {
    pub(super) fn blocks(&mut self) {
        let (config, document) = (self.config, self.document);
        let mut lent = 0;
        for (gateway, raw) in config.nat_gateways.iter().zip(&document.nat_gateways) {
            let (Some(blocks), Some(size)) = (&gateway.per_host.blocks, &raw.get_ref().block_size) else {
                continue;
            };
            let object = format!("nat gateway {}", gateway.name);
            let counts: Vec<_> = config.block_counts(gateway, blocks).collect();
            lent += counts.len();
            if lent > MAX_BASES as usize {
                let message = format!("{lent} elastic ips are lent in blocks, and the data plane takes {MAX_BASES}");
                self.report.add(size.span(), &object, message, "use fewer elastic ips, or no blocks");
            }
            if counts.contains(&0) {
                let message = format!("an elastic ip has no whole block of {} ports", blocks.size);
                let remedy = "write a smaller block_size, or more ports: blocks begin at multiples of it";
                self.report.add(size.span(), &object, message, remedy);
            } else if blocks.deterministic {
                self.computed_blocks(&object, gateway, blocks, &counts, size.span());
            }
        }
    }

    fn computed_blocks(
        &mut self,
        object: &str,
        gateway: &NatGateway,
        blocks: &Blocks,
        counts: &[u32],
        span: Range<usize>,
    ) {
        let Some(&each) = counts.first() else { return };
        if counts.iter().any(|count| *count != each) {
            let message = "its elastic ips have different numbers of blocks, which cannot be computed";
            self.report.add(span, object, message, "give all of them the same ports");
            return;
        }
        let numbers = gateway.elastic_ips.iter().filter_map(|address| self.config.elastic_ip(*address));
        let numbers = numbers.map(|elastic_ip| blocks.numbers(&elastic_ip.usable_ports()));
        let has_holes = |numbers: BTreeSet<u32>| numbers.last().zip(numbers.first()).is_some_and(|(last, first)| {
            (last - first + 1) as usize != numbers.len()
        });
        if numbers.into_iter().any(has_holes) {
            let message = "an elastic ip has blocks with gaps between them, which cannot be computed";
            self.report.add(span, object, message, "give it one range of ports without reserved_ports");
            return;
        }
        if !gateway.sources.is_empty() {
            let message = "sources have elastic ips of their own, and blocks are computed over all of them";
            self.report.add(span, object, message, "leave out sources, or deterministic");
            return;
        }
        let hosts: u64 = self.config.positions(gateway).iter().map(|(cidr, _)| u64::from(addresses(cidr))).sum();
        let all = u64::from(each) * counts.len() as u64;
        if hosts > all {
            let message = format!(
                "its private subnets have {hosts} addresses, and its {} elastic ips have {all} blocks of {} ports",
                counts.len(),
                blocks.size
            );
            self.report.add(span, object, message, remedy(hosts, all, each, blocks.size));
        }
    }
}

/// The largest block size that would do, if one does, and how many Elastic IPs.
fn remedy(hosts: u64, all: u64, each: u32, size: u16) -> String {
    let ips = hosts.div_ceil(u64::from(each));
    let mut smaller = u64::from(size);
    let mut room = all;
    while room < hosts && smaller > 64 {
        smaller /= 2;
        room *= 2;
    }
    if room >= hosts {
        format!("write block_size = {smaller}, or use {ips} elastic ips")
    } else {
        format!("use {ips} elastic ips, or smaller subnets")
    }
}
