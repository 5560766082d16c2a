//! The configuration as the data plane reads it.
//!
//! Every configuration map has two slots. The slot in force is the lowest bit of the *generation*, one 32-bit word
//! in `GENERATION`: the controller fills the other slot and then stores the next generation, so that a packet sees
//! one configuration whole. Adding two to the generation keeps the slot and makes every flow ask again for its
//! NACL verdict, route and hop.

use bytemuck::{Pod, Zeroable};

use crate::{protocol, tcp::Phase};

/// Configuration slots.
pub const SLOTS: u32 = 2;

/// The slot that `generation` names.
#[inline(always)]
#[must_use]
pub const fn slot(generation: u32) -> u32 {
    generation & 1
}

/// What the ageing program is asked to do, the one entry of `AGEING`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Ageing {
    /// 1: also release sessions whose Elastic IP is no longer configured, however busy they are.
    pub withdrawn: u32,
    /// 1: also count every session where the configuration in force has it counted ([`crate::host`]).
    pub recount: u32,
    /// What the runs before this one have returned in the same pass; [`Ageing::NEVER`] at its beginning.
    pub left: u32,
    /// Ticks added to the clock: tests let time pass without waiting.
    pub ahead: u32,
    /// The first group of `FLOWS4` to visit.
    pub first: u32,
    /// How many groups to visit.
    pub groups: u32,
}

impl Ageing {
    /// What the program returns if no entry that it has looked at can end, for there is none. Otherwise the least number of
    /// ticks until one may have to; 0 if one has ended, or is to be looked at again soon.
    pub const NEVER: u32 = u32::MAX;
}

/// Idle timeouts in ticks ([`crate::clock`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP, while data can flow in at least one direction.
    pub tcp_established: u32,
    /// TCP, before the handshake is complete.
    pub tcp_transitory: u32,
    /// TCP, after both FINs or a RST.
    pub tcp_closing: u32,
    /// UDP, and protocols without ports.
    pub udp: u32,
    /// ICMP queries.
    pub icmp: u32,
    /// 1: of UDP and ICMP, inbound packets keep no session alive.
    pub outbound_alone: u32,
    /// Datagrams in fragments, after the first fragment.
    pub fragments: u32,
}

impl Timeouts {
    /// The idle timeout of a session of `protocol`; only TCP has phases.
    #[inline(always)]
    #[must_use]
    pub const fn of(&self, protocol: u8, phase: Phase) -> u32 {
        match (protocol, phase) {
            (protocol::TCP, Phase::Opening) => self.tcp_transitory,
            (protocol::TCP, Phase::Established | Phase::HalfClosed) => self.tcp_established,
            (protocol::TCP, Phase::Closing) => self.tcp_closing,
            (protocol::UDP | protocol::GRE | protocol::ESP, _) => self.udp,
            _ => self.icmp,
        }
    }

    /// The shortest idle timeout that a session of `protocol` can have.
    #[inline(always)]
    #[must_use]
    pub const fn least(&self, protocol: u8) -> u32 {
        if protocol != protocol::TCP {
            return self.of(protocol, Phase::Established);
        }
        let (mut least, others) = (self.tcp_established, [self.tcp_transitory, self.tcp_closing]);
        if others[0] < least {
            least = others[0];
        }
        if others[1] < least {
            least = others[1];
        }
        least
    }
}

/// The one-per-slot entry of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// When sessions end.
    pub timeouts: Timeouts,
    /// ICMP errors and resets that one CPU may send in a second.
    pub icmp_errors_per_second: u32,
    /// When hosts are told of a TCP session that has ended for being idle: [`Config::NO_RESETS`],
    /// [`Config::RESETS_ON_SEND`], [`Config::AT_EXPIRY`].
    pub resets: u32,
    /// [`Config::UDP_FRAGMENTS_ALONE`].
    pub flags: u32,
}

impl Config {
    /// Never.
    pub const NO_RESETS: u32 = 0;
    /// A host that goes on with it gets a RST.
    pub const RESETS_ON_SEND: u32 = 1;
    /// Both ends get a RST as it ends; a host that goes on with it all the same, one more.
    pub const AT_EXPIRY: u32 = 2;
    /// Fragments of TCP and ICMP are refused.
    pub const UDP_FRAGMENTS_ALONE: u32 = 1;
}

/// What an interface is for, one per slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Role {
    /// The VPC whose hosts are behind it; 0: no internal side.
    pub zone: u8,
    /// [`Role::EXTERNAL`], [`Role::NO_TRANSMIT`], [`Role::OUTBOUND_ALONE`], [`Role::STREAMS`].
    pub flags: u8,
    /// VLAN identifier, where the interface is a VLAN device; 0 otherwise.
    pub vlan: u16,
    /// Index of the device frames really pass: the VLAN's parent, or the interface itself.
    pub device: u32,
    /// The interface's own address toward internal hosts, network order: the source of ICMP errors sent to them.
    pub internal_address: u32,
    /// The same toward the outside.
    pub external_address: u32,
    /// Packets up to this many bytes of IP fit every interface of the gateway; longer ones ask for the path's MTU.
    pub mtu: u32,
}

impl Role {
    /// The interface faces the outside.
    pub const EXTERNAL: u8 = 1;
    /// `XDP_TX` does not reach the other end: a veth wakes its peer for it only if that runs a program of its own.
    pub const NO_TRANSMIT: u8 = 2;
    /// As [`Timeouts::outbound_alone`]: a session may end however lately one of its flows was seen.
    pub const OUTBOUND_ALONE: u8 = 4;
    /// What TCP acknowledges is remembered with every segment, for resets at expiry.
    pub const STREAMS: u8 = 8;

    /// Whether the interface faces the outside.
    #[inline(always)]
    #[must_use]
    pub const fn is_external(&self) -> bool {
        self.flags & Self::EXTERNAL != 0
    }
}

/// Value of `INTERFACES`, indexed by interface index: the role in each slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// By slot.
    pub role: [Role; SLOTS as usize],
}

/// Key of `VLANS`: a tag on a device; the value is the VLAN device's own index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct VlanKey {
    /// The device that received the frame.
    pub device: u32,
    /// VLAN identifier.
    pub vlan: u16,
    /// The configuration slot.
    pub slot: u16,
}

/// VLAN devices one configuration can use, both slots together.
pub const MAX_VLANS: u32 = 8_192;
/// Addresses of the host itself that `LOCALS` can hold.
pub const MAX_LOCALS: u32 = 65_536;

/// Bytes in one page of `APPLIED`, the JSON of the configuration in force.
pub const APPLIED_PAGE: usize = 4_096;
/// Pages of `APPLIED`.
pub const APPLIED_PAGES: u32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_timeout_of_tcp_is_the_shortest_of_its_phases() {
        let timeouts = Timeouts {
            tcp_established: 350,
            tcp_transitory: 240,
            tcp_closing: 100,
            udp: 300,
            icmp: 60,
            outbound_alone: 0,
            fragments: 2,
        };
        assert_eq!(timeouts.least(protocol::TCP), 100);
        assert_eq!(Timeouts { tcp_established: 5, ..timeouts }.least(protocol::TCP), 5);
        assert_eq!(Timeouts { tcp_transitory: 9, ..timeouts }.least(protocol::TCP), 9);
        assert_eq!((timeouts.least(protocol::UDP), timeouts.least(protocol::ICMP)), (300, 60));
    }
}
