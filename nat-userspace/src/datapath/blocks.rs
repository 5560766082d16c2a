//! Blocks of ports as user space sees them: who holds which, and those that come back.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use nat_common::{
    block::{self, Base, MAX_BASES, NUMBERS},
    event::Event,
    flow::{self, FlowKey4, OUTSIDE},
    memory::Words,
};

use super::{DatapathError, Maps, memory::Memory};
use crate::plan::{Plan, PlannedBlocks};

const NAME: &str = "BLOCKS";
const WORDS: usize = MAX_BASES as usize * NUMBERS as usize;

/// A block of ports that a host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The Elastic IP.
    pub elastic_ip: Ipv4Addr,
    /// Its first port.
    pub first_port: u16,
    /// Its last port.
    pub last_port: u16,
    /// The host's VPC, counted from 1.
    pub zone: u8,
    /// The host.
    pub host: Ipv4Addr,
}

impl Block {
    fn new(address: u32, base: &Base, number: u32, word: u64) -> Option<Self> {
        let (zone, host) = block::holder(word)?;
        let (first_port, last_port) = base.ports(number);
        let (elastic_ip, host) = (flow::address(address), flow::address(host));
        Some(Self { elastic_ip, first_port, last_port, zone, host })
    }

    /// One line that says what became of it (RFC 6888 REQ-12).
    fn tell(&self, event: &'static str) {
        let Self { elastic_ip, first_port, last_port, zone, host } = self;
        tracing::info!(%host, zone, %elastic_ip, first_port, last_port, "{event}");
    }

    /// The block that an event of [`Event::BLOCK_LENT`] tells of.
    #[must_use]
    pub const fn of_event(event: &Event) -> Self {
        Self {
            elastic_ip: flow::address(event.address),
            first_port: event.ifindex as u16,
            last_port: (event.ifindex >> 16) as u16,
            zone: (event.kind >> 8) as u8,
            host: flow::address(event.host),
        }
    }

    /// Says that it was lent.
    pub fn tell_lent(&self) {
        self.tell("block of ports lent");
    }
}

