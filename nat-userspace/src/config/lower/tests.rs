use std::path::Path;

use super::*;
use crate::config::{Bursts, Fragments, IcmpMatch, IdleReset, Protocol};

fn read(text: &str) -> Config {
    Config::from_toml(text, Path::new("gw.toml")).unwrap()
}

/// What follows `gw.toml:` in the one problem of `text`.
fn refusal(text: &str) -> String {
    let error = Config::from_toml(text, Path::new("gw.toml")).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string().trim_start_matches("gw.toml:").to_owned()
}

fn rule(fields: &str) -> String {
    format!("[[nacl]]\nname = \"n\"\ninbound = [{{ action = \"allow\", {fields} }}]\n")
}

#[test]
fn timeouts_are_seconds_or_texts_with_units() {
    let config = read("[timeouts]\ntcp_established = 7440\nudp = \"5m\"\n");
    assert_eq!((config.timeouts.tcp_established, config.timeouts.udp), (7_440, 300));
    assert_eq!(config.timeouts.icmp, 60);
}

#[test]
fn a_profile_gives_the_timeouts_that_are_not_named() {
    let of = |text: &str| {
        let Timeouts { tcp_established, tcp_transitory, tcp_closing, udp, icmp, .. } = read(text).timeouts;
        [tcp_established, tcp_transitory, tcp_closing, udp, icmp]
    };
    assert_eq!(of(""), [350, 240, 240, 350, 60]);
    assert_eq!(of("[timeouts]\nprofile = \"aws\"\n"), [350, 240, 240, 350, 60]);
    assert_eq!(of("[timeouts]\nprofile = \"rfc\"\n"), [7_440, 240, 240, 300, 60]);
    let text = "[timeouts]\nudp = 120\nprofile = \"rfc\"\ntcp_closing = 30\n";
    assert_eq!(of(text), [7_440, 240, 30, 120, 60]);
    assert_eq!(
        refusal("[timeouts]\nprofile = \"isp\"\n"),
        "2: timeouts: unknown variant `isp`; write `aws` or `rfc`"
    );
}

#[test]
fn idle_sessions_are_reset_on_send_unless_the_file_says_otherwise() {
    let of = |text: &str| read(text).idle_reset;
    assert_eq!(of(""), IdleReset::OnSend);
    for (text, expected) in
        [("on-send", IdleReset::OnSend), ("at-expiry", IdleReset::AtExpiry), ("off", IdleReset::Off)]
    {
        assert_eq!(of(&format!("[gateway]\nidle_reset = \"{text}\"\n")), expected);
    }
    assert_eq!(
        refusal("[gateway]\nidle_reset = \"always\"\n"),
        "2: gateway: unknown variant `always`; the known ones are `on-send`, `at-expiry`, `off`"
    );
}

#[test]
fn inbound_packets_refresh_unless_the_file_says_otherwise() {
    assert!(read("").timeouts.inbound_refresh);
    assert!(!read("[timeouts]\ninbound_refresh = false\n").timeouts.inbound_refresh);
}

#[test]
fn a_timeout_out_of_range_is_refused() {
    let message = refusal("[timeouts]\n\nicmp = 0\n");
    assert!(
        message.starts_with("3: timeouts, icmp: 0 is out of range; write 1 to 2678400 seconds"),
        "{message}"
    );
    assert!(refusal("[timeouts]\nudp = \"32d\"\n").starts_with("2: timeouts, udp: \"32d\" is out of range"));
}

#[test]
fn max_sessions_out_of_range_is_refused() {
    assert_eq!(
        refusal("[gateway]\nmax_sessions = 1023\n"),
        "2: gateway: max_sessions 1023 is out of range; write 1024 to 67108864"
    );
    refusal("[gateway]\nmax_sessions = 67108865\n");
    assert_eq!(read("[gateway]\nmax_sessions = 67108864\n").max_sessions, 67_108_864);
}

#[test]
fn a_cidr_with_host_bits_is_refused_with_the_canonical_one() {
    assert_eq!(
        refusal("[[vpc]]\nname = \"v\"\ncidr = [\n  \"10.0.0.0/16\",\n  \"10.1.2.3/16\",\n]\n"),
        "5: vpc v: cidr 10.1.2.3/16 has host bits set; write \"10.1.0.0/16\""
    );
    assert_eq!(
        refusal(
            "[[route_table]]\nname = \"t\"\nroutes = [{ destination = \"10.0.0.1/8\", target = \"local\" }]\n"
        ),
        "3: route table t: cidr 10.0.0.1/8 has host bits set; write \"10.0.0.0/8\""
    );
}

