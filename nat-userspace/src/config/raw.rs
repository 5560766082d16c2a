//! The first sieve: the shape of the TOML file. Known fields of the right type, each with the place it stands at.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

use super::error::Problem;
use super::scalar::{List, Scalar};
use super::source::{Report, Source, Span};
use super::{Action, Arp, Bursts, Filtering, Fragments, IdleReset, Mapping, Mode, Profile, Strategy};

/// A configuration file as it is written.
#[derive(Default)]
pub(super) struct Document {
    pub(super) gateway: Gateway,
    pub(super) timeouts: Timeouts,
    pub(super) vpcs: Vec<Spanned<Vpc>>,
    pub(super) subnets: Vec<Spanned<Subnet>>,
    pub(super) elastic_ips: Vec<Spanned<ElasticIp>>,
    pub(super) nat_gateways: Vec<Spanned<NatGateway>>,
    pub(super) route_tables: Vec<Spanned<RouteTable>>,
    pub(super) nacls: Vec<Spanned<Nacl>>,
}

/// `[gateway]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) mode: Option<Mode>,
    pub(super) max_sessions: Option<Spanned<i64>>,
    pub(super) icmp_errors_per_second: Option<Spanned<i64>>,
    pub(super) same_queue: Option<bool>,
    pub(super) bursts: Option<Bursts>,
    pub(super) drain: Option<Spanned<Scalar>>,
    pub(super) idle_reset: Option<IdleReset>,
    pub(super) fragments: Option<Fragments>,
    pub(super) max_fragmented_datagrams: Option<Spanned<i64>>,
}

/// `[timeouts]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) profile: Option<Profile>,
    pub(super) tcp_established: Option<Spanned<Scalar>>,
    pub(super) tcp_transitory: Option<Spanned<Scalar>>,
    pub(super) tcp_closing: Option<Spanned<Scalar>>,
    pub(super) udp: Option<Spanned<Scalar>>,
    pub(super) icmp: Option<Spanned<Scalar>>,
    pub(super) inbound_refresh: Option<bool>,
    pub(super) fragments: Option<Spanned<Scalar>>,
}

/// `[[vpc]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vpc {
    pub(super) name: Spanned<String>,
    pub(super) cidr: Spanned<Vec<Spanned<String>>>,
}

/// `[[subnet]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subnet {
    pub(super) name: Spanned<String>,
    pub(super) vpc: Spanned<String>,
    pub(super) cidr: Spanned<String>,
    pub(super) interface: Spanned<String>,
    pub(super) route_table: Option<Spanned<String>>,
    pub(super) nacl: Option<Spanned<String>>,
}

/// `[[elastic_ip]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ElasticIp {
    pub(super) address: Spanned<String>,
    pub(super) arp: Option<Arp>,
    pub(super) ports: Option<Spanned<List>>,
    pub(super) reserved_ports: Option<Spanned<List>>,
}

/// `[[nat_gateway]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NatGateway {
    pub(super) name: Spanned<String>,
    pub(super) subnet: Spanned<String>,
    pub(super) elastic_ips: Spanned<Vec<Spanned<String>>>,
    pub(super) nacl_both_sides: Option<bool>,
    pub(super) strategy: Option<Strategy>,
    pub(super) mapping: Option<Mapping>,
    pub(super) filtering: Option<Spanned<Filtering>>,
    pub(super) overload: Option<Spanned<bool>>,
    pub(super) port_parity: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) sources: Vec<Spanned<OwnElasticIps>>,
    #[serde(default)]
    pub(super) port_less: Vec<Spanned<String>>,
    pub(super) mss_clamp: Option<Spanned<Scalar>>,
    pub(super) max_sessions_per_host: Option<Spanned<i64>>,
    pub(super) max_ports_per_destination: Option<Spanned<i64>>,
    pub(super) new_sessions_per_second_per_host: Option<Spanned<i64>>,
    pub(super) block_size: Option<Spanned<i64>>,
    pub(super) max_blocks: Option<Spanned<i64>>,
    pub(super) deterministic: Option<Spanned<bool>>,
}

/// One of a NAT gateway's `sources`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnElasticIps {
    pub(super) cidr: Spanned<String>,
    pub(super) elastic_ips: Spanned<Vec<Spanned<String>>>,
}

