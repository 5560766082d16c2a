//! The contract between natgw's data plane and its controller: the keys and values of every BPF map, the
//! vocabulary of refusal, and the pure functions both sides need.
//!
//! Addresses and ports in map types are kept in network byte order, exactly as they stand in a packet, so that
//! the data plane never swaps bytes; accessors give them in host types. Nothing here has implicit padding
//! (`bytemuck` proves it at compile time), so every value can be shared with the kernel as plain bytes.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod bench;
pub mod block;
pub mod burst;
pub mod checksum;
pub mod claim;
pub mod clock;
pub mod config;
pub mod counter;
pub mod drop;
pub mod event;
pub mod flow;
pub mod foresight;
pub mod fragment;
pub mod host;
pub mod mapping;
pub mod memory;
pub mod nacl;
pub mod neighbour;
pub mod pool;
pub mod ports;
pub mod protocol;
pub mod rig;
pub mod route;
pub mod rss;
pub mod search;
pub mod slow;
pub mod table;
pub mod tcp;
pub mod wish;

#[cfg(feature = "user")]
mod pod;

/// Version of the map layouts. State pinned under another version is never reused.
pub const SCHEMA: u32 = 5;
