use std::fmt::Write;
use std::path::Path;

use crate::config::Config;

fn read(text: &str) -> Config {
    Config::from_toml(text, Path::new("gw.toml")).unwrap()
}

/// The one problem of `text`.
fn refusal_of(text: &str) -> String {
    let error = Config::from_toml(text, Path::new("gw.toml")).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

/// `count` times what `object` writes.
fn many(count: u32, object: impl Fn(&mut String, u32)) -> String {
    let mut text = String::new();
    (0..count).for_each(|index| object(&mut text, index));
    text
}

fn rules(count: u32) -> String {
    many(count, |text, index| {
        let number = index + 1;
        let rule =
            format!("{{ rule = {number}, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\" }},");
        text.push_str(&rule);
    })
}

#[test]
fn more_vpcs_than_zones_are_refused() {
    let vpcs = |count| {
        many(count, |text, index| {
            let _ = write!(text, "[[vpc]]\nname = \"v{index}\"\ncidr = [\"10.{}.0.0/24\"]\n", index.min(255));
        })
    };
    read(&vpcs(255));
    let message = refusal_of(&vpcs(256));
    assert!(message.starts_with("gw.toml:766: configuration: more than 255 vpcs; "), "{message}");
}

#[test]
fn more_nacls_or_rules_than_the_maps_hold_are_refused() {
    let nacls = |count| many(count, |text, index| text.push_str(&format!("[[nacl]]\nname = \"n{index}\"\n")));
    read(&nacls(255));
    let message = refusal_of(&nacls(256));
    assert!(message.contains("more than 256 nacls, the default one included"), "{message}");

    let list = |count| format!("[[nacl]]\nname = \"n\"\ninbound = [{}]\n", rules(count));
    read(&list(1_024));
    let message = refusal_of(&list(1_025));
    assert!(message.starts_with("gw.toml:1: nacl n, inbound: 1025 rules are more than 1024; "), "{message}");

    let full = rules(1_024);
    let total = many(17, |text, index| {
        let _ = write!(text, "[[nacl]]\nname = \"n{index}\"\noutbound = [{full}]\n");
    });
    let message = refusal_of(&total);
    assert!(message.starts_with("gw.toml:49: configuration: more than 16384 nacl rules; "), "{message}");
}

#[test]
fn more_private_subnets_than_the_map_holds_are_refused() {
    let subnets = |count| {
        let table = "[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.0/8\"]\n[[route_table]]\nname = \"t\"\n";
        let subnets = many(count, |text, index| {
            let cidr = format!("10.{}.{}.0/24", index / 256, index % 256);
            let _ = write!(
                text,
                "[[subnet]]\nname = \"s{index}\"\nvpc = \"v\"\ncidr = \"{cidr}\"\ninterface = \"e\"\nroute_table = \"t\"\n"
            );
        });
        format!("{table}{subnets}")
    };
    read(&subnets(2_048));
    assert!(refusal_of(&subnets(2_049)).contains("more than 2048 private subnets"));
}

#[test]
fn more_routes_than_the_map_holds_are_refused() {
    let routes = |count| {
        let routes = many(count, |text, index| {
            let [_, a, b, c] = index.to_be_bytes();
            let _ = write!(text, "{{ destination = \"{a}.{b}.{c}.0/24\", target = \"blackhole\" }},");
        });
        format!("[[route_table]]\nname = \"t\"\nroutes = [{routes}]\n")
    };
    read(&routes(65_536));
    assert!(refusal_of(&routes(65_537)).contains("more than 65536 routes, local ones included"));
}

#[test]
fn more_nat_gateways_or_elastic_ips_than_the_maps_hold_are_refused() {
    let subnet = "[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.0/8\"]\n\
                  [[subnet]]\nname = \"s\"\nvpc = \"v\"\ncidr = \"192.0.2.0/24\"\ninterface = \"e\"\n";
    let address = |index: u32| format!("198.18.{}.{}", index / 256, index % 256);
    let addresses = |count| {
        many(count, |text, index| {
            let _ = write!(text, "[[elastic_ip]]\naddress = \"{}\"\n", address(index));
        })
    };
    let gateways = |count| {
        many(count, |text, index| {
            let elastic_ip = address(index);
            let _ = write!(
                text,
                "[[nat_gateway]]\nname = \"n{index}\"\nsubnet = \"s\"\nelastic_ips = [\"{elastic_ip}\"]\n"
            );
        })
    };
    read(&format!("{subnet}{}{}", addresses(64), gateways(64)));
    let message = refusal_of(&format!("{subnet}{}{}", addresses(65), gateways(65)));
    assert!(message.contains("more than 64 nat gateways"), "{message}");

    let greedy = |count| {
        let list = many(count, |text, index| text.push_str(&format!("\"{}\",", address(index))));
        let gateway = format!("[[nat_gateway]]\nname = \"n\"\nsubnet = \"s\"\nelastic_ips = [{list}]\n");
        format!("{subnet}{}{gateway}", addresses(count))
    };
    read(&greedy(4_096));
    assert!(refusal_of(&greedy(4_097)).contains("more than 4096 elastic ips of nat gateways"));
}
