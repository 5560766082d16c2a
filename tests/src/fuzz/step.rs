//! What a sequence is made of.

use std::net::Ipv4Addr;

use crate::{datapath::Side, model::Protocol};

use super::configuration::Configuration;

/// One step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet arrives.
    Packet(Box<Spec>),
    /// So many ticks of the clock pass.
    Pass(u32),
    /// What is idle for too long ends.
    Age,
    /// Every session asks anew whether it may go on.
    Renew,
    /// Another configuration comes into force.
    Configure(Configuration),
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An address and a port.
    At(Ipv4Addr, u16),
    /// The external endpoint of a session, whatever it was given.
    Lent {
        /// The session's protocol.
        protocol: Protocol,
        /// Its private host.
        internal: (Ipv4Addr, u16),
        /// Its remote.
        remote: (Ipv4Addr, u16),
    },
}

/// A packet, before it is known what ports were lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Where it arrives.
    pub arrives: Side,
    /// Source.
    pub source: End,
    /// Destination.
    pub destination: End,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub service: u8,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// IP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub body: Body,
    /// Bytes of the frame behind the packet.
    pub padding: u8,
    /// What was done to the finished frame, in this order.
    pub damage: Vec<Damage>,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp {
        /// Header flags.
        flags: u8,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledgement: u32,
        /// Bytes of options, a multiple of four.
        options: u8,
        /// Bytes of data.
        data: u16,
    },
    /// UDP.
    Udp {
        /// Whether it has a checksum.
        checksum: bool,
        /// Bytes of data.
        data: u16,
    },
    /// An ICMP message that is no error; its identifier is the source's port, or in a reply the destination's.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes of data.
        data: u16,
    },
    /// An ICMP error.
    Error {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes 4 to 7.
        rest: u32,
        /// The packet it quotes, ...
        quote: Box<Spec>,
        /// ... and how much of it.
        keep: u16,
    },
    /// Any other protocol.
    Other {
        /// Its number.
        protocol: u8,
        /// Bytes of data.
        data: u16,
    },
}

/// What is done to a finished frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The byte at this offset is combined with another by exclusive or.
    Flip(u16, u8),
    /// The checksum of the IP header is made right again.
    Mend,
    /// The frame ends after so many bytes.
    Cut(u16),
}

impl Spec {
    /// A packet with nothing special about it.
    #[must_use]
    pub const fn plain(arrives: Side, source: End, destination: End, body: Body) -> Self {
        Self {
            arrives,
            source,
            destination,
            ttl: 64,
            service: 0,
            identification: 0xbeef,
            fragment: 0x4000,
            options: Vec::new(),
            body,
            padding: 0,
            damage: Vec::new(),
        }
    }
}

impl Body {
    /// The protocol number.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
            Self::Icmp { .. } | Self::Error { .. } => 1,
            Self::Other { protocol, .. } => *protocol,
        }
    }
}
