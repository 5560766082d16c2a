//! The namespace and the configuration under measurement.

use std::{fmt::Write, net::Ipv4Addr, path::Path};

use anyhow::{Context, Result, bail};
use nat_common::{flow::FlowKey4, flow::raw, protocol};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder, packet_route::neighbour::NeighbourState};

use crate::{
    config::Config,
    datapath::{Datapath, LoadOptions, Programs},
    host::{Host, HostFacts, enable_fib_lookup},
    plan::{self, Plan},
};

const INTERNAL: &str = "natgw-int0";
const EXTERNAL: &str = "natgw-ext0";
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// Private hosts that sessions are spread over.
const HOSTS: u32 = 100;
/// Sessions toward one remote: well below the ports of one Elastic IP.
const PER_REMOTE: u32 = 40_000;
/// Rules of each NACL in force; the last of them matches.
const RULES: u16 = 100;

/// A data plane, ready to be measured. It ends with the thread that made it.
pub struct Rig {
    /// The data plane.
    pub datapath: Datapath,
    /// Index of the internal interface.
    pub internal: u32,
    /// Index of the external interface.
    pub external: u32,
}

impl Rig {
    /// Moves this thread into a new network namespace and sets up a gateway there for up to `sessions` sessions.
    pub async fn new(sessions: u32) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; run with sudo")?;
        let host = Host::open()?;
        let (internal, external) = interfaces(&host).await?;
        enable_fib_lookup()?;
        let config = Config::from_toml(&configuration(), Path::new("the benchmark's configuration"))?;
        let facts = host.facts().await?;
        let plan = Plan::new(&config, &facts)?;
        let options = LoadOptions {
            max_sessions: sessions.max(1_024) * 2,
            max_fragmented_datagrams: 16_384,
            programs: Programs::Xdp,
            bursts: false,
            log_level: 0,
            resets_at_expiry: false,
        };
        let mut datapath = Datapath::private(&options)?;
        datapath.maps.set_locals(&plan::locals(&facts))?;
        datapath.maps.apply(&plan)?;
        Ok(Self { datapath, internal, external })
    }
}

/// Outbound packet number `number`: sessions of many hosts, few remotes.
pub fn outbound(number: u32) -> FlowKey4 {
    let port = 1_024 + number / HOSTS % 64_000;
    FlowKey4 {
        source: raw(internal_host(number % HOSTS)),
        destination: raw(Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 1)) + number / PER_REMOTE)),
        source_port: (port as u16).to_be(),
        destination_port: 443_u16.to_be(),
        protocol: protocol::UDP,
        zone: 1,
        spare: [0; 2],
    }
}

fn internal_host(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 10 + number as u8)
}

/// Two interfaces with addresses, a default route, and every neighbour known.
async fn interfaces(host: &Host) -> Result<(u32, u32)> {
    let handle = host.handle();
    for name in [INTERNAL, EXTERNAL] {
        handle.link().add(LinkVeth::new(name, &format!("{name}p")).build()).execute().await?;
    }
    let facts = host.facts().await?;
    let (internal, external) = (index(&facts, INTERNAL)?, index(&facts, EXTERNAL)?);
    for name in [INTERNAL, EXTERNAL] {
        for name in [name.to_owned(), format!("{name}p")] {
            let index = index(&facts, &name)?;
            handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
        }
    }
    handle.address().add(internal, Ipv4Addr::new(10, 0, 1, 1).into(), 24).execute().await?;
    handle.address().add(external, Ipv4Addr::new(198, 51, 100, 1).into(), 24).execute().await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(NEXT_HOP).build();
    handle.route().add(route).execute().await?;
    let neighbours = (0..HOSTS).map(|host| (internal, internal_host(host))).chain([(external, NEXT_HOP)]);
    for (ifindex, address) in neighbours {
        let add = handle.neighbours().add(ifindex, address.into());
        add.state(NeighbourState::Permanent).link_layer_address(&[2, 0, 0, 0, 0, 1]).execute().await?;
    }
    Ok((internal, external))
}

fn index(facts: &HostFacts, name: &str) -> Result<u32> {
    match facts.interface(name) {
        Some(interface) => Ok(interface.index),
        None => bail!("the interface {name} has gone"),
    }
}

/// One private subnet and one NAT gateway, whose NACLs are asked to their last rule.
fn configuration() -> String {
    let mut rules = String::new();
    for number in 1..RULES {
        // Writing to a string cannot fail.
        let _ = write!(
            rules,
            r#"{{ rule = {number}, action = "deny", protocol = "all", cidr = "100.64.{number}.0/24" }}, "#
        );
    }
    let _ = write!(rules, r#"{{ rule = {RULES}, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }}"#);
    format!(
        r#"
[[vpc]]
name = "bench"
cidr = ["10.0.0.0/16"]
[[subnet]]
name = "private"
vpc = "bench"
cidr = "10.0.1.0/24"
interface = "{INTERNAL}"
route_table = "private"
nacl = "rules"
[[subnet]]
name = "public"
vpc = "bench"
cidr = "198.51.100.0/24"
interface = "{EXTERNAL}"
nacl = "rules"
[[elastic_ip]]
address = "203.0.113.10"
[[nat_gateway]]
name = "nat"
subnet = "public"
elastic_ips = ["203.0.113.10"]
[[route_table]]
name = "private"
routes = [{{ destination = "0.0.0.0/0", target = "nat" }}]
[[nacl]]
name = "rules"
inbound = [{rules}]
outbound = [{rules}]
"#
    )
}
