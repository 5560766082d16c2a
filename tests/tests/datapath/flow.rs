//! Sessions: what opens one, what belongs to one, and what a new configuration does to those that are open.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    nothing_from_outside_opens_a_session,
    only_a_syn_opens_a_tcp_session,
    an_echo_reply_from_inside_opens_nothing,
    an_answer_from_another_endpoint_than_the_remote_is_no_answer,
    an_answer_to_another_protocol_than_the_sessions_is_no_answer,
    a_renewed_generation_asks_again_once_per_flow,
    a_new_configuration_cuts_only_the_sessions_that_it_forbids,
    a_session_that_a_configuration_forbade_goes_on_when_it_is_allowed_again,
    a_session_whose_elastic_ip_was_withdrawn_is_cut,
    a_session_whose_route_became_a_blackhole_is_cut,
    a_session_whose_route_became_local_is_cut,
    every_packet_and_byte_is_counted_in_its_own_direction,
];

fn nothing_from_outside_opens_a_session() {
    let mut rig = Rig::standard();
    for bits in [SYN, SYN | ACK, ACK, FIN | ACK, RST, 0] {
        rig.case(format!("TCP flags {bits:#x}"));
        rig.expect(External, &tcp(REMOTE, 443, ELASTIC_IP, PORT, bits), dropped(Reason::NoSession));
    }
    rig.case("");
    rig.expect(External, &udp(REMOTE, 53, ELASTIC_IP, PORT), dropped(Reason::NoSession));
    rig.expect(External, &echo_request(REMOTE, 7, ELASTIC_IP), dropped(Reason::NoSession));
    rig.expect(External, &echo_reply(REMOTE, PORT, ELASTIC_IP), dropped(Reason::NoSession));
    assert!(rig.state().flows.is_empty());
}

fn only_a_syn_opens_a_tcp_session() {
    let mut rig = Rig::standard();
    for bits in [RST, RST | ACK, SYN | RST] {
        rig.case(format!("TCP flags {bits:#x}"));
        rig.expect(Internal, &tcp(HOST, 5000, REMOTE, 443, bits), dropped(Reason::NotOpening));
    }
    rig.case("");
    for bits in [ACK, SYN | ACK, FIN, FIN | ACK, SYN | FIN, 0] {
        let verdict = rig.send(Internal, &tcp(HOST, 5000, REMOTE, 443, bits)).verdict;
        assert_eq!(verdict, Verdict::Tx.at_this_hook(), "TCP flags {bits:#x}: it gets a reset");
    }
    assert!(rig.state().flows.is_empty());
    rig.open(&tcp(HOST, 5000, REMOTE, 443, SYN));
}

fn an_echo_reply_from_inside_opens_nothing() {
    let mut rig = Rig::standard();
    rig.expect(Internal, &echo_reply(HOST, 5000, REMOTE), dropped(Reason::NotOpening));
}

fn an_answer_from_another_endpoint_than_the_remote_is_no_answer() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    rig.expect(External, &udp(REMOTE, 54, ELASTIC_IP, PORT), dropped(Reason::NoSession));
    rig.expect(External, &udp(REMOTE_2, 53, ELASTIC_IP, PORT), dropped(Reason::NoSession));
    rig.expect(External, &udp(REMOTE, 53, ELASTIC_IP, PORT + 1), dropped(Reason::NoSession));
    rig.expect(External, &echo_reply(REMOTE_2, PORT, ELASTIC_IP), dropped(Reason::NoSession));
    rig.expect(External, &echo_reply(REMOTE, PORT + 1, ELASTIC_IP), dropped(Reason::NoSession));
}

fn an_answer_to_another_protocol_than_the_sessions_is_no_answer() {
    let mut rig = Rig::standard();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.expect(External, &tcp(REMOTE, 53, ELASTIC_IP, PORT, ACK), dropped(Reason::NoSession));
    rig.expect(External, &echo_reply(REMOTE, PORT, ELASTIC_IP), dropped(Reason::NoSession));
}

fn a_renewed_generation_asks_again_once_per_flow() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, answer) = rig.establish(&request);
    let delivered = answer.delivered(HOST, 5000);
    for _ in 0..3 {
        rig.renew_generation();
        rig.expect(Internal, &request, outbound(&leaving).judged());
        rig.expect(Internal, &request, outbound(&leaving));
        rig.expect(External, &answer, inbound(&delivered).judged());
        rig.expect(External, &answer, inbound(&delivered));
    }
}

