//! The configuration: what the operator wants, read from a TOML file or from flags, checked whole.
//!
//! A configuration passes three sieves, and each reports everything it finds: the *shape* (`raw`: known fields of
//! the right type), the *values* (`lower`: one object at a time), and the *relations* between objects (`check`).
//! What comes out is a [`Config`] that every reader can trust: references exist, addresses do not clash, the
//! implicit `local` routes and the implicit NACL are written out.

mod change;
mod check;
mod error;
mod flags;
mod gateway;
mod lower;
mod mapping;
mod per_host;
mod raw;
mod sample;
mod scalar;
mod source;
mod text;
mod timeouts;
mod warnings;

use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use change::{ChangeError, NewElasticIp};
pub use error::{ConfigError, Place, Problem};
pub use flags::Flags;
pub use gateway::{Arp, ElasticIp, MssClamp, NatGateway, OwnElasticIps, PortLess, Strategy};
pub use mapping::{Behaviour, Filtering, Mapping};
pub use per_host::{Blocks, PerHost};
pub use sample::SAMPLE;
pub use timeouts::{IdleReset, Profile, Timeouts};
pub use warnings::Warning;

/// A complete, valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How programs are attached to interfaces.
    pub mode: Mode,
    /// Sessions the flow table can hold, 1,024 to 67,108,864.
    pub max_sessions: u32,
    /// ICMP errors and resets that one CPU may send in a second; 0 sends none.
    pub icmp_errors_per_second: u32,
    /// Whether ports are chosen so that answers come in on the queue of the packet that opened their session.
    #[serde(default)]
    pub same_queue: bool,
    /// When packets are translated in bursts.
    #[serde(default)]
    pub bursts: Bursts,
    /// Seconds that an Elastic IP drains for once it is no longer named; 0: its sessions end at once.
    #[serde(default = "default_drain")]
    pub drain: u64,
    /// When hosts are told that a TCP session has ended for being idle.
    #[serde(default)]
    pub idle_reset: IdleReset,
    /// What becomes of fragments.
    #[serde(default)]
    pub fragments: Fragments,
    /// Datagrams in fragments that may be under way at a time, 64 to 1,048,576.
    #[serde(default = "default_fragmented")]
    pub max_fragmented_datagrams: u32,
    /// When idle sessions end.
    pub timeouts: Timeouts,
    /// The private networks, in the order of the file; their zone is their position plus one.
    pub vpcs: Vec<Vpc>,
    /// Where private hosts and NAT gateways live.
    pub subnets: Vec<Subnet>,
    /// The external addresses.
    pub elastic_ips: Vec<ElasticIp>,
    /// What translates.
    pub nat_gateways: Vec<NatGateway>,
    /// Where private subnets' packets go, implicit `local` routes included.
    pub route_tables: Vec<RouteTable>,
    /// Stateless filters, the implicit [`DEFAULT_NACL`] included.
    pub nacls: Vec<Nacl>,
}

/// Seconds that an Elastic IP drains for unless told otherwise: AWS's time for established connections.
const DEFAULT_DRAIN: u64 = 350;

/// What state of a version without draining means.
const fn default_drain() -> u64 {
    DEFAULT_DRAIN
}

/// Datagrams in fragments that may be under way at a time, unless told otherwise.
const DEFAULT_FRAGMENTED: u32 = 16_384;

/// What state of a version without fragments means.
const fn default_fragmented() -> u32 {
    DEFAULT_FRAGMENTED
}

impl Config {
    /// Reads and checks the configuration in `text`; `origin` is the file that errors name.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with every problem that the first failing sieve found.
    pub fn from_toml(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let source = source::Source::file(origin, text);
        raw::read(text, &source)
            .and_then(|document| check::check(&document, &source))
            .map_err(ConfigError::Invalid)
    }