#[test]
fn a_nacl_rules_cidr_with_host_bits_is_canonicalised() {
    let config = read(&rule("rule = 100, protocol = \"all\", cidr = \"100.68.0.18/18\""));
    assert_eq!(config.nacls[0].inbound[0].cidr.to_string(), "100.68.0.0/18");
}

#[test]
fn addresses_that_no_host_can_have_are_refused_for_vpcs() {
    for (cidr, kind) in [
        ("127.0.0.0/8", "loopback"),
        ("169.254.1.0/24", "link-local"),
        ("224.0.0.0/4", "multicast or reserved"),
        ("0.0.0.0/0", "this-network"),
    ] {
        let message = refusal(&format!("[[vpc]]\nname = \"v\"\ncidr = [\"{cidr}\"]\n"));
        assert!(message.starts_with(&format!("3: vpc v: cidr {cidr} holds {kind} addresses; ")), "{message}");
    }
}

#[test]
fn an_elastic_ip_must_be_a_unicast_address() {
    for address in ["0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        let message = refusal(&format!("[[elastic_ip]]\naddress = \"{address}\"\n"));
        assert!(message.starts_with(&format!("2: elastic ip {address}: is a ")), "{message}");
    }
    assert!(refusal("[[elastic_ip]]\naddress = \"2001:db8::1\"\n").contains("is not an IPv4 address"));
    read("[[elastic_ip]]\naddress = \"203.0.113.10\"\n");
}

#[test]
fn an_elastic_ip_has_all_unprivileged_ports_unless_told() {
    let ports = |text: &str| {
        let config = read(&format!("[[elastic_ip]]\naddress = \"203.0.113.10\"\n{text}"));
        config.elastic_ips[0].usable_ports().to_string()
    };
    assert_eq!(ports(""), "1024-65535");
    assert_eq!(ports("ports = \"1-1023\""), "1-1023");
    assert_eq!(ports("ports = 5000"), "5000");
    let message = refusal("[[elastic_ip]]\naddress = \"203.0.113.10\"\nports = \"0-80\"\n");
    assert!(
        message.starts_with("3: elastic ip 203.0.113.10: ports \"0-80\" are no port range; "),
        "{message}"
    );
}

#[test]
fn an_elastic_ip_takes_several_ranges_and_leaves_reserved_ports_out() {
    let ports = |text: &str| {
        let config = read(&format!("[[elastic_ip]]\naddress = \"203.0.113.10\"\n{text}"));
        config.elastic_ips[0].usable_ports().to_string()
    };
    assert_eq!(ports("ports = \"20000-29999, 40000-49999\""), "20000-29999,40000-49999");
    assert_eq!(ports("ports = [\"40000-49999\", 7, \"20000-29999\"]"), "7,20000-29999,40000-49999");
    assert_eq!(ports("reserved_ports = \"8080,9000-9010\""), "1024-8079,8081-8999,9011-65535");
    assert_eq!(ports("ports = \"80-90\"\nreserved_ports = [85]"), "80-84,86-90");
}

#[test]
fn wrong_lists_of_ports_are_refused_at_their_line() {
    let refusal = |text: &str| refusal(&format!("[[elastic_ip]]\naddress = \"203.0.113.10\"\n{text}\n"));
    let message = refusal("ports = \"80,90-x\"");
    assert!(
        message.starts_with("3: elastic ip 203.0.113.10: ports \"90-x\" are no port range; "),
        "{message}"
    );
    let message = refusal("reserved_ports = [80, \"90-85\"]");
    assert_eq!(message, "3: elastic ip 203.0.113.10: port range 90-85 is empty; write \"85-90\"");
    let left =
        "3: elastic ip 203.0.113.10: no port is left for sessions; write more ports or fewer reserved_ports";
    assert_eq!(refusal("reserved_ports = \"1-65535\""), left);
    assert_eq!(refusal("ports = []"), left);
    let message = refusal("ports = true");
    assert!(message.contains("write a number, a text in quotes or a list of these"), "{message}");
}

#[test]
fn names_that_could_confuse_a_terminal_or_a_route_are_refused() {
    let message = refusal("[[vpc]]\nname = \"a\\u001b[2J\"\ncidr = [\"10.0.0.0/16\"]\n");
    assert!(message.starts_with("2: vpc a\\u{1b}[2J: name \"a\\u{1b}[2J\" cannot be used; "), "{message}");
    refusal("[[nacl]]\nname = \"\"\n");
    refusal(&format!("[[nacl]]\nname = \"{}\"\n", "n".repeat(65)));
}