const ALLOW_ALL: &str = r#"{ rule = 100, action = "allow", protocol = "all", cidr = "0.0.0.0/0" }"#;

/// The private subnet may not talk to `REMOTE`.
fn without_remote() -> Layout {
    let deny = r#"{ rule = 10, action = "deny", protocol = "all", cidr = "192.0.2.10/32" }"#;
    Layout::with_private_nacl(ALLOW_ALL, &format!("{deny}, {ALLOW_ALL}"))
}

fn a_new_configuration_cuts_only_the_sessions_that_it_forbids() {
    let mut rig = Rig::standard();
    let (cut, spared) = (udp(HOST, 5000, REMOTE, 53), udp(HOST, 5000, REMOTE_2, 53));
    rig.establish(&cut);
    let (leaving, answer) = rig.establish(&spared);
    rig.connect(HOST, 6000, REMOTE_2, 443);
    rig.apply(&without_remote());
    rig.expect(Internal, &cut, dropped(Reason::NaclOutbound));
    rig.expect(Internal, &cut, dropped(Reason::NaclOutbound));
    rig.expect(Internal, &spared, outbound(&leaving).judged());
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
    rig.expect(Internal, &spared, outbound(&leaving));
    let segment = tcp(HOST, 6000, REMOTE_2, 443, ACK);
    rig.expect(Internal, &segment, outbound(&segment.translated(ELASTIC_IP, PORT)).judged());
}

fn a_session_that_a_configuration_forbade_goes_on_when_it_is_allowed_again() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, _) = rig.establish(&request);
    rig.apply(&without_remote());
    rig.expect(Internal, &request, dropped(Reason::NaclOutbound));
    rig.apply(&Layout::default());
    rig.expect(Internal, &request, outbound(&leaving).judged());
}

fn a_session_whose_elastic_ip_was_withdrawn_is_cut() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (_, answer) = rig.establish(&request);
    let other = Layout::default();
    rig.apply(&Layout {
        elastic_ips: other.elastic_ips.replace("203.0.113.10", "203.0.113.11"),
        nat_gateways: other.nat_gateways.replace("203.0.113.10", "203.0.113.11"),
        ..other
    });
    rig.expect(Internal, &request, dropped(Reason::NoRoute));
    rig.expect(External, &answer, dropped(Reason::NoSession));
}

fn a_session_whose_route_became_a_blackhole_is_cut() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    rig.establish(&request);
    rig.apply(&Layout::with_routes(
        r#"{ destination = "0.0.0.0/0", target = "nat-a" }, { destination = "192.0.2.0/24", target = "blackhole" }"#,
    ));
    rig.expect(Internal, &request, dropped(Reason::Blackhole));
}

fn a_session_whose_route_became_local_is_cut() {
    let translated = r#"{ destination = "0.0.0.0/0", target = "nat-a" }, { destination = "10.0.9.0/24", target = "nat-a" }"#;
    let mut rig = Rig::with(&Layout::with_routes(translated));
    rig.ip(&format!("route add 10.0.9.0/24 via {ROUTER}\n"));
    let request = udp(HOST, 5000, [10, 0, 9, 9].into(), 53);
    rig.open(&request);
    rig.apply(&Layout::default());
    rig.expect(Internal, &request, dropped(Reason::NoRoute));
}

fn every_packet_and_byte_is_counted_in_its_own_direction() {
    let mut rig = Rig::standard();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (leaving, answer) = rig.establish(&request);
    let long = answer.clone().payload(&[1; 972]);
    rig.expect(External, &long, inbound(&long.delivered(HOST, 5000)));
    rig.expect(Internal, &request, outbound(&leaving));
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
    let session = rig.sessions()[0];
    assert_eq!((session.outbound.packets, session.outbound.bytes), (2, 2 * 35));
    assert_eq!((session.inbound.packets, session.inbound.bytes), (3, 2 * 35 + 1_000));
    assert_eq!(session.internal, "10.0.1.10:5000".parse().expect("an endpoint"));
    assert_eq!(session.external, "203.0.113.10:40000".parse().expect("an endpoint"));
    assert_eq!(session.remote, "192.0.2.10:53".parse().expect("an endpoint"));
}
