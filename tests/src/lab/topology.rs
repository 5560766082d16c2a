//! Links, addresses and routes of the lab.

use std::fs;

use anyhow::{Context, Result};

use crate::lab::host::Host;
use crate::lab::{ELASTIC_IP, GATEWAY_EXTERNAL, GATEWAY_INTERNAL, H1, H2, Lab, ROUTER, S1, S2};

/// A place in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// First private host.
    H1,
    /// Second private host.
    H2,
    /// The private hosts' bridge.
    Switch,
    /// The gateway under test.
    Gateway,
    /// The internet's first hop.
    Router,
    /// First outside server.
    S1,
    /// Second outside server.
    S2,
}

impl Node {
    /// Every node.
    pub const ALL: [Self; 7] =
        [Self::H1, Self::H2, Self::Switch, Self::Gateway, Self::Router, Self::S1, Self::S2];

    /// Its short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
            Self::Switch => "sw",
            Self::Gateway => "gw",
            Self::Router => "rt",
            Self::S1 => "s1",
            Self::S2 => "s2",
        }
    }
}

/// How many interfaces the gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arms {
    /// One, on the switch, with the router there too.
    One,
    /// `int0` on the switch and `ext0` toward the router.
    Two,
}

/// How the router reaches the Elastic IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// It asks by ARP on the gateway's link.
    OnLink,
    /// It routes it to the gateway's own external address.
    Routed,
}

/// What a lab is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many interfaces the gateway has.
    pub arms: Arms,
    /// How the router reaches the Elastic IP.
    pub uplink: Uplink,
    /// MTU of the links between private hosts and gateway, bytes.
    pub internal_mtu: u32,
    /// MTU of the link between gateway and router, bytes; two-armed only.
    pub external_mtu: u32,
    /// MTU of the link between router and servers, bytes.
    pub transit_mtu: u32,
    /// The hook that natgw is to use.
    pub hook: Hook,
    /// Whether the links keep segmentation and checksum offload; nothing is captured then, for what is seen on the
    /// links is not yet what a wire would carry.
    pub offloads: bool,
}

/// The kernel's hook that natgw is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
    Xdp,
    /// The same, with packets translated in bursts however few sessions there are.
    Bursts,
    /// XDP in the kernel's stack.
    XdpGeneric,
    /// TC ingress.
    Tc,
    /// TC ingress by a filter of the clsact qdisc, as on kernels before 6.6.
    Clsact,
    /// Whichever natgw takes.
    Auto,
}

impl Hook {
    /// The `mode` of natgw's configuration that asks for it.
    #[must_use]
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Xdp | Self::Bursts => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc | Self::Clsact => "tc",
            Self::Auto => "auto",
        }
    }

    /// Flags of `natgw run` that the configuration has no words for.
    #[must_use]
    pub const fn flags(self) -> &'static [&'static str] {
        if matches!(self, Self::Clsact) { &["--tc-attach", "clsact"] } else { &[] }
    }
}

impl Plan {
    /// Two arms, Elastic IP by ARP, MTU 1500 everywhere, XDP.
    #[must_use]
    pub const fn two_armed() -> Self {
        Self {
            arms: Arms::Two,
            uplink: Uplink::OnLink,
            internal_mtu: 1500,
            external_mtu: 1500,
            transit_mtu: 1500,
            hook: Hook::Xdp,
            offloads: false,
        }
    }

    /// Jumbo frames everywhere; all else as in [`Plan::two_armed`].
    #[must_use]
    pub const fn jumbo() -> Self {
        Self { internal_mtu: 9000, external_mtu: 9000, transit_mtu: 9000, ..Self::two_armed() }
    }

    /// One arm; all else as in [`Plan::two_armed`].
    #[must_use]
    pub const fn one_armed() -> Self {
        Self { arms: Arms::One, ..Self::two_armed() }
    }

    /// The Elastic IP routed to the gateway; all else as in [`Plan::two_armed`].
    #[must_use]
    pub const fn routed() -> Self {
        Self { uplink: Uplink::Routed, ..Self::two_armed() }
    }

    /// The gateway's internal interface.
    #[must_use]
    pub const fn internal(&self) -> &'static str {
        match self.arms {
            Arms::One => "eth0",
            Arms::Two => "int0",
        }
    }

    /// The gateway's external interface; the same as the internal one in the one-armed lab.
    #[must_use]
    pub const fn external(&self) -> &'static str {
        match self.arms {
            Arms::One => "eth0",
            Arms::Two => "ext0",
        }
    }
}

/// Builds `lab.plan()` in the lab's fresh namespaces.
pub(super) fn build(lab: &Lab) -> Result<()> {
    for node in Node::ALL {
        let host = lab.host(node);
        host.within(move || tune(node == Node::Router))
            .with_context(|| format!("cannot set the sysctls of {}", node.name()))?;
        ip(&host, "link set dev lo up\n")?;
    }
    build_switch(lab)?;
    build_router(lab)?;
    build_gateway(lab)?;
    for (node, address) in [(Node::H1, H1), (Node::H2, H2)] {
        let script = format!("addr add {address}/24 dev eth0\nroute add default via {GATEWAY_INTERNAL}\n");
        ip(&lab.host(node), &script)?;
    }
    for (node, address) in [(Node::S1, S1), (Node::S2, S2)] {
        let script = format!(
            "addr add {address}/24 dev eth0\nroute add 198.51.100.0/24 via 192.0.2.1\n\
             route add 203.0.113.0/24 via 192.0.2.1\n"
        );
        ip(&lab.host(node), &script)?;
    }
    Ok(())
}

