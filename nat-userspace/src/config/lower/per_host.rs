//! What a NAT gateway lets one internal host take.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::Lower;
use crate::config::{Blocks, PerHost, raw};

const SESSIONS: RangeInclusive<i64> = 0..=67_108_864;
const PORTS: RangeInclusive<i64> = 0..=64_512 * 256;
const RATE: RangeInclusive<i64> = 0..=1_000_000;
const BLOCK_SIZE: RangeInclusive<i64> = 64..=32_768;
const MAX_BLOCKS: RangeInclusive<i64> = 1..=8;
const DEFAULT_MAX_BLOCKS: i64 = 4;

impl Lower<'_> {
    pub(super) fn per_host(&mut self, object: &str, raw: &raw::NatGateway) -> PerHost {
        let mut limit = |field, value: &Option<Spanned<i64>>, range| {
            value.as_ref().map_or(0, |value| self.within(object, field, value, &range) as u32)
        };
        PerHost {
            max_sessions: limit("max_sessions_per_host", &raw.max_sessions_per_host, SESSIONS),
            max_ports_per_destination: limit(
                "max_ports_per_destination",
                &raw.max_ports_per_destination,
                PORTS,
            ),
            new_sessions_per_second: limit(
                "new_sessions_per_second_per_host",
                &raw.new_sessions_per_second_per_host,
                RATE,
            ),
            blocks: self.blocks(object, raw),
        }
    }

    fn blocks(&mut self, object: &str, raw: &raw::NatGateway) -> Option<Blocks> {
        let deterministic = raw.deterministic.as_ref().is_some_and(|value| *value.get_ref());
        let Some(size) = raw.block_size.as_ref().filter(|size| *size.get_ref() != 0) else {
            if let Some(value) = raw.deterministic.as_ref().filter(|_| deterministic) {
                let remedy = "write block_size, as in block_size = 512";
                self.report.add(value.span(), object, "computes blocks of no size", remedy);
            }
            return None;
        };
        let ports = self.within(object, "block_size", size, &BLOCK_SIZE);
        if !(ports as u64).is_power_of_two() {
            let next = (ports as u64).next_power_of_two();
            let message = format!("block_size {ports} is not a power of two");
            self.report.add(size.span(), object, message, format_args!("write {next} or {}", next / 2));
        }
        let max = match &raw.max_blocks {
            _ if deterministic => 1,
            Some(max) => self.within(object, "max_blocks", max, &MAX_BLOCKS),
            None => DEFAULT_MAX_BLOCKS,
        };
        Some(Blocks { size: ports as u16, max: max as u8, deterministic })
    }

    fn within(
        &mut self,
        object: &str,
        field: &str,
        value: &Spanned<i64>,
        range: &RangeInclusive<i64>,
    ) -> i64 {
        let number = *value.get_ref();
        if !range.contains(&number) {
            let message = format!("{field} {number} is out of range");
            let remedy = format!("write {} to {}", range.start(), range.end());
            self.report.add(value.span(), object, message, remedy);
        }
        number.clamp(*range.start(), *range.end())
    }
}