#[test]
fn a_nat_gateway_named_like_a_target_is_refused() {
    for name in ["local", "blackhole"] {
        let text = "[[subnet]]\nname = \"s\"\nvpc = \"v\"\ncidr = \"192.0.2.0/24\"\ninterface = \"e\"\n[[nat_gateway]]\n";
        let message =
            refusal(&format!("{text}name = \"{name}\"\nsubnet = \"s\"\nelastic_ips = [\"203.0.113.10\"]\n"));
        assert!(
            message
                .starts_with(&format!("7: nat gateway {name}: {name} is the name of a route's own target;"))
        );
    }
}

#[test]
fn a_nat_gateway_without_elastic_ips_is_refused() {
    let message = refusal("[[nat_gateway]]\nname = \"n\"\nsubnet = \"s\"\nelastic_ips = []\n");
    assert_eq!(message, "4: nat gateway n: has no elastic ip; name at least one, as in [\"203.0.113.10\"]");
}

#[test]
fn a_vpc_without_addresses_is_refused() {
    assert!(refusal("[[vpc]]\nname = \"v\"\ncidr = []\n").starts_with("3: vpc v: has no cidr; "));
}

#[test]
fn an_interface_name_that_the_kernel_refuses_is_refused() {
    for name in ["", ".", "..", "a/b", "a b", "sixteen-letters-"] {
        let text = format!(
            "[[subnet]]\nname = \"s\"\nvpc = \"v\"\ncidr = \"10.0.0.0/24\"\ninterface = \"{name}\"\n"
        );
        let message = refusal(&text);
        assert!(
            message.starts_with(&format!("5: subnet s: \"{name}\" cannot be an interface; ")),
            "{message}"
        );
    }
}

#[test]
fn two_routes_for_one_destination_are_refused() {
    let route = "{ destination = \"192.0.2.0/24\", target = \"blackhole\" }";
    let message = refusal(&format!("[[route_table]]\nname = \"t\"\nroutes = [{route},\n{route}]\n"));
    assert_eq!(message, "4: route table t: destination 192.0.2.0/24 has two routes; keep one of them");
}

#[test]
fn a_rule_number_used_twice_is_refused_within_a_list_only() {
    let rule = "{ rule = 100, action = \"deny\", protocol = \"all\", cidr = \"0.0.0.0/0\" }";
    let message = refusal(&format!("[[nacl]]\nname = \"n\"\noutbound = [\n{rule},\n{rule},\n]\n"));
    assert_eq!(message, "5: nacl n, outbound rule 100: rule number is used twice; give each rule its own");
    read(&format!("[[nacl]]\nname = \"n\"\ninbound = [{rule}]\noutbound = [{rule}]\n"));
}

#[test]
fn a_rule_number_beyond_1_to_32766_is_refused() {
    for number in [0, 32_767, -1, 65_536 + 100] {
        let message = refusal(&rule(&format!("rule = {number}, protocol = \"all\", cidr = \"0.0.0.0/0\"")));
        assert!(message.ends_with("rule number is out of range; write 1 to 32766"), "{message}");
    }
    read(&rule("rule = 32766, protocol = \"all\", cidr = \"0.0.0.0/0\""));
}

#[test]
fn fragments_are_translated_unless_aws_is_to_be_followed() {
    let bare = read("");
    assert_eq!(
        (bare.fragments, bare.max_fragmented_datagrams, bare.timeouts.fragments),
        (Fragments::Translate, 16_384, 2)
    );
    let config = read(
        "[gateway]\nfragments = \"aws\"\nmax_fragmented_datagrams = 64\n[timeouts]\nfragments = \"30s\"\n",
    );
    assert_eq!(
        (config.fragments, config.max_fragmented_datagrams, config.timeouts.fragments),
        (Fragments::Aws, 64, 30)
    );
    assert!(
        refusal("[gateway]\nmax_fragmented_datagrams = 63\n")
            .contains("max_fragmented_datagrams 63 is out of range; write 64 to 1048576")
    );
    assert!(refusal("[gateway]\nfragments = \"drop\"\n").contains("aws"));
}

