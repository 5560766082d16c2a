//! Subnets and route tables: two longest-prefix maps, `SUBNETS` and `ROUTES4`.

use bytemuck::{Pod, Zeroable};

/// Private subnets that both slots together can hold; `SUBNETS` holds each twice.
pub const MAX_SUBNETS: u32 = 4_096;
/// Prefixes `ROUTES4` can hold, both slots together.
pub const MAX_ROUTES: u32 = 131_072;
/// Bits of a prefix that are taken by its [`scope`].
pub const SCOPE_BITS: u32 = 32;

/// The first 32 bits of a prefix in `SUBNETS` (`number`: the zone) or `ROUTES4` (`number`: the route table).
#[inline(always)]
#[must_use]
pub const fn scope(slot: u32, number: u32) -> u32 {
    (slot << 16 | number).to_be()
}

/// The data of a longest-prefix key: the scope, then the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Prefix {
    /// See [`scope`].
    pub scope: u32,
    /// Network order.
    pub address: u32,
}

/// A private subnet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Subnet {
    /// Index of the interface (a VLAN's own, not its parent's) that the subnet's hosts are behind.
    pub ifindex: u32,
    /// The subnet's NACL.
    pub nacl: u16,
    /// The subnet's route table.
    pub route_table: u16,
}

/// Where a route leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// [`Target::NAT_GATEWAY`], [`Target::LOCAL`] or [`Target::BLACKHOLE`].
    pub kind: u16,
    /// The NAT gateway's number.
    pub gateway: u16,
}

impl Target {
    /// Packets are dropped.
    pub const BLACKHOLE: u16 = 0;
    /// Packets stay in the VPC and are forwarded untranslated to another of its subnets.
    pub const LOCAL: u16 = 1;
    /// Packets are translated by a NAT gateway.
    pub const NAT_GATEWAY: u16 = 2;
}
