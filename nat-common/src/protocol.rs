//! IP protocol numbers and ICMP types that natgw knows (IANA registries).

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

/// Generic routing encapsulation (RFC 2784).
pub const GRE: u8 = 47;
/// IPsec's encapsulating security payload (RFC 4303).
pub const ESP: u8 = 50;

/// Whether a protocol that natgw knows has no ports: its session is one of addresses alone.
#[inline(always)]
#[must_use]
pub const fn is_port_less(protocol: u8) -> bool {
    matches!(protocol, GRE | ESP)
}

/// ICMP types and codes (RFC 792, RFC 1191).
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: no route to the destination's network.
    pub const NETWORK_UNREACHABLE: u8 = 0;
    /// Code of [`UNREACHABLE`]: a host on the last link does not answer.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Code of [`UNREACHABLE`]: a protocol that nobody serves.
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    /// Code of [`UNREACHABLE`]: fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 1812 §5.2.7.1).
    pub const PROHIBITED: u8 = 13;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Timestamp request.
    pub const TIMESTAMP: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}
