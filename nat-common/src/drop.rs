//! The whole vocabulary of refusal: the metric label, the text of the CLI and the table in the docs.

use bytemuck::{Pod, Zeroable};

use crate::flow::FlowKey4;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was refused; also the index into `DROPS` and `SAMPLES`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name: metric label and JSON value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for people.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// the frame ends before its headers do
    FrameTooShort = "frame_too_short",
    /// neither IPv4 nor a protocol of the link itself
    EtherType = "ether_type",
    /// more than one VLAN tag
    VlanDepth = "vlan_depth",
    /// a VLAN that no configured interface carries
    UnknownVlan = "unknown_vlan",
    /// IPv6 that is not for the host itself
    Ipv6 = "ipv6",
    /// a link-layer broadcast or multicast with a unicast IP destination
    LinkBroadcast = "link_broadcast",
    /// an IP version other than 4 under the IPv4 ethertype
    IpVersion = "ip_version",
    /// an IP header length below 20 bytes
    IpHeaderLength = "ip_header_length",
    /// an IP total length below the headers or beyond the frame
    IpTotalLength = "ip_total_length",
    /// a wrong IP header checksum
    IpChecksum = "ip_checksum",
    /// IP options that overrun their header
    IpOptions = "ip_options",
    /// an IP option that records or steers the route
    SourceRoute = "source_route",
    /// a fragment of TCP or ICMP, where fragments = "aws"
    FragmentsOff = "fragments_off",
    /// a fragment of impossible length: beyond the end of any packet, or not a multiple of eight bytes
    FragmentMalformed = "fragment_malformed",
    /// a first fragment that ends before its TCP, UDP or ICMP header does
    FragmentTiny = "fragment_tiny",
    /// a fragment that would replace the ports of its first one, or another first one
    FragmentOverlap = "fragment_overlap",
    /// a fragment of an ICMP error
    FragmentIcmpError = "fragment_icmp_error",
    /// a fragment from inside to an Elastic IP
    FragmentHairpin = "fragment_hairpin",
    /// a fragment without a first one, which nobody could hold back any more
    FragmentUnknown = "fragment_unknown",
    /// a first fragment for which there is no room beside those under way
    FragmentsFull = "fragments_full",
    /// a protocol that is not translated, by this NAT gateway or by any
    Protocol = "protocol",
    /// the packet ends before its TCP, UDP or ICMP header does
    TransportTruncated = "transport_truncated",
    /// a TCP header length below 20 bytes or beyond the packet
    TcpHeaderLength = "tcp_header_length",
    /// a UDP length below 8 bytes or beyond the packet
    UdpLength = "udp_length",
    /// an ICMP message that is neither echo nor timestamp nor a translatable error
    IcmpType = "icmp_type",
    /// an ICMP error whose quoted packet cannot be read, or with more than 1,500 bytes
    IcmpQuote = "icmp_quote",
    /// an ICMP error with a wrong checksum
    IcmpChecksum = "icmp_checksum",
    /// an ICMP error that quotes an IP header with a wrong checksum
    IcmpQuoteChecksum = "icmp_quote_checksum",
    /// an ICMP error about a packet that belongs to no session
    IcmpNoSession = "icmp_no_session",
    /// a source or destination that may not appear on the wire
    Martian = "martian",
    /// a source that its interface cannot have: internal and in no subnet of it, or from outside an address of our own
    SourceNotInSubnet = "source_not_in_subnet",
    /// from outside, and addressed neither to an Elastic IP nor to the host
    NotForGateway = "not_for_gateway",
    /// from outside to an Elastic IP, without a session
    NoSession = "no_session",
    /// outbound, without a session, and no beginning of one: TCP without SYN, an answer to a ping
    NotOpening = "not_opening",
    /// a NACL's outbound rules deny it
    NaclOutbound = "nacl_outbound",
    /// a NACL's inbound rules deny it
    NaclInbound = "nacl_inbound",
    /// no route of the subnet's route table matches
    NoRoute = "no_route",
    /// a blackhole route
    Blackhole = "blackhole",
    /// the TTL ran out and no time-exceeded was due
    TtlExpired = "ttl_expired",
    /// larger than the next link, and no fragmentation-needed was due
    TooBig = "too_big",
    /// the kernel's routing table offers no usable way to the destination
    Unreachable = "unreachable",
    /// the next hop's MAC address is not known yet
    NoNeighbour = "no_neighbour",
    /// no free port toward this destination on any Elastic IP
    ErrorPortAllocation = "error_port_allocation",
    /// the host has as many sessions as its NAT gateway allows
    HostSessionLimit = "host_session_limit",
    /// the host has as many sessions toward this destination as its NAT gateway allows
    HostPortLimit = "host_port_limit",
    /// the host opens sessions faster than its NAT gateway allows
    HostRateLimit = "host_rate_limit",
    /// the session table is full
    TableFull = "table_full",
    /// the session ended at this very moment
    SessionEnding = "session_ending",
    /// the data plane found no configuration
    NotConfigured = "not_configured",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The reason with this number.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        if number >= Self::COUNT {
            return None;
        }
        // SAFETY: the reasons are numbered from zero without a gap, and this number is one of theirs.
        Some(unsafe { core::mem::transmute::<u32, Self>(number) })
    }
}

/// The latest packet refused for a reason; the value of `SAMPLES`, indexed by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DropSample {
    /// The packet's tuple, as far as it could be read.
    pub key: FlowKey4,
    /// Tick of the refusal ([`crate::clock`]); 0: none yet.
    pub tick: u32,
    /// Interface that received it.
    pub ifindex: u32,
    /// IP total length in bytes.
    pub length: u32,
    /// Always zero.
    pub spare: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number() {
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert_eq!(DropReason::from_number(number as u32), Some(*reason));
        }
        assert_eq!(DropReason::from_number(DropReason::COUNT), None);
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert!(!DropReason::ALL[..number].iter().any(|other| other.name() == reason.name()));
            assert!(!reason.description().is_empty());
        }
    }
}