fn build_switch(lab: &Lab) -> Result<()> {
    let switch = lab.host(Node::Switch);
    ip(&switch, "link add dev br0 type bridge forward_delay 0 mcast_snooping 0\nlink set dev br0 up\n")?;
    let mut ports = vec![(Node::H1, "eth0"), (Node::H2, "eth0"), (Node::Gateway, lab.plan.internal())];
    if lab.plan.arms == Arms::One {
        ports.push((Node::Router, "gw"));
    }
    for (node, interface) in ports {
        link(lab, (Node::Switch, node.name()), (node, interface), lab.plan.internal_mtu)?;
        ip(&switch, &format!("link set dev {} master br0\n", node.name()))?;
    }
    ip(&switch, &format!("link set dev br0 mtu {}\n", lab.plan.internal_mtu))
}

fn build_router(lab: &Lab) -> Result<()> {
    let router = lab.host(Node::Router);
    let transit_mtu = lab.plan.transit_mtu;
    if lab.plan.arms == Arms::Two {
        link(lab, (Node::Router, "gw"), (Node::Gateway, "ext0"), lab.plan.external_mtu)?;
    }
    ip(&router, "link add dev net0 type bridge forward_delay 0 mcast_snooping 0\n")?;
    for node in [Node::S1, Node::S2] {
        link(lab, (Node::Router, node.name()), (node, "eth0"), transit_mtu)?;
        ip(&router, &format!("link set dev {} master net0\n", node.name()))?;
    }
    let elastic_ip = match lab.plan.uplink {
        Uplink::OnLink => "route add 203.0.113.0/24 dev gw".to_owned(),
        Uplink::Routed => format!("route add {ELASTIC_IP}/32 via {GATEWAY_EXTERNAL}"),
    };
    let script = format!(
        "link set dev net0 mtu {transit_mtu} up\naddr add 192.0.2.1/24 dev net0\naddr add {ROUTER}/24 dev gw\n{elastic_ip}\n"
    );
    ip(&router, &script)
}

fn build_gateway(lab: &Lab) -> Result<()> {
    let (internal, external) = (lab.plan.internal(), lab.plan.external());
    let script = format!(
        "addr add {GATEWAY_INTERNAL}/24 dev {internal}\naddr add {GATEWAY_EXTERNAL}/24 dev {external}\n\
         route add default via {ROUTER}\n"
    );
    ip(&lab.host(Node::Gateway), &script)
}

/// A veth pair between two nodes, both ends up, and tuned for XDP unless the lab keeps offloads.
///
/// Transmit checksums are computed in software so that a wrong one is noticed. GRO gives the end NAPI, without which
/// frames redirected by native XDP at the other end vanish; a tiny `gro_max_size` keeps it from merging, so that
/// captures see every frame as it was on the wire.
fn link(lab: &Lab, near: (Node, &str), far: (Node, &str), mtu: u32) -> Result<()> {
    let (near_host, far_host) = (lab.host(near.0), lab.host(far.0));
    let far_namespace = format!("{}-{}", lab.id, far.0.name());
    let (near, far) = (near.1, far.1);
    let pair = format!("link add dev {near} type veth peer name {far} netns {far_namespace}\n");
    ip(&near_host, &pair)?;
    for (host, name) in [(&near_host, near), (&far_host, far)] {
        if lab.plan.offloads {
            ip(host, &format!("link set dev {name} mtu {mtu} up\n"))?;
            continue;
        }
        host.run(&["ethtool", "-K", name, "tx", "off", "gso", "off", "tso", "off", "gro", "on"])?;
        ip(host, &format!("link set dev {name} gro_max_size 64 mtu {mtu} up\n"))?;
    }
    Ok(())
}

/// Sysctls of the calling thread's namespace: no IPv6, no source checks, no redirects, forwarding as told.
pub(crate) fn tune(forward: bool) -> Result<()> {
    let forward = if forward { "1" } else { "0" };
    for scope in ["all", "default"] {
        for (path, value) in [
            (format!("ipv6/conf/{scope}/disable_ipv6"), "1"),
            (format!("ipv4/conf/{scope}/rp_filter"), "0"),
            (format!("ipv4/conf/{scope}/send_redirects"), "0"),
            (format!("ipv4/conf/{scope}/accept_redirects"), "0"),
        ] {
            write(&path, value)?;
        }
    }
    write("ipv4/ip_forward", forward)?;
    write("ipv4/icmp_ratelimit", "0")
}

fn write(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/net/{path}");
    // A kernel without IPv6 has nothing to switch off.
    if path.starts_with("ipv6") && !fs::exists("/proc/sys/net/ipv6")? {
        return Ok(());
    }
    fs::write(&file, value).with_context(|| format!("cannot write {file}"))
}

/// Runs a script of `ip` commands in the namespace of `host`.
///
/// # Errors
/// When one of them fails.
pub fn ip(host: &Host, script: &str) -> Result<()> {
    host.run_with_input(&["ip", "-batch", "-"], script).map(drop)
}
