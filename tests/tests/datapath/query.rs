//! ICMP queries: echo and timestamp have sessions, everything else is refused (RFC 5508 §3, REQ-11).

use std::collections::BTreeSet;

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    *,
};

super::tests![
    a_timestamp_request_leaves_with_the_elastic_ip_and_its_reply_comes_back,
    a_timestamp_reply_from_inside_opens_nothing,
    a_reply_with_identifier_0_is_not_taken_for_a_request_of_that_number,
    a_timestamp_request_from_outside_opens_nothing,
    a_timestamp_session_ends_after_the_timeout_of_queries,
    errors_neither_refresh_nor_end_a_query,
    redirects_and_source_quenches_about_a_session_are_refused,
];

fn of_type(packet: Packet, new: u8) -> Packet {
    packet.with(|packet| {
        if let Body::Icmp { kind, .. } = &mut packet.body {
            *kind = new;
        }
    })
}

fn a_timestamp_request_leaves_with_the_elastic_ip_and_its_reply_comes_back() {
    let mut rig = Rig::standard();
    let request = timestamp_request(HOST, 0x1234, REMOTE);
    let (leaving, reply) = rig.establish(&request);
    assert_eq!((leaving.bytes()[20], reply.bytes()[20]), (13, 14));
    assert_eq!(leaving.bytes()[24..26], PORT.to_be_bytes());
    rig.expect(Internal, &request, outbound(&leaving));
    // Another host with the same identifier toward the same remote finds the only one taken.
    let other = timestamp_request(SECOND_HOST, 0x1234, REMOTE);
    let told = other.answered(INTERNAL_ADDRESS, 3, 13, 0);
    let counted = refused(Reason::ErrorPortAllocation, &told).moves("port_tries", 1);
    rig.expect(Internal, &other, counted.moves("hop_lookups", 1));
}

/// Neither has a port: only what it is tells them apart.
fn a_reply_with_identifier_0_is_not_taken_for_a_request_of_that_number() {
    for (request, reply) in [(8, 0), (13, 14)] {
        let mut rig = Rig::standard();
        let request = of_type(echo_request(HOST, 0, REMOTE), request);
        rig.establish(&request);
        rig.expect(Internal, &of_type(echo_reply(HOST, 0, REMOTE), reply), dropped(Reason::NotOpening));
        rig.expect(External, &of_type(echo_reply(REMOTE, 0, ELASTIC_IP), reply), dropped(Reason::NoSession));
    }
}

fn a_timestamp_reply_from_inside_opens_nothing() {
    let mut rig = Rig::standard();
    let reply = of_type(timestamp_request(HOST, 5000, REMOTE), 14);
    rig.expect(Internal, &reply, dropped(Reason::NotOpening));
}

fn a_timestamp_request_from_outside_opens_nothing() {
    let mut rig = Rig::standard();
    rig.establish(&timestamp_request(HOST, 5000, REMOTE));
    rig.expect(External, &timestamp_request(REMOTE, PORT, ELASTIC_IP), dropped(Reason::NoSession));
    let reply = of_type(timestamp_request(REMOTE, PORT + 1, ELASTIC_IP), 14);
    rig.expect(External, &reply, dropped(Reason::NoSession));
}

fn a_timestamp_session_ends_after_the_timeout_of_queries() {
    let mut rig = Rig::standard();
    rig.establish(&timestamp_request(HOST, 5000, REMOTE));
    assert_eq!(rig.age(59), (0, 0));
    assert_eq!(rig.age(60), (1, 0));
}

/// The time of the last packet stays, and so does the session (RFC 5508 REQ-6).
fn errors_neither_refresh_nor_end_a_query() {
    let mut rig = Rig::standard();
    for request in [echo_request(HOST, 5000, REMOTE), timestamp_request(HOST, 5000, REMOTE_2)] {
        let (leaving, answer) = rig.establish(&request);
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        let seen = |rig: &Rig| {
            let flows = rig.state().flows;
            flows.into_iter().map(|(key, entry)| (key.words(), entry.last_seen)).collect::<BTreeSet<_>>()
        };
        let before = seen(&rig);
        for (kind, code) in [(3, 1), (3, 3), (11, 0)] {
            let error = icmp_error(STRANGER, ELASTIC_IP, kind, code, leaving.quote(8));
            let told = error.clone().payload(&request.clone().ttl(63).quote(8)).delivered(HOST, 0);
            rig.expect(External, &error, inbound(&told).judged().refreshing_nothing());
        }
        assert_eq!(seen(&rig), before);
        rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
    }
}

/// They would change routes and rates inside (RFC 2663 §3.3, RFC 6633).
fn redirects_and_source_quenches_about_a_session_are_refused() {
    let mut rig = Rig::standard();
    let (leaving, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    for (kind, code) in [(4, 0), (5, 0), (5, 1), (5, 2), (5, 3)] {
        rig.case(format!("type {kind} code {code}"));
        let error = icmp_error(STRANGER, ELASTIC_IP, kind, code, leaving.quote(8));
        rig.expect(External, &error, dropped(Reason::IcmpType));
        let error = icmp_error(HOST, REMOTE, kind, code, answer.delivered(HOST, 5000).quote(8));
        rig.expect(Internal, &error, dropped(Reason::IcmpType));
    }
}
