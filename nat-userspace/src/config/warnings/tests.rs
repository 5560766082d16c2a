use std::path::Path;

use crate::config::{Config, SAMPLE};

/// The warnings about the sample with `from` replaced by `to`.
fn warnings(from: &str, to: &str) -> Vec<String> {
    assert!(SAMPLE.contains(from), "{from}");
    of(&SAMPLE.replacen(from, to, 1))
}

fn of(text: &str) -> Vec<String> {
    let config = Config::from_toml(text, Path::new("gw.toml")).unwrap();
    config.warnings().iter().map(ToString::to_string).collect()
}

fn sample_and(text: &str) -> Vec<String> {
    of(&format!("{SAMPLE}\n{text}"))
}

#[test]
fn a_configuration_that_translates_nothing_is_warned_about() {
    let warnings = of("");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("configuration: nothing is translated without"), "{warnings:?}");
}

#[test]
fn an_object_that_nothing_uses_is_warned_about() {
    for (object, expected) in [
        (
            "[[elastic_ip]]\naddress = \"203.0.113.11\"",
            "elastic ip 203.0.113.11: belongs to no nat gateway; ",
        ),
        ("[[route_table]]\nname = \"t\"", "route table t: no subnet uses it; "),
        ("[[nacl]]\nname = \"n\"", "nacl n: no subnet uses it; "),
        (
            "[[subnet]]\nname = \"s\"\nvpc = \"main\"\ncidr = \"192.0.2.0/24\"\ninterface = \"eth2\"",
            "subnet s: has neither a route table nor a nat gateway; ",
        ),
    ] {
        let warnings = sample_and(object);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
    }
}

#[test]
fn a_private_subnet_without_a_way_out_is_warned_about() {
    let warnings = warnings("target = \"nat-a\"", "target = \"blackhole\"");
    assert_eq!(
        warnings,
        [
            "subnet private-a: no route of its table private leads to a nat gateway; add { destination = \"0.0.0.0/0\", \
             target = \"...\" }",
            "nat gateway nat-a: no route leads to it; name it as a route's target",
        ]
    );
}

#[test]
fn a_nacl_that_lets_no_reply_in_is_warned_about_by_protocol() {
    let without_icmp = SAMPLE.lines().filter(|line| !line.contains("icmp_type ="));
    let warnings = of(&without_icmp.collect::<Vec<_>>().join("\n"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("nacl public: lets icmp out but no reply in; "), "{warnings:?}");

    let without_inbound =
        SAMPLE.lines().filter(|line| !line.starts_with("  { rule = 1") || line.contains("\"all\""));
    let warnings = of(&without_inbound.collect::<Vec<_>>().join("\n"));
    assert!(
        warnings[0].starts_with("nacl public: lets tcp, udp, icmp out but no reply in; "),
        "{warnings:?}"
    );
}

#[test]
fn a_nacl_that_lets_nothing_out_is_warned_about() {
    let warnings =
        warnings("action = \"allow\", protocol = \"all\"", "action = \"deny\", protocol = \"all\"");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("nacl public: lets tcp, udp, icmp in but nothing out; "), "{warnings:?}");
}

#[test]
fn a_rule_after_a_catch_all_is_warned_about() {
    let rule = "outbound = [\n  { rule = 200, action = \"deny\", protocol = \"tcp\", cidr = \"192.0.2.0/24\", ports = 25 },";
    assert_eq!(
        warnings("outbound = [", rule),
        [
            "nacl public, outbound rule 200: is never reached: rule 100 matches all of it first; give it a number below 100, \
          or remove it"
        ]
    );
}

#[test]
fn a_rule_that_an_earlier_one_covers_only_in_part_is_fine() {
    let with =
        |rule: &str| warnings("inbound = [", &format!("inbound = [\n{{ action = \"deny\", {rule} }},"));
    let none: [&str; 0] = [];
    assert_eq!(with("rule = 200, protocol = \"tcp\", cidr = \"0.0.0.0/0\", ports = \"1000-2000\""), none);
    assert_eq!(with("rule = 200, protocol = \"udp\", cidr = \"0.0.0.0/0\""), none);
    assert_eq!(
        with("rule = 200, protocol = \"icmp\", cidr = \"0.0.0.0/0\", icmp_type = 0, icmp_code = 1"),
        none
    );
    assert_eq!(with("rule = 200, protocol = \"icmp\", cidr = \"0.0.0.0/0\", icmp_type = 0"), none);
    assert_eq!(
        with("rule = 200, protocol = \"icmp\", cidr = \"0.0.0.0/0\", icmp_type = 3, icmp_code = 4").len(),
        1
    );
    assert_eq!(with("rule = 200, protocol = \"tcp\", cidr = \"192.0.2.0/24\", ports = 8080").len(), 1);
}

#[test]
fn private_addresses_in_a_nacl_that_is_asked_about_the_outside_only_are_warned_about() {
    let rule =
        "outbound = [\n  { rule = 50, action = \"deny\", protocol = \"all\", cidr = \"10.0.1.0/24\" },";
    let text = SAMPLE.replacen("outbound = [", rule, 1);
    let warnings = of(&text);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with(
            "nacl public, outbound rule 50: names private addresses 10.0.1.0/24, which are not asked"
        ),
        "{warnings:?}"
    );
    assert_eq!(of(&text.replace("nacl_both_sides = false", "nacl_both_sides = true")).len(), 0);
}

#[test]
fn private_addresses_in_a_private_subnets_nacl_are_fine() {
    let everything = "[{ rule = 100, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\" }]";
    let inside = "{ rule = 50, action = \"deny\", protocol = \"all\", cidr = \"10.0.2.0/24\" }, ";
    let outbound = everything.replacen("[{", &format!("[{inside}{{"), 1);
    let text = SAMPLE.replacen("nacl = \"default\"", "nacl = \"inside\"", 1);
    let none: [&str; 0] = [];
    assert_eq!(
        of(&format!("{text}\n[[nacl]]\nname = \"inside\"\ninbound = {everything}\noutbound = {outbound}\n")),
        none
    );
}

#[test]
fn a_rule_for_a_protocol_that_never_passes_is_warned_about() {
    let rule = "outbound = [\n  { rule = 50, action = \"deny\", protocol = 47, cidr = \"0.0.0.0/0\" },";
    let warnings = warnings("outbound = [", rule);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("nacl public, outbound rule 50: protocol 47 is never translated, "),
        "{warnings:?}"
    );
}
