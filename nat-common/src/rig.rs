//! What the comparison's generator and sink share with whoever runs them: numbered flows, orders, findings.
//!
//! Every packet carries the number of its flow in its payload, so that the sink knows what the packet was before any
//! gateway translated it.

use bytemuck::{Pod, Zeroable};

/// Internal hosts that flows are spread over.
pub const HOSTS: u32 = 64;
/// Remotes that flows are spread over: well below the ports of one address each, at any number of flows.
pub const REMOTES: u32 = 1_024;
/// The first internal host, 10.0.1.10.
pub const FIRST_HOST: u32 = 0x0a00_010a;
/// The first remote, 198.18.0.0: a network set aside for benchmarks (RFC 2544).
pub const FIRST_REMOTE: u32 = 0xc612_0000;
/// The port of every remote.
pub const REMOTE_PORT: u16 = 443;
/// Numbers of the flows that one host can have with one remote.
pub const ONE_HOST_FLOWS: u32 = 60_000;
/// What the payload begins with; the number of the flow follows.
pub const MARK: u32 = 0x6e61_7467;

/// How flow numbers become addresses and ports.
pub mod pattern {
    /// Many hosts, many remotes, and no two hosts with the same port toward one remote.
    pub const SPREAD: u32 = 0;
    /// One host toward one remote: only the port differs.
    pub const ONE_HOST: u32 = 1;
}

/// A flow as it leaves the internal host, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The internal host.
    pub host: u32,
    /// Its port.
    pub port: u16,
    /// The remote, at [`REMOTE_PORT`].
    pub remote: u32,
}

/// Flow `number` of a pattern.
#[inline(always)]
#[must_use]
pub const fn flow(pattern: u32, number: u32) -> Numbered {
    if pattern == pattern::ONE_HOST {
        return Numbered { host: FIRST_HOST, port: 1_024 + number as u16, remote: FIRST_REMOTE };
    }
    let (host, rest) = (number % HOSTS, number / HOSTS);
    let (remote, round) = (rest % REMOTES, rest / REMOTES);
    Numbered {
        host: FIRST_HOST + host,
        port: (1_024 + round * HOSTS + host) as u16,
        remote: FIRST_REMOTE + remote,
    }
}

/// What the generator does, the one entry of `RIG_ORDERS`; it counts on in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Orders {
    /// How many flows to cycle through, at least 1.
    pub flows: u32,
    /// Number of the next flow.
    pub next: u32,
    /// One of [`pattern`].
    pub pattern: u32,
    /// 0: packets of internal hosts. 1: answers to what the sink has seen.
    pub inbound: u32,
    /// MAC address of the gateway.
    pub destination: [u16; 3],
    /// MAC address of the sender.
    pub source: [u16; 3],
    /// Bytes of IP in every packet.
    pub length: u32,
}

/// What the sink expects, the one entry of `RIG_EXPECT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Expectation {
    /// One of [`pattern`].
    pub pattern: u32,
    /// Whether packets come from remotes.
    pub inbound: u32,
    /// Whether to write down each flow's source as it arrives.
    pub learn: u32,
    /// Addresses, in network order, that outbound packets may come from; none: untranslated ones.
    pub sources: [u32; 2],
}

/// The source of an outbound flow as the sink saw it; zero while it has not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Seen {
    /// Address, network order.
    pub address: u32,
    /// Port, network order.
    pub port: u16,
    /// Must be zero.
    pub spare: u16,
}

/// What arrived, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tally {
    /// Packets of the generator.
    pub packets: u64,
    /// Frames that were none of the generator's.
    pub strangers: u64,
    /// Samples looked into.
    pub checked: u64,
    /// Samples with an address or a port that they should not have.
    pub wrong_addresses: u64,
    /// Samples whose IP header does not sum up.
    pub wrong_ip_sums: u64,
    /// Samples whose UDP checksum is wrong or missing.
    pub wrong_udp_sums: u64,
    /// Packets until the next sample.
    pub until_sample: u64,
}

/// One way through a gateway that only redirects.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Way {
    /// Index of the interface that frames come in on.
    pub ingress: u32,
    /// Index of the interface that they leave by.
    pub egress: u32,
    /// MAC address they are sent to.
    pub destination: [u16; 3],
    /// MAC address they are sent from.
    pub source: [u16; 3],
    /// Cache lines among which each flow has its own, for the gateway that looks one up.
    pub lines: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate alloc;
    use alloc::collections::BTreeSet;

    #[test]
    fn no_two_flows_are_the_same() {
        let tuples: BTreeSet<_> = (0..300_000)
            .map(|number| flow(pattern::SPREAD, number))
            .map(|f| (f.host, f.port, f.remote))
            .collect();
        assert_eq!(tuples.len(), 300_000);
    }

    #[test]
    fn no_two_hosts_use_one_port_toward_one_remote_even_among_sixteen_million() {
        let last = flow(pattern::SPREAD, 16_777_215);
        assert_eq!(last.port, 1_024 + 255 * 64 + 63);
        let ports: BTreeSet<_> =
            (0..300_000).map(|number| flow(pattern::SPREAD, number)).map(|f| (f.port, f.remote)).collect();
        assert_eq!(ports.len(), 300_000);
    }

    #[test]
    fn one_host_has_a_port_for_every_flow() {
        assert_eq!(flow(pattern::ONE_HOST, ONE_HOST_FLOWS - 1).port, 61_023);
        assert_eq!(flow(pattern::ONE_HOST, 7).remote, FIRST_REMOTE);
    }
}
