//! The configuration that a rig runs, as the text of a file.

use std::path::Path;

use nat_userspace::{
    config::{Bursts, Config, IdleReset},
    datapath::{LoadOptions, Programs},
};

use super::hook::Hook;

/// A configuration by its parts, each of them TOML. The standard one allows everything, and its Elastic IP has a
/// single port, so that a test knows the translated packet before it is sent.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Fields of `[gateway]` and `[timeouts]`.
    pub limits: String,
    /// The networks of the VPC.
    pub networks: String,
    /// `[[subnet]]`: `private-a`, `private-b` and `private-c` with the route table `private`, and `public`.
    pub subnets: String,
    /// `[[elastic_ip]]`.
    pub elastic_ips: String,
    /// `[[nat_gateway]]`.
    pub nat_gateways: String,
    /// The routes of the route table `private`.
    pub routes: String,
    /// `[[nacl]]`.
    pub nacls: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            limits: String::new(),
            networks: "\"10.0.0.0/16\"".into(),
            subnets: subnets("default", "default"),
            elastic_ips: elastic_ip("203.0.113.10", "40000"),
            nat_gateways: nat_gateway("nat-a", "203.0.113.10"),
            routes: r#"{ destination = "0.0.0.0/0", target = "nat-a" }"#.into(),
            nacls: String::new(),
        }
    }
}

impl Layout {
    /// The standard layout with these ports of the Elastic IP.
    #[must_use]
    pub fn with_ports(ports: &str) -> Self {
        Self { elastic_ips: elastic_ip("203.0.113.10", ports), ..Self::default() }
    }

    /// The standard layout with the host's own external address as the Elastic IP.
    #[must_use]
    pub fn with_shared_address() -> Self {
        let address = super::EXTERNAL_ADDRESS.to_string();
        Self {
            elastic_ips: elastic_ip(&address, "40000"),
            nat_gateways: nat_gateway("nat-a", &address),
            ..Self::default()
        }
    }

    /// The standard layout with these limits.
    #[must_use]
    pub fn with_limits(limits: &str) -> Self {
        Self { limits: limits.into(), ..Self::default() }
    }

    /// The standard layout with these routes.
    #[must_use]
    pub fn with_routes(routes: &str) -> Self {
        Self { routes: routes.into(), ..Self::default() }
    }

    /// Two Elastic IPs of one NAT gateway, `203.0.113.10` and `203.0.113.11`, with these ports each.
    #[must_use]
    pub fn with_two_elastic_ips(ports: &str) -> Self {
        Self::with_elastic_ips(&["203.0.113.10", "203.0.113.11"], ports)
    }

    /// These Elastic IPs of one NAT gateway, with these ports each.
    #[must_use]
    pub fn with_elastic_ips(addresses: &[&str], ports: &str) -> Self {
        Self {
            elastic_ips: addresses.iter().map(|address| elastic_ip(address, ports)).collect(),
            nat_gateways: nat_gateway("nat-a", &addresses.join("\", \"")),
            ..Self::default()
        }
    }

    /// The same with these further fields of its last NAT gateway.
    #[must_use]
    pub fn gateway_option(mut self, fields: &str) -> Self {
        self.nat_gateways.push_str(fields);
        self.nat_gateways.push('\n');
        self
    }

    /// The private subnet `private-a` has these rules, as the items of a TOML array.
    #[must_use]
    pub fn with_private_nacl(inbound: &str, outbound: &str) -> Self {
        let nacls = nacl("private", inbound, outbound);
        Self { subnets: subnets("private", "default"), nacls, ..Self::default() }
    }

    /// The NAT gateway's subnet has these rules.
    #[must_use]
    pub fn with_public_nacl(inbound: &str, outbound: &str) -> Self {
        let nacls = nacl("public", inbound, outbound);
        Self { subnets: subnets("default", "public"), nacls, ..Self::default() }
    }

    /// Both sides on `nic0`.
    #[must_use]
    pub fn one_armed() -> Self {
        let subnets = subnet("private-a", "10.0.1.0/24", "nic0", Some("private"), "default")
            + &subnet("public", "198.51.100.0/24", "nic0", None, "default");
        Self { subnets, ..Self::default() }
    }

    /// The subnet `private-a` alone, with these limits.
    #[must_use]
    pub fn one_private_subnet(limits: &str) -> Self {
        let subnets = subnet("private-a", "10.0.1.0/24", "int0", Some("private"), "default")
            + &subnet("public", "198.51.100.0/24", "ext0", None, "default");
        Self { limits: limits.into(), subnets, ..Self::default() }
    }

    /// How the data plane is loaded. The default room for sessions would take longer to allocate than most tests run.
    pub(super) fn load_options(&self) -> LoadOptions {
        const DEFAULT: u32 = 262_144;
        let Config { max_sessions, max_fragmented_datagrams, idle_reset, bursts, .. } = self.config();
        let max_sessions = if max_sessions == DEFAULT { 16_384 } else { max_sessions };
        let resets_at_expiry = idle_reset == IdleReset::AtExpiry;
        LoadOptions {
            max_sessions,
            max_fragmented_datagrams,
            log_level: 0,
            programs: match Hook::of_this_thread() {
                Hook::Xdp => Programs::Xdp,
                Hook::Tc => Programs::Tc,
            },
            bursts: bursts == Bursts::Always,
            resets_at_expiry,
        }
    }

    /// The configuration.
    ///
    /// # Panics
    /// If it is not valid.
    #[must_use]
    pub fn config(&self) -> Config {
        let Self { limits, networks, subnets, elastic_ips, nat_gateways, routes, nacls } = self;
        let text = format!(
            "{limits}\n[[vpc]]\nname = \"main\"\ncidr = [{networks}]\n{subnets}{elastic_ips}{nat_gateways}\
             [[route_table]]\nname = \"private\"\nroutes = [{routes}]\n{nacls}"
        );
        Config::from_toml(&text, Path::new("rig.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

fn subnets(private: &str, public: &str) -> String {
    subnet("private-a", "10.0.1.0/24", "int0", Some("private"), private)
        + &subnet("private-b", "10.0.2.0/24", "int1", Some("private"), "default")
        + &subnet("private-c", "10.0.3.0/24", "int0.100", Some("private"), "default")
        + &subnet("public", "198.51.100.0/24", "ext0", None, public)
}

fn subnet(name: &str, cidr: &str, interface: &str, table: Option<&str>, nacl: &str) -> String {
    let table = table.map_or(String::new(), |table| format!("route_table = \"{table}\"\n"));
    format!(
        "[[subnet]]\nname = \"{name}\"\nvpc = \"main\"\ncidr = \"{cidr}\"\ninterface = \"{interface}\"\n\
         nacl = \"{nacl}\"\n{table}"
    )
}

fn elastic_ip(address: &str, ports: &str) -> String {
    format!("[[elastic_ip]]\naddress = \"{address}\"\nports = \"{ports}\"\n")
}

fn nat_gateway(name: &str, elastic_ips: &str) -> String {
    format!("[[nat_gateway]]\nname = \"{name}\"\nsubnet = \"public\"\nelastic_ips = [\"{elastic_ips}\"]\n")
}

fn nacl(name: &str, inbound: &str, outbound: &str) -> String {
    format!("[[nacl]]\nname = \"{name}\"\ninbound = [{inbound}]\noutbound = [{outbound}]\n")
}
