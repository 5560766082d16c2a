//! NACLs: numbered, stateless, the first match decides, and nothing matching denies.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, SYN},
    *,
};

super::tests![
    the_lowest_number_that_matches_decides,
    what_no_rule_matches_is_denied,
    a_rule_speaks_of_its_protocol_cidr_and_ports_alone,
    an_icmp_rule_speaks_of_its_type_and_code_alone,
    replies_need_a_rule_of_their_own,
    the_nat_gateways_subnet_is_asked_where_packets_leave_to_the_outside,
    the_nat_gateways_subnet_is_asked_where_packets_come_from_the_outside,
    with_both_sides_the_nat_gateways_subnet_is_asked_about_the_private_subnet_too,
    without_both_sides_the_nat_gateways_subnet_needs_no_rule_for_private_addresses,
    between_subnets_the_sources_and_the_destinations_nacl_are_asked,
    errors_are_asked_about_by_their_own_type,
    a_packet_for_the_host_itself_is_not_asked_about,
];

const ALL: &str = r#"{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;

fn rule(number: u16, action: &str, matching: &str) -> String {
    format!(r#"{{ rule = {number}, action = "{action}", {matching} }}"#)
}

/// A rig whose private subnet has these outbound rules and lets everything in.
fn leaving_by(rules: &[String]) -> Rig {
    Rig::with(&Layout::with_private_nacl(ALL, &rules.join(", ")))
}

fn the_lowest_number_that_matches_decides() {
    let tcp_all = r#"protocol = "tcp", cidr = "0.0.0.0/0""#;
    let web = r#"protocol = "tcp", cidr = "0.0.0.0/0", ports = "443""#;
    let mut denied_first = leaving_by(&[rule(200, "allow", tcp_all), rule(90, "deny", web)]);
    denied_first.expect(Internal, &tcp(HOST, 1, REMOTE, 443, SYN), dropped(Reason::NaclOutbound));
    denied_first.open(&tcp(HOST, 1, REMOTE, 444, SYN));
    let mut allowed_first =
        leaving_by(&[rule(90, "deny", tcp_all), rule(32_766, "allow", ALL_TCP), rule(10, "allow", web)]);
    allowed_first.open(&tcp(HOST, 1, REMOTE, 443, SYN));
    allowed_first.expect(Internal, &tcp(HOST, 1, REMOTE, 444, SYN), dropped(Reason::NaclOutbound));
}

const ALL_TCP: &str = r#"protocol = "tcp", cidr = "0.0.0.0/0""#;

fn what_no_rule_matches_is_denied() {
    let mut rig = leaving_by(&[]);
    rig.expect(Internal, &udp(HOST, 1, REMOTE, 53), dropped(Reason::NaclOutbound));
    let mut rig = leaving_by(&[rule(1, "allow", ALL_TCP)]);
    rig.expect(Internal, &udp(HOST, 1, REMOTE, 53), dropped(Reason::NaclOutbound));
    rig.expect(Internal, &echo_request(HOST, 1, REMOTE), dropped(Reason::NaclOutbound));
}

fn a_rule_speaks_of_its_protocol_cidr_and_ports_alone() {
    let mut rig =
        leaving_by(&[rule(1, "allow", r#"protocol = "udp", cidr = "192.0.2.8/30", ports = "53-55""#)]);
    let (below, first, last, above) =
        ([192, 0, 2, 7].into(), [192, 0, 2, 8].into(), [192, 0, 2, 11].into(), [192, 0, 2, 12].into());
    for (remote, port) in [(first, 53), (first, 55), (last, 54)] {
        rig.open(&udp(HOST, 1, remote, port));
    }
    for (remote, port) in [(first, 52), (first, 56), (below, 53), (above, 53)] {
        rig.case(format!("{remote}:{port}"));
        rig.expect(Internal, &udp(HOST, 53, remote, port), dropped(Reason::NaclOutbound));
    }
    rig.expect(Internal, &tcp(HOST, 1, first, 53, SYN), dropped(Reason::NaclOutbound));
}

fn an_icmp_rule_speaks_of_its_type_and_code_alone() {
    let echo = r#"protocol = "icmp", cidr = "0.0.0.0/0", icmp_type = 8, icmp_code = 0"#;
    let mut rig = leaving_by(&[rule(1, "allow", echo)]);
    rig.open(&echo_request(HOST, 1, REMOTE));
    let odd = echo_request(HOST, 2, REMOTE).with(|packet| {
        if let Body::Icmp { code, .. } = &mut packet.body {
            *code = 1;
        }
    });
    rig.expect(Internal, &odd, dropped(Reason::NaclOutbound));
    let mut rig = leaving_by(&[rule(1, "allow", r#"protocol = "icmp", cidr = "0.0.0.0/0", icmp_type = 8"#)]);
    rig.open(&odd);
    let mut rig = leaving_by(&[rule(1, "allow", r#"protocol = "icmp", cidr = "0.0.0.0/0", icmp_type = 0"#)]);
    rig.expect(Internal, &echo_request(HOST, 1, REMOTE), dropped(Reason::NaclOutbound));
}

fn replies_need_a_rule_of_their_own() {
    // The reply is addressed to the private host's own port.
    let inbound_rule = rule(1, "allow", r#"protocol = "udp", cidr = "192.0.2.10/32", ports = "5000""#);
    let mut rig = Rig::with(&Layout::with_private_nacl(&inbound_rule, ALL));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for request in [udp(HOST, 5001, REMOTE, 54), udp(HOST, 5000, REMOTE_2, 53)] {
        let leaving = rig.open(&request);
        rig.expect(External, &leaving.answer(), dropped(Reason::NaclInbound));
        rig.expect(External, &leaving.answer(), dropped(Reason::NaclInbound));
        rig.expect(Internal, &request, outbound(&leaving));
    }
}

fn the_nat_gateways_subnet_is_asked_where_packets_leave_to_the_outside() {
    let only_dns = rule(1, "allow", r#"protocol = "udp", cidr = "192.0.2.10/32", ports = "53""#);
    let mut rig = Rig::with(&Layout::with_public_nacl(ALL, &only_dns));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE, 54), dropped(Reason::NaclOutbound));
    rig.expect(Internal, &udp(HOST, 5000, REMOTE_2, 53), dropped(Reason::NaclOutbound));
}

fn the_nat_gateways_subnet_is_asked_where_packets_come_from_the_outside() {
    // The reply is addressed to the port of the Elastic IP.
    let port = rule(1, "allow", r#"protocol = "udp", cidr = "192.0.2.10/32", ports = "40000""#);
    let mut rig = Rig::with(&Layout::with_public_nacl(&port, ALL));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    let leaving = rig.open(&udp(HOST, 5000, REMOTE_2, 53));
    rig.expect(External, &leaving.answer(), dropped(Reason::NaclInbound));
    let private = rule(1, "allow", r#"protocol = "udp", cidr = "0.0.0.0/0", ports = "5000""#);
    let mut rig = Rig::with(&Layout::with_public_nacl(&private, ALL));
    let leaving = rig.open(&udp(HOST, 5000, REMOTE, 53));
    rig.expect(External, &leaving.answer(), dropped(Reason::NaclInbound));
}

/// A NACL of the NAT gateway's subnet that is also asked at the private subnets' side.
fn both_sides(inbound: &[String], outbound: &[String]) -> Rig {
    let layout = Layout::with_public_nacl(&inbound.join(", "), &outbound.join(", "));
    Rig::with(&Layout { nat_gateways: layout.nat_gateways.clone() + "nacl_both_sides = true\n", ..layout })
}

const OUTSIDE: &str = r#"protocol = "all", cidr = "192.0.2.0/24""#;
const PRIVATE: &str = r#"protocol = "udp", cidr = "10.0.1.0/24""#;

fn with_both_sides_the_nat_gateways_subnet_is_asked_about_the_private_subnet_too() {
    let both = || vec![rule(1, "allow", OUTSIDE), rule(2, "allow", PRIVATE)];
    let outside = || vec![rule(1, "allow", OUTSIDE)];
    let request = udp(HOST, 5000, REMOTE, 53);
    both_sides(&both(), &both()).establish(&request);
    both_sides(&outside(), &both()).expect(Internal, &request, dropped(Reason::NaclInbound));
    let mut rig = both_sides(&both(), &outside());
    let leaving = rig.open(&request);
    rig.expect(External, &leaving.answer(), dropped(Reason::NaclOutbound));
    // The reply crosses to the private host's own port.
    let to_port = rule(2, "allow", r#"protocol = "udp", cidr = "10.0.1.10/32", ports = "5000""#);
    let mut rig = both_sides(&both(), &[rule(1, "allow", OUTSIDE), to_port]);
    rig.establish(&request);
    let leaving = rig.open(&udp(HOST, 5001, REMOTE_2, 53));
    rig.expect(External, &leaving.answer(), dropped(Reason::NaclOutbound));
}

fn without_both_sides_the_nat_gateways_subnet_needs_no_rule_for_private_addresses() {
    let outside = rule(1, "allow", OUTSIDE);
    let mut rig = Rig::with(&Layout::with_public_nacl(&outside, &outside));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
}

fn between_subnets_the_sources_and_the_destinations_nacl_are_asked() {
    let to_b = rule(1, "allow", r#"protocol = "udp", cidr = "10.0.2.10/32", ports = "53""#);
    let from_b = rule(1, "allow", r#"protocol = "udp", cidr = "10.0.2.0/24", ports = "5000""#);
    let mut rig = Rig::with(&Layout::with_private_nacl(&from_b, &to_b));
    let request = udp(HOST, 5000, HOST_B, 53);
    rig.expect(Internal, &request, local(&request.forwarded()));
    rig.expect(Internal, &udp(HOST, 5000, HOST_B, 54), dropped(Reason::NaclOutbound));
    let answer = udp(HOST_B, 53, HOST, 5000);
    rig.expect(Side::InternalB, &answer, local(&answer.forwarded()));
    rig.expect(Side::InternalB, &udp(HOST_B, 53, HOST, 5001), dropped(Reason::NaclInbound));
}

fn errors_are_asked_about_by_their_own_type() {
    let udp_in = rule(1, "allow", r#"protocol = "udp", cidr = "0.0.0.0/0""#);
    let too_big = rule(2, "allow", r#"protocol = "icmp", cidr = "0.0.0.0/0", icmp_type = 3, icmp_code = 4"#);
    let mut rig = Rig::with(&Layout::with_private_nacl(&[udp_in, too_big].join(", "), ALL));
    let request = udp(HOST, 5000, REMOTE, 53);
    let leaving = rig.open(&request);
    let error = |code| icmp_error(STRANGER, ELASTIC_IP, 3, code, leaving.quote(8));
    let told = error(4).payload(&request.clone().ttl(63).quote(8)).delivered(HOST, 0);
    rig.expect(External, &error(4), inbound(&told).judged().refreshing_nothing());
    rig.expect(External, &error(3), dropped(Reason::NaclInbound));
}

fn a_packet_for_the_host_itself_is_not_asked_about() {
    let mut rig = Rig::with(&Layout::with_private_nacl("", ""));
    rig.expect(Internal, &tcp(HOST, 5000, INTERNAL_ADDRESS, 22, SYN), stack());
    rig.expect(Internal, &tcp(HOST, 5000, INTERNAL_ADDRESS, 22, ACK), stack());
}
