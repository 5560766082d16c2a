use std::path::Path;

use crate::config::{Config, DEFAULT_NACL, SAMPLE, Target};

/// A small valid configuration; tests change it by replacing parts of its text.
const VALID: &str = r#"[[vpc]]
name = "main"
cidr = ["10.0.0.0/16", "10.2.0.0/16"]
[[subnet]]
name = "private-a"
vpc = "main"
cidr = "10.0.1.0/24"
interface = "eth1"
route_table = "private"
[[subnet]]
name = "public-a"
vpc = "main"
cidr = "198.51.100.0/24"
interface = "eth0"
[[elastic_ip]]
address = "203.0.113.10"
[[elastic_ip]]
address = "203.0.113.11"
[[nat_gateway]]
name = "nat-a"
subnet = "public-a"
elastic_ips = ["203.0.113.10"]
[[nat_gateway]]
name = "nat-b"
subnet = "public-a"
elastic_ips = ["203.0.113.11"]
[[route_table]]
name = "private"
routes = [{ destination = "0.0.0.0/0", target = "nat-a" }]
"#;

/// A second VPC, to be appended to [`VALID`].
const OTHER_VPC: &str = r#"[[vpc]]
name = "other"
cidr = ["10.1.0.0/16"]
[[subnet]]
name = "private-o"
vpc = "other"
cidr = "10.1.1.0/24"
interface = "eth2"
route_table = "other"
[[route_table]]
name = "other"
routes = [{ destination = "192.0.2.0/24", target = "blackhole" }]
"#;

fn read(text: &str) -> Config {
    Config::from_toml(text, Path::new("gw.toml")).unwrap()
}

/// The one problem of [`VALID`] with `from` replaced by `to`.
fn refusal(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    refusal_of(&VALID.replacen(from, to, 1))
}