/// `[[route_table]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteTable {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<Route>>,
}

/// One of a route table's `routes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) destination: Spanned<String>,
    pub(super) target: Spanned<String>,
}

/// `[[nacl]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nacl {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) inbound: Vec<Spanned<Rule>>,
    #[serde(default)]
    pub(super) outbound: Vec<Spanned<Rule>>,
}

/// One of a NACL's `inbound` or `outbound`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) rule: Spanned<i64>,
    pub(super) action: Action,
    pub(super) protocol: Spanned<Scalar>,
    pub(super) cidr: Spanned<String>,
    pub(super) ports: Option<Spanned<Scalar>>,
    pub(super) icmp_type: Option<Spanned<i64>>,
    pub(super) icmp_code: Option<Spanned<i64>>,
}

/// Reads `text`; `source` must be made from it. Reports one problem per object, or the first error of syntax.
pub(super) fn read(text: &str, source: &Source<'_>) -> Result<Document, Vec<Problem>> {
    let mut reader = Reader { report: Report::new(source) };
    let mut document = Document::default();
    match DeTable::parse(text) {
        Ok(root) => {
            for (key, value) in root.into_inner() {
                reader.entry(&mut document, &key, value);
            }
        }
        Err(error) => reader.complain("toml", &error, 0..0),
    }
    reader.report.finish(document)
}

struct Reader<'a> {
    report: Report<'a>,
}

impl Reader<'_> {
    fn entry(&mut self, document: &mut Document, key: &Spanned<DeString<'_>>, value: Spanned<DeValue<'_>>) {
        let kind: &str = key.get_ref();
        match kind {
            "gateway" => document.gateway = self.table(kind, value),
            "timeouts" => document.timeouts = self.table(kind, value),
            "vpc" => document.vpcs = self.list(kind, value),
            "subnet" => document.subnets = self.list(kind, value),
            "elastic_ip" => document.elastic_ips = self.list(kind, value),
            "nat_gateway" => document.nat_gateways = self.list(kind, value),
            "route_table" => document.route_tables = self.list(kind, value),
            "nacl" => document.nacls = self.list(kind, value),
            _ => self.report.add(
                key.span(),
                "configuration",
                format_args!("unknown field `{kind}`"),
                "the known ones are [gateway], [timeouts], [[vpc]], [[subnet]], [[elastic_ip]], [[nat_gateway]], \
                 [[route_table]] and [[nacl]]",
            ),
        }
    }

    fn table<T: DeserializeOwned + Default>(&mut self, kind: &str, value: Spanned<DeValue<'_>>) -> T {
        if !value.get_ref().is_table() {
            self.report.add(value.span(), kind, "is not a table", format_args!("write [{kind}]"));
            return T::default();
        }
        self.object(kind.to_owned(), value).unwrap_or_default()
    }

    fn list<T: DeserializeOwned>(&mut self, kind: &str, value: Spanned<DeValue<'_>>) -> Vec<Spanned<T>> {
        let (span, kind) = (value.span(), kind.replace('_', " "));
        let DeValue::Array(items) = value.into_inner() else {
            let header = format!("[[{}]]", kind.replace(' ', "_"));
            self.report.add(span, kind, "is not a list of tables", format_args!("write {header} above each"));
            return Vec::new();
        };
        let objects = items.into_iter().enumerate().filter_map(|(index, item)| {
            let span = item.span();
            let name = object_name(&kind, index, item.get_ref());
            self.object(name, item).map(|object| Spanned::new(span, object))
        });
        objects.collect()
    }

    fn object<T: DeserializeOwned>(&mut self, name: String, value: Spanned<DeValue<'_>>) -> Option<T> {
        let span = value.span();
        T::deserialize(ValueDeserializer::from(value))
            .inspect_err(|error| self.complain(&name, error, span))
            .ok()
    }

    fn complain(&mut self, object: &str, error: &toml::de::Error, whole: Span) {
        let (message, remedy) = explain(error.message());
        self.report.add(error.span().unwrap_or(whole), object, message, remedy);
    }
}

