//! `GATEWAYS`, `SOURCES`, `LENT`, `POOL`, `USAGE` and `ELASTIC_IPS`: the Elastic IPs and port ranges that the controller lends to NAT gateways.

use bytemuck::{Pod, Zeroable};

/// NAT gateways one configuration can hold.
pub const MAX_GATEWAYS: u32 = 64;
/// Elastic IPs one configuration can lend.
pub const MAX_ELASTIC_IPS: u32 = 4_096;
/// Port ranges one configuration can lend.
pub const MAX_RANGES: u32 = 16_384;

/// A NAT gateway.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Gateway {
    /// Index of the first of its Elastic IPs in `LENT`.
    pub first: u32,
    /// How many Elastic IPs.
    pub count: u32,
    /// The NACL of the subnet it stands in.
    pub nacl: u16,
    /// Flags: [`Gateway::NACL_BOTH_SIDES`].
    pub flags: u8,
    /// Its external device in `RSS`, counted from 1; 0: one port is as good as another.
    pub rss: u8,
    /// The external interface (a VLAN's own index, not its parent's).
    pub ifindex: u32,
    /// How a session's Elastic IP is chosen: one of [`strategy`].
    pub strategy: u8,
    /// What may come in without a session: one of [`crate::mapping::filtering`].
    pub filtering: u8,
    /// Always zero.
    pub spare: [u8; 2],
    /// The largest MSS that passes in a SYN, [`Gateway::MSS_OF_PATH`], or 0 for any.
    pub mss: u16,
    /// Protocols without ports that it translates: [`Gateway::GRE`], [`Gateway::ESP`].
    pub port_less: u8,
    /// Always zero.
    pub spare_end: u8,
}

impl Gateway {
    /// The gateway's subnet's NACL is also asked where traffic crosses to and from the private subnets.
    pub const NACL_BOTH_SIDES: u8 = 1;
    /// Some sources have Elastic IPs of their own: `SOURCES` knows them.
    pub const BY_SOURCE: u8 = 2;
    /// It limits what one host may take: `LIMITS` knows how.
    pub const LIMITED: u8 = 4;
    /// It lends hosts blocks of ports: `BLOCK_RULES` knows how.
    pub const BLOCKS: u8 = 8;
    /// A host's block is computed from its address.
    pub const DETERMINISTIC: u8 = 16;
    /// An internal endpoint has one external endpoint for all remotes ([`crate::mapping`]).
    pub const ENDPOINT_INDEPENDENT: u8 = 32;
    /// Where there is none to be had, each session gets one for its remote alone.
    pub const OVERLOAD: u8 = 64;
    /// External ports are even where internal ports are, and below 1024 where those are, if there is such a port.
    pub const PARITY: u8 = 128;

    /// Of `mss`: what fits the path's MTU.
    pub const MSS_OF_PATH: u16 = 1;
    /// Of `port_less`: GRE.
    pub const GRE: u8 = 1;
    /// Of `port_less`: ESP.
    pub const ESP: u8 = 2;

    /// The Elastic IPs of whoever has none of their own.
    #[inline(always)]
    #[must_use]
    pub const fn choice(&self) -> Choice {
        Choice { first: self.first, count: self.count }
    }
}

/// With which of its Elastic IPs a NAT gateway begins to look for a port. Whatever it is, the others follow if that one
/// has none.
pub mod strategy {
    /// By the internal host: it keeps its Elastic IP whatever it talks to (RFC 4787 REQ-2).
    pub const PAIRED: u8 = 0;
    /// By internal host and remote endpoint.
    pub const HASH: u8 = 1;
    /// One after the other, on every CPU.
    pub const ROUND_ROBIN: u8 = 2;
    /// The one with the fewest sessions.
    pub const LEAST_USED: u8 = 3;
}

/// The Elastic IPs that a session may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Choice {
    /// Index of the first in `LENT`.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Sources with Elastic IPs of their own that one configuration can hold.
pub const MAX_SOURCES: u32 = 4_096;

/// An Elastic IP whose ports are lent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Lent {
    /// Network order.
    pub address: u32,
    /// Index of the first of its ranges in `POOL`.
    pub first: u32,
    /// How many ranges, at least one.
    pub count: u32,
    /// How many ports they have together.
    pub ports: u32,
}

/// A range of ports of one Elastic IP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRange {
    /// First port, host order.
    pub first: u16,
    /// Last port, host order.
    pub last: u16,
}

/// Key of `ELASTIC_IPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ElasticIpKey {
    /// Network order.
    pub address: u32,
    /// The configuration slot that knows it.
    pub slot: u32,
}

/// Value of `ELASTIC_IPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ElasticIp {
    /// The NAT gateway it belongs to.
    pub gateway: u16,
    /// 1: it is an address of the host itself, whose stack gets what belongs to no session.
    pub shared: u16,
}
