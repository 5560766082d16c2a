//! The data plane's own program on one packet at a time (`BPF_PROG_TEST_RUN`), in a network namespace.
//!
//! A [`Rig`] is a gateway with its interfaces, its neighbours and a configuration. A test builds a [`Packet`], says
//! with an [`Expected`] what must come of it, and [`Rig::expect`] compares everything: the verdict, the bytes, every
//! counter, every drop reason and the whole flow table. What the test does not name must not move.

mod dump;
mod events;
mod expected;
mod fragments;
mod hook;
mod layout;
mod machine;
mod network;
mod packet;
mod rig;
mod session;
mod slow;
mod state;
mod time;

pub use expected::{
    Expected, divided, dropped, hairpin, held, inbound, local, outbound, refused, replied, stack,
};
pub use fragments::{fragment, fragments};
pub use hook::{Hook, Verdict};
pub use layout::Layout;
pub use network::{
    ELASTIC_IP, EXTERNAL_ADDRESS, HOST, HOST_B, HOST_VLAN, INTERNAL_ADDRESS, INTERNAL_B_ADDRESS,
    INTERNAL_IPV6, NEIGHBOUR, NIC_MAC, Network, PORT, QUEUES, REMOTE, REMOTE_2, ROUTER, SECOND_ELASTIC_IP,
    SECOND_HOST, STRANGER, Side, UNREACHABLE, VLAN, VLAN_ADDRESS, WRONG_WAY, mac_of,
};
pub use packet::{
    Body, Packet, checksum, echo_reply, echo_request, fix_ip_checksum, icmp_error, tcp, timestamp_request,
    udp,
};
pub use rig::{Outcome, Rig, addressed};
pub use state::State;

pub use nat_common::{drop::DropReason, flow::address};

/// TCP header flags (RFC 9293 §3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}
