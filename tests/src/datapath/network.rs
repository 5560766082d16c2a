//! The gateway's host: interfaces, addresses, routes and neighbours, in the network namespace of this thread.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

use nat_userspace::host::HostFacts;
use nix::sched::{CloneFlags, unshare};

/// A private host, behind `int0`.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
/// Another one behind the same interface.
pub const SECOND_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);
/// A private host of another subnet, behind `int1`.
pub const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
/// A private host of a third subnet, behind the VLAN device `int0.100`.
pub const HOST_VLAN: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 10);
/// The tag of that VLAN.
pub const VLAN: u16 = 100;
/// The gateway's own address on `int0`.
pub const INTERNAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The gateway's own address on `int1`.
pub const INTERNAL_B_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
/// The gateway's own address on `int0.100`.
pub const VLAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);
/// The gateway's own IPv6 address on `int0`.
pub const INTERNAL_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// The gateway's own address on `ext0`.
pub const EXTERNAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The next hop to everything outside.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// An address on the link of `ext0` that no neighbour entry knows.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// The Elastic IP of the standard configuration.
pub const ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The only port of [`ELASTIC_IP`] in the standard configuration: sessions toward different remotes all get it.
pub const PORT: u16 = 40_000;
/// An Elastic IP that tests may configure besides.
pub const SECOND_ELASTIC_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
/// A host outside, reached through [`ROUTER`].
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Another one.
pub const REMOTE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
/// A third, which no session ever talks to.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
/// An address for which the gateway's routing table has an `unreachable` route.
pub const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// An address for which the gateway's routing table leads to an internal interface.
pub const WRONG_WAY: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);
/// The MAC address of `nic0`.
pub const NIC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// The interface that a frame arrives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `int0`: the subnet of [`HOST`], and with a tag that of [`HOST_VLAN`].
    Internal,
    /// `int1`: the subnet of [`HOST_B`].
    InternalB,
    /// `ext0`.
    External,
    /// `mgmt0`, which the configuration does not know.
    Unconfigured,
    /// `nic0`, both sides of a one-armed gateway.
    Nic,
}

impl Side {
    /// The name of the interface.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Internal => "int0",
            Self::InternalB => "int1",
            Self::External => "ext0",
            Self::Unconfigured => "mgmt0",
            Self::Nic => "nic0",
        }
    }

    /// The MAC address of the interface.
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        match self {
            Self::Internal => [2, 0, 0, 0, 0, 1],
            Self::InternalB => [2, 0, 0, 0, 0, 2],
            Self::External => [2, 0, 0, 0, 0, 3],
            Self::Unconfigured => [2, 0, 0, 0, 0, 4],
            Self::Nic => NIC_MAC,
        }
    }

    /// The side of the two-armed gateway that `address` is on, and the tag it is reached with.
    #[must_use]
    pub const fn of(address: Ipv4Addr) -> (Self, Option<u16>) {
        match address.octets() {
            [10, 0, 2, _] => (Self::InternalB, None),
            [10, 0, 3, _] => (Self::Internal, Some(VLAN)),
            [10, ..] => (Self::Internal, None),
            _ => (Self::External, None),
        }
    }
}

/// The MAC address of a host on one of the gateway's links.
#[must_use]
pub const fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [6, 0, a, b, c, d]
}

/// What the gateway's host looks like.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    /// Internal and external interfaces of their own. The external one carries IP packets up to this many bytes.
    TwoArmed {
        /// The MTU of `ext0`.
        external_mtu: u32,
    },
    /// One interface for both sides.
    OneArmed,
}

impl Default for Network {
    fn default() -> Self {
        Self::TwoArmed { external_mtu: 1500 }
    }
}

impl Network {
    /// Moves this thread into a fresh network namespace and builds the network there.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn build(self) {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made");
        let mut script = String::from("link set lo up\n");
        match self {
            Self::TwoArmed { external_mtu } => two_armed(&mut script, external_mtu),
            Self::OneArmed => one_armed(&mut script),
        }
        ip(&script);
    }
}

/// Runs commands of `ip`, one per line, in this thread's network namespace.
///
/// # Panics
/// If one fails.
pub fn ip(script: &str) {
    let mut command = Command::new("ip");
    let mut child =
        command.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("the command `ip` is installed");
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    stdin.write_all(script.as_bytes()).expect("`ip` reads its input");
    drop(stdin);
    assert!(child.wait().expect("`ip` ends").success(), "`ip` failed on\n{script}");
}

fn two_armed(script: &mut String, external_mtu: u32) {
    for side in [Side::Internal, Side::InternalB, Side::External, Side::Unconfigured] {
        link(script, side);
    }
    *script += &format!(
        "link add int0.{VLAN} address {} type veth peer name vlan-peer
         link set vlan-peer up
         link set int0.{VLAN} up
         link set ext0 mtu {external_mtu}
         addr add {INTERNAL_ADDRESS}/24 dev int0
         addr add {INTERNAL_IPV6}/64 dev int0 nodad
         addr add {INTERNAL_B_ADDRESS}/24 dev int1
         addr add {VLAN_ADDRESS}/24 dev int0.{VLAN}
         addr add {EXTERNAL_ADDRESS}/24 dev ext0
         addr add {ELASTIC_IP}/32 dev ext0 scope host noprefixroute
         addr add 172.31.0.1/24 dev mgmt0
         route add default via {ROUTER}
         route add unreachable {UNREACHABLE}
         route add {WRONG_WAY} via {HOST_B}
",
        text(Side::Internal.mac())
    );
    for (address, device) in
        [(HOST, "int0"), (SECOND_HOST, "int0"), (HOST_B, "int1"), (HOST_VLAN, "int0.100"), (ROUTER, "ext0")]
    {
        neighbour(script, address, device);
    }
}

fn one_armed(script: &mut String) {
    link(script, Side::Nic);
    *script += &format!(
        "addr add {INTERNAL_ADDRESS}/24 dev nic0
         addr add {EXTERNAL_ADDRESS}/24 dev nic0
         addr add {ELASTIC_IP}/32 dev nic0 scope host noprefixroute
         route add default via {ROUTER}
"
    );
    for address in [HOST, SECOND_HOST, ROUTER] {
        neighbour(script, address, "nic0");
    }
}

/// Queues that every interface but the VLAN's receives on.
pub const QUEUES: u32 = 8;

fn link(script: &mut String, side: Side) {
    let name = side.device();
    *script += &format!(
        "link add {name} address {} numrxqueues {QUEUES} type veth peer name {name}-peer
         link set {name}-peer up
         link set {name} up
",
        text(side.mac())
    );
}

fn neighbour(script: &mut String, address: Ipv4Addr, device: &str) {
    *script += &format!("neigh add {address} lladdr {} dev {device} nud permanent\n", text(mac_of(address)));
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Makes the stand-in for a VLAN device look like one: not every kernel has them, and the data plane only knows what
/// the plan tells it.
///
/// Interfaces look like physical ones: on a veth the program redirects what goes back where it came from.
pub(super) fn complete(facts: &mut HostFacts) {
    for interface in &mut facts.interfaces {
        interface.driver_kind = None;
    }
    let parent = facts.interface(Side::Internal.device()).map(|interface| interface.index);
    let stand_in = facts.interfaces.iter_mut().find(|interface| interface.name == "int0.100");
    if let (Some(interface), Some(parent)) = (stand_in, parent) {
        interface.driver_kind = Some("vlan".into());
        interface.parent = Some(parent);
        interface.vlan = Some(VLAN);
    }
}
