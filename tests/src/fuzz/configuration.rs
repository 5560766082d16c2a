//! The configurations that sequences run under, each told twice: as a file for natgw, and to the model.

use std::net::Ipv4Addr;

use crate::{
    datapath::{ELASTIC_IP, Layout, REMOTE, REMOTE_2, SECOND_ELASTIC_IP, Side},
    model::{Acl, ElasticIp, Filtering, Rule, Subnet, Target, Timeouts, World},
};

/// Idle timeouts in seconds. Time passes in steps of 40 ticks, of which none comes near one of these.
const LIMITS: &str = "[gateway]\nmax_sessions = 1024\nmax_fragmented_datagrams = 4096\nicmp_errors_per_second = 1000000\n[timeouts]\n\
    tcp_established = 1000\ntcp_transitory = 200\ntcp_closing = 100\nudp = 310\nicmp = 60\nfragments = 3600\n";
/// The step that time passes in.
pub const STEP: u32 = 40;

const ROUTES: &str = r#"{ destination = "128.0.0.0/1", target = "nat-a" },
    { destination = "10.0.0.0/16", target = "local" }, { destination = "198.18.5.0/24", target = "blackhole" }"#;
const ALL: &str = r#"{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;

/// A configuration by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Configuration {
    /// Two Elastic IPs, everything allowed.
    #[default]
    Open,
    /// The same with NACLs on both sides.
    Guarded,
    /// One Elastic IP.
    Single,
    /// Mappings that do not depend on the remote, and let everything in.
    Independent,
    /// The same, and let in who was talked to.
    ByAddress,
    /// The same, and let in nothing that was not asked for.
    Strict,
}

impl Configuration {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Guarded, Self::Single, Self::Independent, Self::ByAddress, Self::Strict];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Guarded => "guarded",
            Self::Single => "single",
            Self::Independent => "independent",
            Self::ByAddress => "by-address",
            Self::Strict => "strict",
        }
    }

    /// What mappings depend on, and let in.
    #[must_use]
    pub const fn kind(self) -> Option<Filtering> {
        match self {
            Self::Open | Self::Guarded | Self::Single => None,
            Self::Independent => Some(Filtering::Nothing),
            Self::ByAddress => Some(Filtering::ByAddress),
            Self::Strict => Some(Filtering::ByEndpoint),
        }
    }

    /// The ports of each Elastic IP: few, so that they run out.
    const fn ports(self) -> (u16, u16) {
        (40_000, if self.kind().is_none() { 40_002 } else { 40_011 })
    }

    fn elastic_ips(self) -> &'static [&'static str] {
        match self {
            Self::Open | Self::Guarded | Self::Independent | Self::ByAddress | Self::Strict => {
                &["203.0.113.10", "203.0.113.11"]
            }
            Self::Single => &["203.0.113.10"],
        }
    }

    /// As natgw is told.
    #[must_use]
    pub fn layout(self) -> Layout {
        let plain =
            Layout::with_elastic_ips(self.elastic_ips(), &format!("{}-{}", self.ports().0, self.ports().1));
        let fields = match self.kind() {
            None => String::new(),
            Some(filtering) => {
                format!("mapping = \"endpoint-independent\"\nfiltering = \"{}\"", name_of(filtering))
            }
        };
        let plain = plain.gateway_option(&fields);
        let plain = Layout { limits: LIMITS.into(), routes: ROUTES.into(), ..plain };
        if self != Self::Guarded {
            return plain;
        }
        let private = nacl(
            "private",
            r#"{ rule = 1, action = "deny", protocol = "tcp", cidr = "192.0.2.11/32", ports = "443" }"#,
            r#"{ rule = 1, action = "deny", protocol = "udp", cidr = "192.0.2.10/32", ports = "53" }"#,
        );
        let public = nacl(
            "public",
            r#"{ rule = 1, action = "deny", protocol = "udp", cidr = "0.0.0.0/0", ports = "40002" }"#,
            r#"{ rule = 1, action = "deny", protocol = "icmp", cidr = "192.0.2.11/32" }"#,
        );
        let with_private = Layout::with_private_nacl("", "").subnets;
        // The public subnet is the last.
        let subnets = match with_private.rsplit_once("nacl = \"default\"") {
            Some((before, after)) => format!("{before}nacl = \"public\"{after}"),
            None => with_private,
        };
        Layout { subnets, nacls: private + &public, ..plain }
    }

    /// As the model is told.
    #[must_use]
    pub fn world(self) -> World {
        let guarded = self == Self::Guarded;
        let private = Acl {
            inbound: vec![deny(Some(6), (REMOTE_2, 32), (443, 443)), allow()],
            outbound: vec![deny(Some(17), (REMOTE, 32), (53, 53)), allow()],
        };
        let public = Acl {
            inbound: vec![deny(Some(17), (Ipv4Addr::UNSPECIFIED, 0), (40_002, 40_002)), allow()],
            outbound: vec![deny(Some(1), (REMOTE_2, 32), (0, 65_535)), allow()],
        };
        let subnet = |third, side, acl| Subnet { network: (Ipv4Addr::new(10, 0, third, 0), 24), side, acl };
        let single = self == Self::Single;
        let lent = |address| ElasticIp { address, ports: self.ports() };
        World {
            subnets: vec![
                subnet(1, Side::Internal, guarded.then_some(private)),
                subnet(2, Side::InternalB, None),
                // Behind a VLAN that no packet of the fuzzer is tagged for.
                subnet(3, Side::Unconfigured, None),
            ],
            elastic_ips: [ELASTIC_IP, SECOND_ELASTIC_IP].map(lent)[..if single { 1 } else { 2 }].to_vec(),
            public: guarded.then_some(public),
            routes: vec![
                ((Ipv4Addr::new(128, 0, 0, 0), 1), Target::Gateway),
                ((Ipv4Addr::new(10, 0, 0, 0), 16), Target::Local),
                ((Ipv4Addr::new(198, 18, 5, 0), 24), Target::Blackhole),
            ],
            timeouts: Timeouts {
                established: ticks(1_000),
                transitory: ticks(200),
                closing: ticks(100),
                udp: ticks(310),
                icmp: ticks(60),
            },
            independent: self.kind(),
        }
    }
}

/// Ticks of 2^30 nanoseconds that cover so many seconds.
fn ticks(seconds: u64) -> u64 {
    (seconds * 1_000_000_000).div_ceil(1 << 30)
}

const fn name_of(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::ByEndpoint => "address-and-port-dependent",
        Filtering::ByAddress => "address-dependent",
        Filtering::Nothing => "endpoint-independent",
    }
}

fn nacl(name: &str, inbound: &str, outbound: &str) -> String {
    format!("[[nacl]]\nname = \"{name}\"\ninbound = [{inbound}, {ALL}]\noutbound = [{outbound}, {ALL}]\n")
}

const fn deny(protocol: Option<u8>, network: (Ipv4Addr, u32), ports: (u16, u16)) -> Rule {
    Rule { allow: false, protocol, network, ports }
}

const fn allow() -> Rule {
    Rule { allow: true, protocol: None, network: (Ipv4Addr::UNSPECIFIED, 0), ports: (0, 65_535) }
}