/// `nacl public`, `elastic ip 203.0.113.10`, or `vpc 2` (the second) where the name is what is missing.
fn object_name(kind: &str, index: usize, object: &DeValue<'_>) -> String {
    let name = ["name", "address"]
        .iter()
        .find_map(|key| object.get(*key).and_then(|value| value.get_ref().as_str()));
    name.map_or_else(|| format!("{kind} {}", index + 1), |name| format!("{kind} {name}"))
}

/// Splits what serde and the parser say into what is wrong and what to write.
fn explain(error: &str) -> (String, String) {
    if let Some((unknown, known)) =
        error.split_once(", expected one of ").filter(|_| error.starts_with("unknown"))
    {
        return (unknown.to_owned(), format!("the known ones are {known}"));
    }
    if error.starts_with("missing field") {
        return (error.to_owned(), "add it (`natgw config sample` shows every field)".to_owned());
    }
    error.split_once(", expected ").map_or_else(
        || (error.to_owned(), "see `natgw config sample`".to_owned()),
        |(wrong, expected)| (wrong.to_owned(), format!("write {expected}")),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn refusal(text: &str) -> String {
        Config::from_toml(text, Path::new("gw.toml")).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line_and_the_known_ones() {
        assert_eq!(
            refusal("[[vpc]]\nname = \"main\"\ncidr = [\"10.0.0.0/16\"]\ncolour = \"red\"\n"),
            "gw.toml:4: vpc main: unknown field `colour`; write `name` or `cidr`"
        );
        let message = refusal("[gateway]\nmod = \"auto\"\n");
        assert!(
            message.starts_with("gw.toml:2: gateway: unknown field `mod`; the known ones are `mode`,"),
            "{message}"
        );
    }

    #[test]
    fn an_unknown_table_is_refused_with_the_known_ones() {
        let message = refusal("[[vpcs]]\nname = \"main\"\n");
        assert!(
            message
                .starts_with("gw.toml:1: configuration: unknown field `vpcs`; the known ones are [gateway]")
        );
    }

    #[test]
    fn an_unknown_field_of_a_rule_is_refused_at_its_line() {
        let message = refusal(
            "[[nacl]]\nname = \"n\"\ninbound = [\n  { rule = 1, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\" },\n  \
             { rule = 2, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\", port = 1 },\n]\n",
        );
        assert!(
            message.starts_with("gw.toml:5: nacl n: unknown field `port`; the known ones are `rule`"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(
            refusal("\n[[vpc]]\nname = \"main\"\n"),
            "gw.toml:2: vpc main: missing field `cidr`; add it (`natgw config sample` shows every field)"
        );
        assert!(refusal("[[vpc]]\ncidr = []\n").starts_with("gw.toml:1: vpc 1: missing field `name`"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_the_right_one() {
        assert_eq!(
            refusal("[[vpc]]\nname = 7\ncidr = []\n"),
            "gw.toml:2: vpc 1: invalid type: integer `7`; write a string"
        );
        let message = refusal("[[elastic_ip]]\naddress = \"203.0.113.10\"\narp = \"shout\"\n");
        assert_eq!(
            message,
            "gw.toml:3: elastic ip 203.0.113.10: unknown variant `shout`; write `announce` or `routed`"
        );
    }

    #[test]
    fn a_single_table_where_a_list_belongs_is_refused_with_the_header() {
        assert_eq!(
            refusal("[nat_gateway]\nname = \"a\"\n"),
            "gw.toml:1: nat gateway: is not a list of tables; write [[nat_gateway]] above each"
        );
        assert_eq!(refusal("gateway = 3\n"), "gw.toml:1: gateway: is not a table; write [gateway]");
    }

    #[test]
    fn broken_syntax_is_refused_at_its_line() {
        let message = refusal("[gateway]\nmode = \"auto\nmax_sessions = 4096\n");
        assert!(message.starts_with("gw.toml:2: toml: "), "{message}");
        assert_eq!(message.lines().count(), 1);
    }

    #[test]
    fn every_object_with_a_wrong_shape_is_reported_in_the_order_of_the_file() {
        let message = refusal("[[subnet]]\nname = \"s\"\n[[vpc]]\nname = \"v\"\n[timeouts]\ntcp = 1\n");
        let places: Vec<_> = message.lines().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["gw.toml:1", "gw.toml:3", "gw.toml:6"]);
    }
}
