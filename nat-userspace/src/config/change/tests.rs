//! What adding and removing an Elastic IP makes of a configuration.

use std::path::Path;

use super::*;
use crate::config::{Blocks, SAMPLE};

const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

fn sample() -> Config {
    Config::from_toml(SAMPLE, Path::new("sample.toml")).unwrap()
}

fn wanted(address: Ipv4Addr) -> NewElasticIp {
    NewElasticIp { address, nat_gateway: None, arp: None, ports: None }
}

fn two() -> Config {
    sample().with_elastic_ip(&wanted(SECOND), None).unwrap()
}

fn refusal(wanted: &NewElasticIp) -> String {
    two().with_elastic_ip(wanted, None).unwrap_err().to_string()
}

#[test]
fn an_added_elastic_ip_belongs_to_the_only_nat_gateway_and_has_the_defaults() {
    let config = two();
    assert_eq!(config.nat_gateways[0].elastic_ips, [FIRST, SECOND]);
    let added = config.elastic_ip(SECOND).unwrap();
    assert_eq!((added.arp, &added.ports), (Arp::Announce, &None));
}

#[test]
fn an_elastic_ip_taken_back_is_what_it_was_unless_told_otherwise() {
    let before = ElasticIp {
        address: SECOND,
        arp: Arp::Routed,
        ports: "2000-2999".parse().ok(),
        reserved_ports: crate::ports::Ports::NONE,
    };
    let back = sample().with_elastic_ip(&wanted(SECOND), Some(&before)).unwrap();
    assert_eq!(back.elastic_ip(SECOND), Some(&before));
    let told = NewElasticIp { ports: Some("5000-5009".into()), ..wanted(SECOND) };
    let back = sample().with_elastic_ip(&told, Some(&before)).unwrap();
    assert_eq!(back.elastic_ip(SECOND), Some(&ElasticIp { ports: "5000-5009".parse().ok(), ..before }));
}

#[test]
fn where_blocks_are_computed_no_elastic_ip_comes_or_goes_by_itself() {
    let mut config = two();
    config.nat_gateways[0].per_host.blocks = Some(Blocks { size: 128, max: 1, deterministic: true });
    let computed = ChangeError::Computed { gateway: "nat-a".into() };
    assert_eq!(config.without_elastic_ip(FIRST), Err(computed));
    let third = wanted([203, 0, 113, 12].into());
    let refusal = config.with_elastic_ip(&third, None).unwrap_err().to_string();
    assert!(refusal.starts_with("NAT gateway nat-a computes its hosts' blocks"), "{refusal}");
}

#[test]
fn an_elastic_ip_without_a_whole_block_is_refused_where_blocks_are_lent() {
    let mut config = two();
    config.nat_gateways[0].per_host.blocks = Some(Blocks { size: 128, max: 4, deterministic: false });
    let few = NewElasticIp { ports: Some("5000-5100".into()), ..wanted([203, 0, 113, 12].into()) };
    let refusal = config.with_elastic_ip(&few, None).unwrap_err().to_string();
    assert!(refusal.starts_with("203.0.113.12 has no whole block of 128 ports"), "{refusal}");
    assert!(config.with_elastic_ip(&NewElasticIp { ports: None, ..few }, None).is_ok());
    assert!(config.without_elastic_ip(FIRST).is_ok());
}

#[test]
fn every_elastic_ip_can_be_removed_but_the_last_one() {
    for (address, left) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let config = two().without_elastic_ip(address).unwrap();
        assert_eq!(config.nat_gateways[0].elastic_ips, [left]);
        assert!(config.elastic_ip(address).is_none());
        let refusal = config.without_elastic_ip(left).unwrap_err();
        assert_eq!(refusal, ChangeError::Last { address: left, gateway: "nat-a".into() });
        assert_eq!(config.without_elastic_ip(address).unwrap_err(), ChangeError::Unknown { address });
    }
}

#[test]
fn what_was_added_and_removed_again_leaves_the_configuration_as_it_was() {
    assert_eq!(two().without_elastic_ip(SECOND).unwrap(), sample());
}

#[test]
fn what_cannot_be_an_elastic_ip_is_refused_with_the_remedy() {
    assert!(refusal(&wanted(FIRST)).starts_with("203.0.113.10 is in use by NAT gateway nat-a; "));
    assert!(refusal(&wanted([127, 0, 0, 1].into())).starts_with("127.0.0.1 is a loopback address; use "));
    assert!(
        refusal(&wanted([10, 0, 1, 9].into())).starts_with("10.0.1.9 lies inside private subnet private-a")
    );
    assert!(refusal(&wanted([10, 0, 9, 9].into())).starts_with("10.0.9.9 lies inside vpc main"));
    let third = wanted([203, 0, 113, 12].into());
    let elsewhere = NewElasticIp { nat_gateway: Some("nat-b".into()), ..third.clone() };
    assert_eq!(refusal(&elsewhere), "there is no NAT gateway nat-b; name one of: nat-a");
    let ports = NewElasticIp { ports: Some("443-80".into()), ..third };
    assert_eq!(refusal(&ports), "port range 443-80 is empty; write \"80-443\"");
}

#[test]
fn among_several_nat_gateways_one_has_to_be_named() {
    let mut config = sample();
    config.nat_gateways.push(crate::config::NatGateway {
        name: "nat-b".into(),
        elastic_ips: vec![[203, 0, 113, 20].into()],
        ..config.nat_gateways[0].clone()
    });
    let refusal = config.with_elastic_ip(&wanted(SECOND), None).unwrap_err();
    assert_eq!(refusal, ChangeError::WhichGateway { known: vec!["nat-a".into(), "nat-b".into()] });
    let named = NewElasticIp { nat_gateway: Some("nat-b".into()), ..wanted(SECOND) };
    let config = config.with_elastic_ip(&named, None).unwrap();
    assert_eq!(config.owner(SECOND).unwrap().name, "nat-b");
}

#[test]
fn an_elastic_ip_drains_where_its_nat_gateway_is_and_it_is_nothing_else() {
    let config = two();
    let [first, second] = [FIRST, SECOND].map(|address| config.elastic_ip(address).unwrap().clone());
    let one = config.without_elastic_ip(SECOND).unwrap();
    assert!(one.may_drain(&second, "nat-a"));
    assert!(!one.may_drain(&first, "nat-a"), "it is in use");
    assert!(!one.may_drain(&second, "nat-b"), "its NAT gateway has gone");
    let internal = ElasticIp { address: [10, 0, 1, 9].into(), ..second };
    assert!(!one.may_drain(&internal, "nat-a"), "it is a private host's by now");
}
