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
                let message =
                    format!("{lent} elastic ips are lent in blocks, and the data plane takes {MAX_BASES}");
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
        let has_holes = |numbers: BTreeSet<u32>| {
            numbers
                .last()
                .zip(numbers.first())
                .is_some_and(|(last, first)| (last - first + 1) as usize != numbers.len())
        };
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
        let hosts: u64 =
            self.config.positions(gateway).iter().map(|(cidr, _)| u64::from(addresses(cidr))).sum();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Blocks, Config, ConfigError, SAMPLE};

    /// The sample, whose private subnet has 256 addresses, with this block size and these other changes.
    fn sample(size: &str, changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let text = SAMPLE.replace("block_size = 0", &format!("block_size = {size}"));
        let text = changes.iter().fold(text, |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        });
        Config::from_toml(&text, Path::new("gw.toml"))
    }

    fn refusal(size: &str, changes: &[(&str, &str)]) -> String {
        sample(size, changes).unwrap_err().to_string()
    }

    const COMPUTED: (&str, &str) = ("\ndeterministic = false", "\ndeterministic = true");

    #[test]
    fn blocks_are_read() {
        let blocks = |config: Config| config.nat_gateways[0].per_host.blocks;
        let lent = Blocks { size: 512, max: 4, deterministic: false };
        assert_eq!(blocks(sample("512", &[]).unwrap()), Some(lent));
        let computed = Blocks { size: 128, max: 1, deterministic: true };
        assert_eq!(blocks(sample("128", &[COMPUTED]).unwrap()), Some(computed));
    }

    #[test]
    fn a_block_size_that_is_none_is_refused_with_one_that_is() {
        assert!(refusal("500", &[]).ends_with("block_size 500 is not a power of two; write 512 or 256"));
        assert!(refusal("32", &[]).contains("block_size 32 is out of range; write 64 to 32768"));
        assert!(refusal("0", &[COMPUTED]).contains("computes blocks of no size; write block_size"));
    }

    #[test]
    fn ports_without_a_whole_block_are_refused() {
        let few = ("ports = \"1024-65535\"\n", "ports = \"1024-1100\"\n");
        assert!(refusal("128", &[few]).contains("an elastic ip has no whole block of 128 ports"));
    }

    #[test]
    fn too_few_computed_blocks_are_refused_with_the_numbers_and_the_remedy() {
        assert!(
            refusal("512", &[COMPUTED]).ends_with(
                "its private subnets have 256 addresses, and its 1 elastic ips have 126 blocks of 512 ports; write \
                 block_size = 128, or use 3 elastic ips"
            ),
            "{}",
            refusal("512", &[COMPUTED])
        );
        let large = ("cidr = \"10.0.1.0/24\"", "cidr = \"10.0.0.0/17\"");
        assert!(refusal("64", &[COMPUTED, large]).ends_with("use 33 elastic ips, or smaller subnets"));
    }

    #[test]
    fn limits_are_read_and_their_range_is_told() {
        let limited = ("max_sessions_per_host = 0", "max_sessions_per_host = 500");
        let config = sample("0", &[limited]).unwrap();
        assert_eq!(config.nat_gateways[0].per_host.max_sessions, 500);
        let negative = ("max_sessions_per_host = 0", "max_sessions_per_host = -1");
        assert!(refusal("0", &[negative]).contains("max_sessions_per_host -1 is out of range; write 0 to"));
    }
}