    /// Reads and checks the configuration file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] if the file cannot be read, else as [`Config::from_toml`].
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Self::from_toml(&text, path)
    }

    /// Where the file at `path` names `interface` first: for what only the host can tell about it.
    #[must_use]
    pub fn place_of_interface(path: &Path, interface: &str) -> Option<Place> {
        let text = std::fs::read_to_string(path).ok()?;
        let source = source::Source::file(path, &text);
        let document = raw::read(&text, &source).ok()?;
        let subnet =
            document.subnets.iter().find(|subnet| subnet.as_ref().interface.as_ref() == interface)?;
        Some(source.place(&subnet.as_ref().interface.span()))
    }

    /// Builds and checks the configuration of the common case, which needs no file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`]; its problems name the flags.
    pub fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let (document, source) = flags.document().map_err(|problem| ConfigError::Invalid(vec![problem]))?;
        check::check(&document, &source).map_err(ConfigError::Invalid)
    }

    /// What is valid but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        warnings::of(self)
    }

    /// The VPC called `name`.
    #[must_use]
    pub fn vpc(&self, name: &str) -> Option<&Vpc> {
        self.vpcs.iter().find(|vpc| vpc.name == name)
    }

    /// The subnet called `name`.
    #[must_use]
    pub fn subnet(&self, name: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.name == name)
    }

    /// The Elastic IP with this `address`.
    #[must_use]
    pub fn elastic_ip(&self, address: Ipv4Addr) -> Option<&ElasticIp> {
        self.elastic_ips.iter().find(|elastic_ip| elastic_ip.address == address)
    }

    /// The NAT gateway called `name`.
    #[must_use]
    pub fn nat_gateway(&self, name: &str) -> Option<&NatGateway> {
        self.nat_gateways.iter().find(|gateway| gateway.name == name)
    }

    /// The NAT gateway that uses the Elastic IP `address`.
    #[must_use]
    pub fn owner(&self, address: Ipv4Addr) -> Option<&NatGateway> {
        self.nat_gateways.iter().find(|gateway| gateway.elastic_ips.contains(&address))
    }

    /// The interfaces that NAT gateways face the outside with.
    pub fn external_interfaces(&self) -> impl Iterator<Item = &str> {
        let subnets = self.nat_gateways.iter().filter_map(|gateway| self.subnet(&gateway.subnet));
        subnets.map(|subnet| subnet.interface.as_str())
    }

    /// The route table called `name`.
    #[must_use]
    pub fn route_table(&self, name: &str) -> Option<&RouteTable> {
        self.route_tables.iter().find(|table| table.name == name)
    }

    /// The NACL called `name`.
    #[must_use]
    pub fn nacl(&self, name: &str) -> Option<&Nacl> {
        self.nacls.iter().find(|nacl| nacl.name == name)
    }
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// TC on virtual interfaces, the fastest that every interface offers on physical ones
    #[default]
    Auto,
    /// XDP in the driver only; an interface without it is refused
    Xdp,
    /// XDP in the kernel's stack, which every interface offers
    XdpGeneric,
    /// TC ingress, which every interface offers and which keeps segmentation and checksum offloads
    Tc,
}

/// When packets are translated in bursts, at the XDP hook in the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bursts {
    /// While there are more sessions than the processor's cache holds.
    #[default]
    Auto,
    /// However few sessions there are.
    Always,
    /// Not at all.
    Never,
}

/// What becomes of fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fragments {
    /// They are translated.
    #[default]
    Translate,
    /// Those of UDP are translated, those of TCP and ICMP refused, as AWS does.
    Aws,
}

/// A private network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Unique among VPCs.
    pub name: String,
    /// Its address blocks; they overlap nothing.
    pub cidr: Vec<Ipv4Net>,
}

impl Vpc {
    /// Whether all of `network` lies in one of the VPC's blocks.
    #[must_use]
    pub fn contains(&self, network: &Ipv4Net) -> bool {
        self.cidr.iter().any(|block| block.contains(network))
    }
}

/// Where private hosts live, or where a NAT gateway does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Unique among subnets.
    pub name: String,
    /// The VPC it belongs to.
    pub vpc: String,
    /// Its addresses; inside the VPC's if the subnet is private.
    pub cidr: Ipv4Net,
    /// The host's interface toward it; facing the outside if the subnet is public.
    pub interface: String,
    /// Its route table. A subnet with one is private, without one public.
    pub route_table: Option<String>,
    /// Its NACL.
    pub nacl: String,
}

impl Subnet {
    /// Whether private hosts live here; NAT gateways live in the others.
    #[must_use]
    pub const fn is_private(&self) -> bool {
        self.route_table.is_some()
    }
}

/// Where the packets of private subnets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Unique among route tables.
    pub name: String,
    /// The longest prefix that contains the destination decides. Sorted by destination.
    pub routes: Vec<Route>,
}

/// One line of a route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destinations it is for.
    pub destination: Ipv4Net,
    /// Where they lead.
    pub target: Target,
}

/// Where a route leads. Written as a NAT gateway's name, `local` or `blackhole`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Target {
    /// Translated by the NAT gateway of this name.
    NatGateway(String),
    /// Untranslated to another subnet of the VPC.
    Local,
    /// Dropped.
    Blackhole,
}

/// The NACL of subnets that name none; it allows everything unless the configuration defines it.
pub const DEFAULT_NACL: &str = "default";

/// A network ACL: stateless, numbered rules. The lowest number that matches decides, nothing matching denies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nacl {
    /// Unique among NACLs.
    pub name: String,
    /// Asked about packets that enter the subnet, sorted by number.
    pub inbound: Vec<Rule>,
    /// Asked about packets that leave the subnet, sorted by number.
    pub outbound: Vec<Rule>,
}

/// One rule of a NACL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// 1 to 32766, unique in its list.
    pub number: u16,
    /// What happens to packets that match.
    pub action: Action,
    /// The IP protocol that matches.
    pub protocol: Protocol,
    /// Source of inbound or destination of outbound packets.
    pub cidr: Ipv4Net,
    /// First and last destination port that match; all if absent.
    pub ports: Option<(u16, u16)>,
    /// The ICMP messages that match; all if absent.
    pub icmp: Option<IcmpMatch>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Packets pass.
    Allow,
    /// Packets are dropped.
    Deny,
}

/// The protocols a rule is about. Written as `all`, `tcp`, `udp`, `icmp` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Protocol {
    /// Every protocol.
    All,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Another one, by its IANA number.
    Number(u8),
}

/// The ICMP messages a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpMatch {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code; all if absent.
    pub code: Option<u8>,
}
