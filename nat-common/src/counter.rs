//! What the data plane counts, one set per CPU.

use bytemuck::{Pod, Zeroable};

use crate::flow::Hop;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Every packet moves exactly one of the packet counters, or one of
        /// `DROPS`.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Counters {
            /// Names of all counters, in order: metric labels and JSON fields.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field),)+];

            /// One line for people per counter, in the order of [`Counters::NAMES`].
            pub const DESCRIPTIONS: &'static [&'static str] = &[$(concat!($($doc,)+).trim_ascii(),)+];

            /// All values, in the order of [`Counters::NAMES`].
            #[must_use]
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field,)+]
            }

            /// Adds another CPU's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }
        }
    };
}

/// The one per-CPU entry of `COUNTERS`: all that a CPU keeps for itself on the path of every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PerCpu {
    /// What it has counted.
    pub counters: Counters,
    /// When it last read the clock, in the data plane's own units.
    pub clock_read: u64,
    /// What the clock said then, in ticks ([`crate::clock`]).
    pub tick: u64,
    /// The hop of the last packet of each direction, outbound first.
    pub hops: [Hop; 2],
}

counters! {
    /// Packets translated from internal to external.
    outbound_packets,
    /// Bytes of IP in them.
    outbound_bytes,
    /// Packets translated from external to internal.
    inbound_packets,
    /// Bytes of IP in them.
    inbound_bytes,
    /// Packets forwarded untranslated between subnets of one VPC.
    local_packets,
    /// Bytes of IP in them.
    local_bytes,
    /// Packets from one internal host to another by an Elastic IP, translated twice.
    hairpin_packets,
    /// Bytes of IP in them.
    hairpin_bytes,
    /// Packets for the host itself, handed to its stack.
    stack_packets,
    /// Bytes of their frames.
    stack_bytes,
    /// Fragments that came before their first one, handed to the controller.
    held_packets,
    /// Bytes of IP in them.
    held_bytes,
    /// Packets answered with an ICMP error or a RST.
    replied_packets,
    /// Bytes of IP in them.
    replied_bytes,
    /// Sessions opened.
    sessions_opened,
    /// Sessions released by ageing.
    sessions_released,
    /// TCP sessions opened (each by an initial SYN).
    connection_attempts,
    /// TCP sessions released before either side had closed them.
    idle_timeouts,
    /// RSTs sent to hosts that go on with a TCP session that has ended.
    resets_sent,
    /// Ports tried for new sessions.
    port_tries,
    /// Next hops looked for: in the kernel's tables, or among those found in the last second.
    hop_lookups,
    /// Bytes of IP in dropped packets.
    dropped_bytes,
    /// Packets sent ahead, to be translated in bursts.
    sent_ahead,
}