#[test]
fn packets_go_in_bursts_by_the_number_of_sessions_unless_told_otherwise() {
    let of = |text: &str| read(&format!("[gateway]\n{text}\n")).bursts;
    assert_eq!([of(""), of("bursts = \"auto\"")], [Bursts::Auto; 2]);
    assert_eq!([of("bursts = \"always\""), of("bursts = \"never\"")], [Bursts::Always, Bursts::Never]);
    assert!(refusal("[gateway]\nbursts = \"on\"\n").contains("always"));
}

#[test]
fn same_queue_is_off_unless_it_is_switched_on() {
    assert!(!read("").same_queue && read("[gateway]\nsame_queue = true\n").same_queue);
    assert_eq!(
        refusal("[gateway]\nsame_queue = \"yes\"\n"),
        "2: gateway: invalid type: string \"yes\"; write a boolean"
    );
}

#[test]
fn rules_are_sorted_by_number() {
    let rule = |number: u16| {
        format!("{{ rule = {number}, action = \"deny\", protocol = \"all\", cidr = \"0.0.0.0/0\" }}")
    };
    let text = format!("[[nacl]]\nname = \"n\"\ninbound = [{}, {}, {}]\n", rule(30), rule(10), rule(20));
    let numbers: Vec<_> = read(&text).nacls[0].inbound.iter().map(|rule| rule.number).collect();
    assert_eq!(numbers, [10, 20, 30]);
}

#[test]
fn an_empty_port_range_is_refused_with_the_right_order() {
    let message = refusal(&rule("rule = 100, protocol = \"tcp\", cidr = \"0.0.0.0/0\", ports = \"443-80\""));
    assert_eq!(message, "3: nacl n, inbound rule 100: port range 443-80 is empty; write \"80-443\"");
}

#[test]
fn ports_need_a_protocol_with_ports() {
    for protocol in ["\"icmp\"", "\"all\"", "47"] {
        let message =
            refusal(&rule(&format!("rule = 1, protocol = {protocol}, cidr = \"0.0.0.0/0\", ports = 80")));
        assert!(message.contains("ports make no sense with protocol"), "{message}");
    }
    let config = read(&rule("rule = 1, protocol = 6, cidr = \"0.0.0.0/0\", ports = \"443\""));
    assert_eq!(config.nacls[0].inbound[0].ports, Some((443, 443)));
}

#[test]
fn icmp_types_need_icmp_and_codes_need_types() {
    for fields in ["protocol = \"tcp\", icmp_type = 8", "protocol = \"all\", icmp_code = 0"] {
        let message = refusal(&rule(&format!("rule = 1, cidr = \"0.0.0.0/0\", {fields}")));
        assert!(message.contains("icmp_type and icmp_code make no sense with protocol"), "{message}");
    }
    let message = refusal(&rule("rule = 1, cidr = \"0.0.0.0/0\", protocol = \"icmp\", icmp_code = 4"));
    assert!(message.ends_with("icmp_code stands without icmp_type; add icmp_type"), "{message}");
    let message = refusal(&rule("rule = 1, cidr = \"0.0.0.0/0\", protocol = \"icmp\", icmp_type = 256"));
    assert!(message.ends_with("icmp_type 256 is out of range; write 0 to 255"), "{message}");
    let config =
        read(&rule("rule = 1, cidr = \"0.0.0.0/0\", protocol = \"icmp\", icmp_type = 3, icmp_code = 4"));
    assert_eq!(config.nacls[0].inbound[0].icmp, Some(IcmpMatch { kind: 3, code: Some(4) }));
}

#[test]
fn an_unknown_protocol_is_refused() {
    for protocol in ["\"sctp\"", "255", "256", "-1"] {
        let message = refusal(&rule(&format!("rule = 1, protocol = {protocol}, cidr = \"0.0.0.0/0\"")));
        assert!(message.contains(&format!("protocol {protocol} is unknown; write \"tcp\", ")), "{message}");
    }
    let config = read(&rule("rule = 1, protocol = 47, cidr = \"0.0.0.0/0\""));
    assert_eq!(config.nacls[0].inbound[0].protocol, Protocol::Number(47));
}

#[test]
fn every_wrong_value_is_reported_in_the_order_of_the_file() {
    let text =
        "[[vpc]]\nname = \"v\"\ncidr = [\"10.0.0.1/16\"]\n[gateway]\nmax_sessions = 1\n[timeouts]\nudp = 0\n";
    let error = Config::from_toml(text, Path::new("gw.toml")).unwrap_err().to_string();
    let places: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["gw.toml:3", "gw.toml:5", "gw.toml:7"]);
}