fn refusal_of(text: &str) -> String {
    let error = Config::from_toml(text, Path::new("gw.toml")).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

#[test]
fn names_are_unique_within_their_kind_only() {
    let again = "[[nacl]]\nname = \"private\"\n";
    read(&format!("{VALID}{again}"));
    assert_eq!(
        refusal_of(&format!("{VALID}{again}{again}")),
        "gw.toml:33: nacl private: name is used twice; give each nacl its own"
    );
    assert_eq!(
        refusal_of(&format!("{VALID}[[route_table]]\nname = \"private\"\n")),
        "gw.toml:31: route table private: name is used twice; give each route table its own"
    );
    let message = refusal("\"nat-b\"", "\"nat-a\"");
    assert_eq!(message, "gw.toml:24: nat gateway nat-a: name is used twice; give each nat gateway its own");
}

#[test]
fn a_reference_to_nothing_is_refused_with_what_there_is() {
    for (from, to, expected) in [
        (
            "vpc = \"main\"",
            "vpc = \"mian\"",
            "6: subnet private-a: vpc mian is not defined; define it or write one of: main",
        ),
        (
            "route_table = \"private\"",
            "route_table = \"p\"",
            "9: subnet private-a: route table p is not defined; define it or write one of: private",
        ),
        (
            "interface = \"eth0\"",
            "nacl = \"n\"\ninterface = \"eth0\"",
            "14: subnet public-a: nacl n is not defined; define it or write one of: default",
        ),
        (
            "subnet = \"public-a\"",
            "subnet = \"public-b\"",
            "21: nat gateway nat-a: subnet public-b is not defined; define it or write one of: public-a",
        ),
        (
            "[\"203.0.113.10\"]",
            "[\"203.0.113.12\"]",
            "22: nat gateway nat-a: elastic ip 203.0.113.12 is not defined; define it or write one of: \
             203.0.113.10, 203.0.113.11",
        ),
        (
            "target = \"nat-a\"",
            "target = \"nat-c\"",
            "29: route table private, route 0.0.0.0/0: target nat-c is not defined; define the nat gateway or write one \
             of: nat-a, nat-b, local, blackhole",
        ),
    ] {
        assert_eq!(refusal(from, to), format!("gw.toml:{expected}"));
    }
}

#[test]
fn vpcs_that_overlap_are_refused() {
    assert_eq!(
        refusal_of(&format!("{VALID}[[vpc]]\nname = \"b\"\ncidr = [\"10.0.128.0/17\"]\n")),
        "gw.toml:32: vpc b: cidr 10.0.128.0/17 overlaps vpc main's 10.0.0.0/16; give each block addresses of its own"
    );
    assert_eq!(
        refusal("\"10.2.0.0/16\"", "\"10.0.0.0/8\""),
        "gw.toml:3: vpc main: cidr 10.0.0.0/8 overlaps its own 10.0.0.0/16; give each block addresses of its own"
    );
}

#[test]
fn every_block_inside_a_wider_one_is_found_wherever_it_stands() {
    let text = "[[vpc]]\nname = \"a\"\ncidr = [\"10.9.0.0/16\",\n\"10.0.0.0/8\",\n\"10.1.0.0/16\",\n\"11.0.0.0/8\"]\n";
    let error = Config::from_toml(text, Path::new("gw.toml")).unwrap_err();
    let lines: Vec<_> = error.problems().iter().map(|problem| problem.place.to_string()).collect();
    assert_eq!(lines, ["gw.toml:4", "gw.toml:5"]);
}

#[test]
fn a_private_subnet_lies_inside_its_vpc_and_a_public_one_need_not() {
    assert_eq!(
        refusal("10.0.1.0/24", "10.3.1.0/24"),
        "gw.toml:7: subnet private-a: cidr 10.3.1.0/24 lies outside vpc main; write a part of 10.0.0.0/16, 10.2.0.0/16, \
         or add the block to the vpc"
    );
    read(&VALID.replace("198.51.100.0/24", "10.0.2.0/24"));
}

#[test]
fn subnets_that_overlap_are_refused() {
    assert_eq!(
        refusal("198.51.100.0/24", "10.0.1.128/25"),
        "gw.toml:13: subnet public-a: cidr 10.0.1.128/25 overlaps subnet private-a's 10.0.1.0/24; give each block \
         addresses of its own"
    );
}

#[test]
fn an_interface_leads_to_one_vpc() {
    read(&format!("{VALID}{OTHER_VPC}"));
    assert_eq!(
        refusal_of(&format!("{VALID}{}", OTHER_VPC.replace("eth2", "eth1"))),
        "gw.toml:37: subnet private-o: interface eth1 already leads to private-a of vpc main; give each vpc an interface \
         of its own, a VLAN for example"
    );
}

#[test]
fn one_interface_may_be_both_internal_and_external() {
    read(&VALID.replace("eth1", "eth0"));
}

#[test]
fn elastic_ips_are_configured_once() {
    assert_eq!(
        refusal_of(&format!("{VALID}[[elastic_ip]]\naddress = \"203.0.113.10\"\n")),
        "gw.toml:31: elastic ip 203.0.113.10: is defined twice; keep one of the two"
    );
    assert_eq!(
        refusal("[\"203.0.113.11\"]", "[\"203.0.113.10\"]"),
        "gw.toml:26: nat gateway nat-b: elastic ip 203.0.113.10 already belongs to nat gateway nat-a; give each nat \
         gateway its own"
    );
    assert_eq!(
        refusal("[\"203.0.113.10\"]", "[\"203.0.113.10\", \"203.0.113.10\"]"),
        "gw.toml:22: nat gateway nat-a: elastic ip 203.0.113.10 is used twice; name it once"
    );
}

#[test]
fn an_elastic_ip_among_private_addresses_is_refused() {
    for (address, place) in [("10.0.1.9", "private subnet private-a"), ("10.2.0.9", "vpc main")] {
        let text = VALID.replace("203.0.113.10", address);
        assert_eq!(
            refusal_of(&text),
            format!(
                "gw.toml:16: elastic ip {address}: lies inside {place}, whose addresses are translated; write an \
                 address that the outside can reach"
            )
        );
    }
}

#[test]
fn an_elastic_ip_may_be_the_hosts_own_address_in_the_public_subnet_of_a_vpc() {
    read(&VALID.replace("198.51.100.0/24", "10.0.2.0/24").replace("203.0.113.10", "10.0.2.9"));
}

#[test]
fn a_nat_gateway_in_a_private_subnet_is_refused() {
    let message = refusal("subnet = \"public-a\"", "subnet = \"private-a\"");
    assert!(
        message.starts_with(
            "gw.toml:21: nat gateway nat-a: subnet private-a is private, since it has a route table; "
        ),
        "{message}"
    );
}

#[test]
fn a_route_to_another_vpcs_nat_gateway_is_refused() {
    let other = OTHER_VPC.replace("\"blackhole\"", "\"nat-a\"");
    assert_eq!(
        refusal_of(&format!("{VALID}{other}")),
        "gw.toml:41: route table other, route 192.0.2.0/24: nat gateway nat-a lives in vpc main, the table's subnets in \
         vpc other; write a nat gateway of vpc other"
    );
}

#[test]
fn a_route_table_of_two_vpcs_is_refused() {
    let other = OTHER_VPC.replace("route_table = \"other\"", "route_table = \"private\"");
    assert_eq!(
        refusal_of(&format!("{VALID}{other}")),
        "gw.toml:38: subnet private-o: route table private already serves vpc main; give each vpc a route table of its own"
    );
}

#[test]
fn a_local_route_beyond_the_vpc_is_refused() {
    assert_eq!(
        refusal("target = \"nat-a\"", "target = \"local\""),
        "gw.toml:29: route table private, route 0.0.0.0/0: destination lies outside vpc main, so it cannot be local; \
         write a part of the vpc's cidr, or another target"
    );
}

fn routes(config: &Config, table: &str) -> Vec<(String, Target)> {
    let routes = &config.route_table(table).unwrap().routes;
    routes.iter().map(|route| (route.destination.to_string(), route.target.clone())).collect()
}

#[test]
fn a_route_table_gets_a_local_route_for_every_block_of_its_vpc() {
    let config = read(&format!("{VALID}{OTHER_VPC}"));
    let nat = Target::NatGateway("nat-a".to_owned());
    let expected = [("0.0.0.0/0", nat), ("10.0.0.0/16", Target::Local), ("10.2.0.0/16", Target::Local)];
    assert_eq!(
        routes(&config, "private"),
        expected.map(|(destination, target)| (destination.to_owned(), target))
    );
    let expected = [("10.1.0.0/16", Target::Local), ("192.0.2.0/24", Target::Blackhole)];
    assert_eq!(
        routes(&config, "other"),
        expected.map(|(destination, target)| (destination.to_owned(), target))
    );
}

#[test]
fn an_explicit_route_replaces_the_local_one() {
    let explicit = "routes = [{ destination = \"10.0.0.0/16\", target = \"blackhole\" }, ";
    let config = read(&VALID.replace("routes = [", explicit));
    let blackholes = routes(&config, "private").iter().filter(|route| route.1 == Target::Blackhole).count();
    assert_eq!(blackholes, 1);
    assert_eq!(routes(&config, "private").len(), 3);
}

#[test]
fn the_default_nacl_allows_everything_unless_it_is_defined() {
    let config = read(VALID);
    let default = config.nacl(DEFAULT_NACL).unwrap();
    assert_eq!(config.subnet("public-a").unwrap().nacl, DEFAULT_NACL);
    assert_eq!((default.inbound.len(), default.outbound.len()), (1, 1));
    assert_eq!(default.inbound[0].number, 100);

    let config = read(&format!("{VALID}[[nacl]]\nname = \"default\"\n"));
    assert_eq!(config.nacls.len(), 1);
    assert!(config.nacl(DEFAULT_NACL).unwrap().inbound.is_empty());
}

#[test]
fn a_configuration_survives_the_way_through_json() {
    let config = read(SAMPLE);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
}
