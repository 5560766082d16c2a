use std::path::Path;

use super::*;
use crate::{config::Config, host::HostInterface};

fn interface(index: u32, name: &str, address: &str) -> HostInterface {
    HostInterface {
        index,
        name: name.to_owned(),
        mtu: 1_500,
        up: true,
        addresses: vec![address.parse().unwrap()],
        ..HostInterface::default()
    }
}

/// A host with an external and two internal interfaces, and an address of its own on each.
fn facts() -> HostFacts {
    HostFacts {
        interfaces: vec![
            interface(2, "wan0", "198.51.100.7/24"),
            interface(3, "lan0", "10.0.0.1/24"),
            interface(4, "lan1", "10.1.0.1/24"),
        ],
        locals: ["198.51.100.7", "10.0.0.1", "10.1.0.1"].map(|address| address.parse().unwrap()).into(),
        ..HostFacts::default()
    }
}

fn bursts_of(subnets: &[(&str, &str)], elastic_ip: &str, gateway: &str, facts: &HostFacts) -> Bursts {
    let mut text = format!(
        "[gateway]\n{gateway}\n[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.0/8\"]\n\
         [[subnet]]\nname = \"out\"\nvpc = \"v\"\ncidr = \"10.255.0.0/24\"\ninterface = \"wan0\"\n\
         [[elastic_ip]]\naddress = \"{elastic_ip}\"\n\
         [[nat_gateway]]\nname = \"n\"\nsubnet = \"out\"\nelastic_ips = [\"{elastic_ip}\"]\n\
         [[route_table]]\nname = \"t\"\nroutes = [{{ destination = \"0.0.0.0/0\", target = \"n\" }}]\n"
    );
    for (interface, cidr) in subnets {
        text.push_str(&format!(
            "[[subnet]]\nname = \"{interface}\"\nvpc = \"v\"\ncidr = \"{cidr}\"\ninterface = \"{interface}\"\nroute_table = \"t\"\n"
        ));
    }
    let config = Config::from_toml(&text, Path::new("natgw.toml")).unwrap_or_else(|error| panic!("{error}"));
    Plan::new(&config, facts).unwrap().bursts(facts)
}

const ONE: &[(&str, &str)] = &[("lan0", "10.0.0.0/24")];

fn address(text: &str) -> u32 {
    raw(text.parse().unwrap())
}

fn goes_out(bursts: &Bursts, to: &str) -> bool {
    Reach::holds(&bursts.reach.outbound, Reach::half(address(to)))
}

fn comes_in(bursts: &Bursts, to: &str) -> bool {
    Reach::holds(&bursts.reach.inbound, Reach::place(address(to)))
}

#[test]
fn between_one_internal_and_one_external_interface_both_directions_are_sent_ahead() {
    let bursts = bursts_of(ONE, "203.0.113.10", "", &facts());
    let lead = |device, zone| Lead { device, mtu: 1_500, zone, spare: 0 };
    assert_eq!(bursts.leads, [(2, lead(3, OUTSIDE)), (3, lead(2, 1))].into());
    assert!(bursts.why_not.is_empty());
}

#[test]
fn nothing_near_is_sent_ahead() {
    let bursts = bursts_of(ONE, "203.0.113.10", "", &facts());
    for far in ["192.0.2.1", "8.8.8.8", "10.77.0.1", "223.255.255.255"] {
        assert!(goes_out(&bursts, far), "{far}");
    }
    for near in [
        "10.0.0.9",
        "10.0.0.1",
        "198.51.100.7",
        "203.0.113.10",
        "10.1.0.1",
        "127.0.0.1",
        "224.0.0.5",
        "0.1.2.3",
    ] {
        assert!(!goes_out(&bursts, near), "{near}");
    }
}

#[test]
fn a_large_private_subnet_is_near_as_a_whole() {
    let bursts = bursts_of(&[("lan0", "10.64.0.0/14")], "203.0.113.10", "", &facts());
    for near in ["10.64.0.1", "10.65.1.1", "10.67.255.255"] {
        assert!(!goes_out(&bursts, near), "{near}");
    }
    assert!(goes_out(&bursts, "10.68.0.1") && goes_out(&bursts, "10.63.255.255"));
}

#[test]
fn of_what_comes_in_only_elastic_ips_are_sent_ahead_and_none_that_is_the_hosts() {
    let bursts = bursts_of(ONE, "203.0.113.10", "", &facts());
    assert!(comes_in(&bursts, "203.0.113.10"));
    assert!(!comes_in(&bursts, "198.51.100.7") && !comes_in(&bursts, "203.0.113.11"));
    let mut sharing = facts();
    sharing.locals.push("203.0.113.10".parse().unwrap());
    sharing.ports = Some(crate::host::HostPorts::default());
    assert!(!comes_in(&bursts_of(ONE, "203.0.113.10", "", &sharing), "203.0.113.10"));
}

#[test]
fn with_two_internal_interfaces_what_comes_in_is_translated_one_by_one() {
    let two = [("lan0", "10.0.0.0/24"), ("lan1", "10.1.0.0/24")];
    let bursts = bursts_of(&two, "203.0.113.10", "", &facts());
    assert_eq!(bursts.leads.keys().copied().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(bursts.why_not.len(), 1);
    assert!(
        bursts.why_not[0].starts_with("inbound packets are translated one by one: "),
        "{:?}",
        bursts.why_not
    );
}

#[test]
fn nothing_is_sent_ahead_to_an_interface_that_is_down() {
    let mut facts = facts();
    facts.interfaces[0].up = false;
    let bursts = bursts_of(ONE, "203.0.113.10", "", &facts);
    assert_eq!(bursts.leads.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(
        bursts.why_not,
        ["outbound packets are translated one by one: the interface that they leave by is down"]
    );
}

#[test]
fn on_one_interface_for_both_sides_nothing_is_sent_ahead() {
    let bursts = bursts_of(&[("wan0", "10.0.0.0/24")], "203.0.113.10", "", &facts());
    assert!(bursts.leads.is_empty());
    assert_eq!(bursts.why_not.len(), 2);
}
