//! What a configuration means on a host.

use std::path::Path;

use super::*;
use crate::host::HostRss;

const CONFIGURATION: &str = r#"
[[vpc]]
name = "main"
cidr = ["10.0.0.0/16"]
[[subnet]]
name = "private-a"
vpc = "main"
cidr = "10.0.1.0/24"
interface = "eth1"
route_table = "private"
[[subnet]]
name = "private-b"
vpc = "main"
cidr = "10.0.2.0/24"
interface = "eth1.20"
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
arp = "routed"
ports = "2000-2999"
[[nat_gateway]]
name = "nat-a"
subnet = "public-a"
elastic_ips = ["203.0.113.10", "203.0.113.11"]
[[route_table]]
name = "private"
routes = [{ destination = "0.0.0.0/0", target = "nat-a" }, { destination = "192.0.2.0/24", target = "blackhole" }]
"#;

/// A configuration with two Elastic IPs of one NAT gateway; the second is routed.
pub(super) fn two_addresses() -> &'static str {
    CONFIGURATION
}

pub(super) fn config(text: &str) -> Config {
    Config::from_toml(text, Path::new("test.toml")).unwrap()
}

fn interface(index: u32, name: &str, addresses: &[&str]) -> HostInterface {
    HostInterface {
        index,
        name: name.into(),
        mtu: 1_500,
        up: true,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..HostInterface::default()
    }
}

pub(super) fn facts() -> HostFacts {
    let vlan = HostInterface { parent: Some(3), vlan: Some(20), ..interface(4, "eth1.20", &["10.0.2.1/24"]) };
    HostFacts {
        interfaces: vec![
            interface(2, "eth0", &["198.51.100.1/24"]),
            interface(3, "eth1", &["10.0.1.1/24"]),
            vlan,
        ],
        ..HostFacts::default()
    }
}

fn plan() -> Plan {
    Plan::new(&config(CONFIGURATION), &facts()).unwrap()
}

pub(super) fn address(text: &str) -> u32 {
    raw(text.parse().unwrap())
}

#[test]
fn interfaces_get_their_roles_and_the_addresses_of_their_side() {
    let plan = plan();
    let (external, internal) = (plan.interfaces[&2], plan.interfaces[&3]);
    assert!(external.is_external() && external.zone == 0);
    assert_eq!(external.external_address, address("198.51.100.1"));
    assert!(!internal.is_external() && internal.zone == 1);
    assert_eq!(internal.internal_address, address("10.0.1.1"));
}

#[test]
fn a_vlan_is_served_on_its_parent() {
    let plan = plan();
    assert_eq!(plan.vlans, BTreeMap::from([((3, 20), 4)]));
    assert_eq!((plan.interfaces[&4].device, plan.interfaces[&4].vlan), (3, 20));
    assert_eq!(plan.devices, BTreeSet::from([2, 3]));
}

#[test]
fn one_interface_for_both_sides_has_an_address_for_each() {
    let text = CONFIGURATION.replace("eth1.20", "eth0").replace("\"eth1\"", "\"eth0\"");
    let one = HostFacts {
        interfaces: vec![interface(2, "eth0", &["198.51.100.1/24", "10.0.2.1/24", "10.0.1.1/24"])],
        ..HostFacts::default()
    };
    let role = Plan::new(&config(&text), &one).unwrap().interfaces[&2];
    assert!(role.is_external() && role.zone == 1);
    assert_eq!(role.internal_address, address("10.0.2.1"));
    assert_eq!(role.external_address, address("198.51.100.1"));
}

#[test]
fn elastic_ips_become_port_ranges_of_their_gateway() {
    let plan = plan();
    assert_eq!((plan.gateways[0].first, plan.gateways[0].count, plan.gateways[0].ifindex), (0, 2, 2));
    assert_eq!(plan.lent[0], Lent { address: address("203.0.113.10"), first: 0, count: 1, ports: 64_512 });
    assert_eq!(plan.lent[1], Lent { address: address("203.0.113.11"), first: 1, count: 1, ports: 1_000 });
    assert_eq!(
        plan.pool,
        [PortRange { first: 1_024, last: 65_535 }, PortRange { first: 2_000, last: 2_999 }]
    );
    assert_eq!(plan.announced, [(2, "203.0.113.10".parse().unwrap())], "a routed one is not announced");
}

#[test]
fn an_elastic_ip_of_the_host_is_shared() {
    let facts = HostFacts { locals: vec!["203.0.113.11".parse().unwrap()], ..facts() };
    let plan = Plan::new(&config(CONFIGURATION), &facts).unwrap();
    assert_eq!(plan.elastic_ips[&address("203.0.113.10")], ElasticIp { gateway: 0, shared: 0 });
    assert_eq!(plan.elastic_ips[&address("203.0.113.11")], ElasticIp { gateway: 0, shared: 1 });
}

