//! The configuration file of the gateway in the lab.

use std::fmt::Write;
use std::net::Ipv4Addr;

use crate::lab::{Arms, ELASTIC_IP, Hook, Plan, Uplink};

/// What scenarios vary in the configuration; [`Settings::to_toml`] gives the file.
#[derive(Clone, Debug)]
pub struct Settings {
    internal: &'static str,
    external: &'static str,
    mode: &'static str,
    bursts: Option<&'static str>,
    routed: bool,
    /// Idle timeouts in seconds, by the names of the configuration.
    pub timeouts: Vec<(&'static str, u64)>,
    /// The NAT gateway's Elastic IPs.
    pub elastic_ips: Vec<Ipv4Addr>,
    /// Further fields of `[gateway]`.
    pub gateway: String,
    /// How long Elastic IPs drain, if not the default.
    pub drain: Option<&'static str>,
    /// Ports of the Elastic IPs, if not all.
    pub ports: Option<(u16, u16)>,
    /// Further routes of the private subnet: destination and target.
    pub routes: Vec<(&'static str, &'static str)>,
    /// Outbound rules of the private subnet's NACL that stand before its allow-all.
    pub outbound_rules: Vec<&'static str>,
    /// Further fields of the NAT gateway, a line each.
    pub gateway_fields: String,
    /// Text put at the end of the file.
    pub appendix: String,
}

impl Settings {
    /// The settings that fit a lab of this plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            internal: plan.internal(),
            external: plan.external(),
            mode: plan.hook.mode(),
            bursts: (plan.hook == Hook::Bursts).then_some("always"),
            routed: plan.uplink == Uplink::Routed,
            timeouts: Vec::new(),
            elastic_ips: vec![ELASTIC_IP],
            gateway: String::new(),
            drain: None,
            ports: None,
            routes: Vec::new(),
            outbound_rules: Vec::new(),
            gateway_fields: String::new(),
            appendix: String::new(),
        }
    }

    /// Says when packets are translated in bursts.
    #[must_use]
    pub fn bursts(mut self, when: &'static str) -> Self {
        self.bursts = Some(when);
        self
    }

    /// Whether packets must be translated in bursts from the start on.
    #[must_use]
    pub fn has_bursts(&self, plan: &Plan) -> bool {
        self.bursts == Some("always") && plan.arms == Arms::Two
    }

    /// Sets an idle timeout, in seconds.
    #[must_use]
    pub fn timeout(mut self, name: &'static str, seconds: u64) -> Self {
        self.timeouts.push((name, seconds));
        self
    }

    /// Gives the NAT gateway these Elastic IPs.
    #[must_use]
    pub fn elastic_ips(mut self, addresses: &[Ipv4Addr]) -> Self {
        self.elastic_ips = addresses.to_vec();
        self
    }

    /// Adds a line to `[gateway]`.
    #[must_use]
    pub fn gateway(mut self, line: &str) -> Self {
        self.gateway.push_str(line);
        self.gateway.push('\n');
        self
    }

    /// Has Elastic IPs drain for this long.
    #[must_use]
    pub fn drain(mut self, time: &'static str) -> Self {
        self.drain = Some(time);
        self
    }

    /// Lends only these ports of the Elastic IPs.
    #[must_use]
    pub fn ports(mut self, first: u16, last: u16) -> Self {
        self.ports = Some((first, last));
        self
    }

    /// Adds a route to the private subnet's route table.
    #[must_use]
    pub fn route(mut self, destination: &'static str, target: &'static str) -> Self {
        self.routes.push((destination, target));
        self
    }

    /// Adds an outbound rule to the private subnet's NACL, as an inline table of the configuration.
    #[must_use]
    pub fn outbound_rule(mut self, rule: &'static str) -> Self {
        self.outbound_rules.push(rule);
        self
    }

    /// Gives the NAT gateway a further field.
    #[must_use]
    pub fn gateway_option(mut self, field: &str) -> Self {
        self.gateway_fields.push_str(field);
        self.gateway_fields.push('\n');
        self
    }

    /// Appends text as it is.
    #[must_use]
    pub fn append(mut self, text: &str) -> Self {
        self.appendix.push_str(text);
        self
    }

    /// The configuration file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let drain = self.drain.map_or_else(String::new, |time| format!("drain = \"{time}\"\n"));
        let bursts = self.bursts.map_or_else(String::new, |when| format!("bursts = \"{when}\"\n"));
        let gateway = format!("[gateway]\nmode = \"{}\"\n{drain}{bursts}{}\n", self.mode, self.gateway);
        [
            gateway,
            self.timeouts(),
            self.network(),
            self.elastic_ip_list(),
            self.policy(),
            self.appendix.clone(),
        ]
        .concat()
    }

    /// The same gateway by flags alone, as far as flags can say it.
    #[must_use]
    pub fn to_flags(&self) -> Vec<String> {
        let arp = if self.routed { "routed" } else { "announce" };
        let elastic_ip = ELASTIC_IP.to_string();
        let flags = [
            ("--internal", self.internal),
            ("--external", self.external),
            ("--elastic-ip", &elastic_ip),
            ("--private-cidr", "10.0.0.0/16"),
            ("--arp", arp),
            ("--mode", self.mode),
        ];
        flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
    }

    fn timeouts(&self) -> String {
        let lines: String =
            self.timeouts.iter().map(|(name, seconds)| format!("{name} = {seconds}\n")).collect();
        if lines.is_empty() { lines } else { format!("[timeouts]\n{lines}") }
    }

    fn network(&self) -> String {
        let (internal, external) = (self.internal, self.external);
        let quoted: Vec<_> = self.elastic_ips.iter().map(|address| format!("\"{address}\"")).collect();
        let elastic_ips = quoted.join(", ");
        format!(
            r#"
[[vpc]]
name = "main"
cidr = ["10.0.0.0/16"]

[[subnet]]
name = "private-a"
vpc = "main"
cidr = "10.0.1.0/24"
interface = "{internal}"
route_table = "private"
nacl = "private"

[[subnet]]
name = "public-a"
vpc = "main"
cidr = "198.51.100.0/24"
interface = "{external}"

[[nat_gateway]]
name = "nat-a"
subnet = "public-a"
elastic_ips = [{elastic_ips}]
{}
"#,
            self.gateway_fields
        )
    }

    fn policy(&self) -> String {
        let routes: String =
            self.routes.iter().map(|route| format!("  {},\n", inline_route(*route))).collect();
        let rules: String = self.outbound_rules.iter().map(|rule| format!("  {rule},\n")).collect();
        format!(
            r#"
[[route_table]]
name = "private"
routes = [
{routes}  {{ destination = "0.0.0.0/0", target = "nat-a" }},
]

[[nacl]]
name = "private"
inbound = [
  {{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }},
]
outbound = [
{rules}  {{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }},
]
"#
        )
    }

    fn elastic_ip_list(&self) -> String {
        self.elastic_ips.iter().map(|address| self.elastic_ip(*address)).collect()
    }

    fn elastic_ip(&self, address: Ipv4Addr) -> String {
        let mut text = format!("[[elastic_ip]]\naddress = \"{address}\"\n");
        if self.routed {
            text.push_str("arp = \"routed\"\n");
        }
        if let Some((first, last)) = self.ports {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "ports = \"{first}-{last}\"");
        }
        text
    }
}

fn inline_route((destination, target): (&str, &str)) -> String {
    format!("{{ destination = \"{destination}\", target = \"{target}\" }}")
}