impl Maps {
    /// The blocks that hosts hold.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn blocks(&self) -> Result<Vec<Block>, DatapathError> {
        let memory = self.block_words()?;
        let mut blocks = Vec::new();
        for (address, base) in self.block_bases()? {
            for number in numbers(&base) {
                blocks.extend(Block::new(
                    address,
                    &base,
                    number,
                    memory.words(0, WORDS).load(base.word(number)),
                ));
            }
        }
        blocks.sort_unstable();
        Ok(blocks)
    }

    /// Takes back the blocks that no session has stood in since the call before last, or none at all; they are told.
    /// Calls must be further apart than any packet stays in the data plane, some milliseconds.
    ///
    /// # Errors
    /// [`DatapathError::Access`] if the kernel refuses.
    pub fn return_blocks(&mut self) -> Result<Vec<Block>, DatapathError> {
        let bases = self.block_bases()?;
        if bases.is_empty() {
            return Ok(Vec::new());
        }
        let used = self.used_blocks(&bases)?;
        let memory = self.block_words()?;
        let words = memory.words(0, WORDS);
        let (mut returned, mut holders) = (Vec::new(), HashSet::new());
        for (address, base) in &bases {
            for number in numbers(base) {
                let found = words.load(base.word(number));
                let Some(held) = Block::new(*address, base, number, found) else { continue };
                if used.contains(&(*address, number)) {
                    block::withdraw_notice(words, base.word(number), found);
                } else if block::is_noticed(found) && block::free(words, base.word(number), found) {
                    held.tell("block of ports released");
                    returned.push(held);
                    continue;
                } else {
                    let _ = block::give_notice(words, base.word(number));
                }
                holders.insert((held.zone, held.host));
            }
        }
        for held in returned.iter().filter(|held| !holders.contains(&(held.zone, held.host))) {
            // It may have begun anew meanwhile; then it is merely not known where its block is.
            let _ = self.holders.remove(&holder_key(held));
        }
        Ok(returned)
    }

    fn used_blocks(&self, bases: &HashMap<u32, Base>) -> Result<HashSet<(u32, u32)>, DatapathError> {
        let mut used = HashSet::new();
        super::table::for_each(&self.flows, |flow| {
            let of_block =
                |base: &Base| u32::from(u16::from_be(flow.destination_port)) / u32::from(base.size);
            if flow.zone == OUTSIDE
                && let Some(base) = bases.get(&flow.destination)
            {
                used.insert((flow.destination, of_block(base)));
            }
        })?;
        Ok(used)
    }

    pub(super) fn block_bases(&self) -> Result<HashMap<u32, Base>, DatapathError> {
        self.block_bases
            .iter()
            .collect::<Result<_, _>>()
            .map_err(DatapathError::access("read", "BLOCK_BASES"))
    }

    /// Gives the Elastic IPs of the plan that have blocks a place for them, unless they have one.
    pub(super) fn add_blocks(&mut self, plan: &Plan) -> Result<(), DatapathError> {
        let known = self.block_bases()?;
        let mut taken: HashSet<u32> = known.values().map(|base| base.place).collect();
        for (address, planned) in &plan.blocks {
            let wanted = planned.base();
            if let Some(base) =
                known.get(address).filter(|base| Base { place: base.place, ..wanted } == **base)
            {
                self.reserve(*address, base, planned)?;
                continue;
            }
            let place = if let Some(base) = known.get(address) {
                // Blocks of another size begin anew.
                self.clear_blocks(*address, base)?;
                base.place
            } else {
                let free = (0..MAX_BASES).find(|place| !taken.contains(place));
                free.ok_or_else(|| DatapathError::Map {
                    name: NAME,
                    problem: format!("has no place for more than {MAX_BASES} elastic ips; reload first without those that go"),
                })?
            };
            taken.insert(place);
            let base = Base { place, ..wanted };
            self.reserve(*address, &base, planned)?;
            self.block_bases
                .insert(address, base, 0)
                .map_err(DatapathError::access("write", "BLOCK_BASES"))?;
        }
        Ok(())
    }

    /// Has nobody lent the blocks in between that are none, and everybody those that are.
    fn reserve(&self, address: u32, base: &Base, planned: &PlannedBlocks) -> Result<(), DatapathError> {
        let memory = self.block_words()?;
        for number in numbers(base) {
            let word = base.word(number);
            let found = memory.words(0, WORDS).load(word);
            if planned.numbers.contains(&number) {
                let _ = memory.words(0, WORDS).compare_and_swap(word, block::RESERVED, block::FREE);
            } else if found != block::RESERVED {
                memory.words(0, WORDS).swap(word, block::RESERVED);
                if let Some(held) = Block::new(address, base, number, found) {
                    held.tell("block of ports released");
                }
            }
        }
        Ok(())
    }

    /// Forgets the blocks of Elastic IPs that the plan in force lends no blocks of.
    pub(super) fn remove_blocks(&mut self, plan: &Plan) -> Result<(), DatapathError> {
        for (address, base) in self.block_bases()? {
            if !plan.blocks.contains_key(&address) {
                self.block_bases.remove(&address).map_err(DatapathError::access("write", "BLOCK_BASES"))?;
                self.clear_blocks(address, &base)?;
            }
        }
        Ok(())
    }

    fn clear_blocks(&self, address: u32, base: &Base) -> Result<(), DatapathError> {
        let memory = self.block_words()?;
        for number in numbers(base) {
            let word = memory.words(0, WORDS).load(base.word(number));
            memory.words(0, WORDS).swap(base.word(number), block::FREE);
            if let Some(held) = Block::new(address, base, number, word) {
                held.tell("block of ports released");
            }
        }
        Ok(())
    }

    fn block_words(&self) -> Result<Memory, DatapathError> {
        Memory::writable(&self.blocks, WORDS * size_of::<u64>()).map_err(DatapathError::access("map", NAME))
    }
}

fn numbers(base: &Base) -> std::ops::Range<u32> {
    u32::from(base.first)..u32::from(base.first) + u32::from(base.count)
}

fn holder_key(held: &Block) -> FlowKey4 {
    FlowKey4 { source: flow::raw(held.host), zone: held.zone, ..FlowKey4::default() }
}