#[test]
fn routes_lead_to_their_targets() {
    let plan = plan();
    let target = |destination: &str| {
        plan.routes.iter().find(|route| route.destination == destination.parse().unwrap()).unwrap().target
    };
    assert_eq!(target("0.0.0.0/0"), Target { kind: Target::NAT_GATEWAY, gateway: 0 });
    assert_eq!(target("192.0.2.0/24").kind, Target::BLACKHOLE);
    assert_eq!(target("10.0.0.0/16").kind, Target::LOCAL, "a VPC's own block is local without saying");
}

#[test]
fn the_smallest_mtu_of_interfaces_and_routes_is_what_fits_everywhere() {
    let mut facts = facts();
    facts.interfaces[1].mtu = 9_000;
    assert!(
        Plan::new(&config(CONFIGURATION), &facts).unwrap().interfaces.values().all(|role| role.mtu == 1_500)
    );
    facts.smallest_route_mtu = Some(1_280);
    assert!(
        Plan::new(&config(CONFIGURATION), &facts).unwrap().interfaces.values().all(|role| role.mtu == 1_280)
    );
}

#[test]
fn the_same_configuration_on_the_same_host_is_the_same_plan() {
    assert_eq!(plan(), plan());
}

#[test]
fn a_missing_interface_is_refused_with_those_there_are() {
    let facts = HostFacts { interfaces: vec![interface(2, "eth0", &[])], ..HostFacts::default() };
    let error = Plan::new(&config(CONFIGURATION), &facts).unwrap_err();
    assert_eq!(error.interface(), Some("eth1"));
    assert!(error.to_string().contains("this host has eth0"), "{error}");
}

#[test]
fn an_interface_beyond_the_table_of_interfaces_is_refused() {
    let mut facts = facts();
    facts.interfaces[0].index = MAX_INTERFACES;
    let error = Plan::new(&config(CONFIGURATION), &facts).unwrap_err();
    assert_eq!(error, PlanError::IndexTooLarge { name: "eth0".into(), index: MAX_INTERFACES });
}

#[test]
fn the_hosts_own_addresses_and_broadcasts_are_local_and_loopback_is_not() {
    let locals = locals(&HostFacts {
        locals: vec!["10.0.1.1".parse().unwrap(), "127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        ..facts()
    });
    let mapped = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
    assert!(locals.contains(&mapped("10.0.1.1")) && locals.contains(&mapped("10.0.1.255")));
    assert!(!locals.contains(&mapped("127.0.0.1")));
    assert!(!locals.contains(&std::net::Ipv6Addr::LOCALHOST.octets()));
}

fn with_rss(facts: HostFacts) -> HostFacts {
    let rss = HostRss {
        toeplitz: true,
        key: vec![1; 40],
        table: vec![0, 1, 2, 3],
        tcp_ports: true,
        ..HostRss::default()
    };
    let mut facts = facts;
    facts.interfaces[0].rss = Some(rss);
    facts
}

#[test]
fn a_gateway_knows_the_queues_of_its_external_device_if_asked_to() {
    let text = format!("[gateway]\nsame_queue = true\n{CONFIGURATION}");
    let plan = Plan::new(&config(&text), &with_rss(facts())).unwrap();
    assert_eq!((plan.rss.len(), plan.gateways[0].rss), (1, 1));
    assert_eq!(plan.same_queue[&2].protocols, ["tcp"]);
    assert_eq!(plan.same_queue.len(), 1, "internal interfaces have no part in it");

    let without = Plan::new(&config(&text), &facts()).unwrap();
    assert_eq!((without.rss.len(), without.gateways[0].rss), (0, 0));
    assert_eq!(without.same_queue[&2].why_not.len(), 1);

    let off = Plan::new(&config(CONFIGURATION), &with_rss(facts())).unwrap();
    assert_eq!((off.rss.len(), off.gateways[0].rss, off.same_queue.len()), (0, 0, 0));
}

#[test]
fn the_shortest_timeout_spares_what_another_cpu_has_just_seen() {
    let text = format!("[timeouts]\nudp = 1\nicmp = 3\n{CONFIGURATION}");
    let timeouts = timeouts(&config(&text).timeouts);
    assert_eq!((timeouts.udp, timeouts.icmp), (2, 3));
}

#[test]
fn where_inbound_packets_keep_no_session_alive_every_interface_knows() {
    let flags = |text: &str| {
        let plan = Plan::new(&config(text), &facts()).unwrap();
        plan.interfaces.values().map(|role| role.flags & Role::OUTBOUND_ALONE).collect::<Vec<_>>()
    };
    let alone = flags(&format!("[timeouts]\ninbound_refresh = false\n{CONFIGURATION}"));
    assert!(!alone.is_empty() && alone.iter().all(|flag| *flag != 0));
    assert!(flags(CONFIGURATION).iter().all(|flag| *flag == 0));
}
