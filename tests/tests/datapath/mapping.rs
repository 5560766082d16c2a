//! Mappings that do not depend on the remote, and what they let in (RFC 4787 §4 and §5, RFC 5382, RFC 7857).

use std::net::Ipv4Addr;

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    all_sessions_of_an_internal_endpoint_leave_from_one_external_endpoint,
    an_internal_endpoint_keeps_its_external_one_whoever_else_uses_its_port,
    a_port_serves_one_internal_endpoint_toward_all_remotes,
    every_port_of_a_range_can_be_a_mappings,
    with_overload_a_port_is_lent_toward_one_remote_where_none_is_left_for_all,
    a_mapping_lives_as_long_as_one_of_its_sessions_and_then_gives_its_port_back,
    mappings_are_apart_by_protocol,
    what_no_session_asked_for_comes_in_as_the_filtering_says,
    what_comes_in_by_a_mapping_opens_and_refreshes_nothing,
    what_comes_in_by_a_mapping_still_needs_its_nacls,
    a_packet_that_comes_in_by_a_mapping_and_whose_ttl_runs_out_is_answered,
    a_connection_from_outside_is_accepted_where_the_filtering_lets_its_syn_in,
    a_connection_from_outside_that_its_host_refuses_leaves_no_session,
    a_ping_from_outside_is_nobodys,
    an_error_about_what_came_in_by_a_mapping_leaves_by_it,
    a_permission_ends_with_the_last_session_toward_its_remote,
    a_host_whose_elastic_ip_is_withdrawn_gets_a_mapping_elsewhere,
    sessions_of_before_the_mapping_go_on_and_their_ports_are_not_taken_twice,
    limits_of_a_host_count_sessions_and_not_mappings,
    even_ports_stay_even_and_odd_ones_odd,
    system_ports_stay_system_ports_and_user_ports_user_ports,
    where_no_port_of_the_right_parity_is_left_another_will_do,
    with_parity_ports_are_as_hard_to_guess,
];

const INDEPENDENT: &str = "mapping = \"endpoint-independent\"";

fn layout(ports: &str, fields: &str) -> Layout {
    Layout::with_ports(ports).gateway_option(INDEPENDENT).gateway_option(fields)
}

fn rig(ports: &str, fields: &str) -> Rig {
    Rig::with(&layout(ports, fields))
}

fn filtering(mode: &str) -> String {
    format!("filtering = \"{mode}\"")
}

/// Sends a packet that must leave; the endpoint it leaves from.
#[track_caller]
fn leave(rig: &mut Rig, packet: &Packet) -> (Ipv4Addr, u16) {
    let outcome = rig.send(Side::of(packet.ip.source.into()).0, packet);
    assert_eq!(outcome.verdict, Verdict::Redirect, "{:?}", rig.state().drops());
    let frame = &outcome.frame;
    let address: [u8; 4] = frame[26..30].try_into().unwrap();
    // The identifier of an ICMP query stands elsewhere than a port.
    let port = if frame[23] == 1 { [frame[38], frame[39]] } else { [frame[34], frame[35]] };
    let endpoint = (address.into(), u16::from_be_bytes(port));
    assert_eq!(*frame, packet.translated(endpoint.0, endpoint.1).frame());
    endpoint
}

fn all_sessions_of_an_internal_endpoint_leave_from_one_external_endpoint() {
    let mut rig = rig("1024-65535", "");
    let remotes = [(REMOTE, 1000), (REMOTE, 1001), (REMOTE_2, 1000), (STRANGER, 7)];
    for kind in [udp, |host, port, remote, other| tcp(host, port, remote, other, SYN)] {
        let endpoint = leave(&mut rig, &kind(HOST, 5000, REMOTE, 999));
        for (remote, port) in remotes {
            assert_eq!(leave(&mut rig, &kind(HOST, 5000, remote, port)), endpoint);
            let other = kind(HOST, 5000, remote, port).answer().source(remote, port);
            let answer = other.destination(endpoint.0, endpoint.1);
            rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
        }
        assert_ne!(leave(&mut rig, &kind(HOST, 5001, REMOTE, 999)).1, endpoint.1);
    }
    let identifier = leave(&mut rig, &echo_request(HOST, 77, REMOTE));
    assert_eq!(leave(&mut rig, &echo_request(HOST, 77, REMOTE_2)), identifier);
    let reply = echo_reply(REMOTE_2, identifier.1, ELASTIC_IP);
    rig.expect(External, &reply, inbound(&reply.delivered(HOST, 77)).judged());
}

fn an_internal_endpoint_keeps_its_external_one_whoever_else_uses_its_port() {
    let mut rig = rig("1024-65535", "");
    leave(&mut rig, &udp(SECOND_HOST, 5000, REMOTE, 1000));
    let endpoint = leave(&mut rig, &udp(HOST, 5000, REMOTE_2, 1000));
    assert_eq!(leave(&mut rig, &udp(HOST, 5000, REMOTE, 1000)), endpoint);
    for port in 1..200 {
        leave(&mut rig, &udp(SECOND_HOST, port, REMOTE, 1000));
        assert_eq!(leave(&mut rig, &udp(HOST, 5000, REMOTE, port)), endpoint);
    }
}

fn a_port_serves_one_internal_endpoint_toward_all_remotes() {
    let mut rig = rig("40000", "");
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let second = udp(SECOND_HOST, 5000, REMOTE_2, 53);
    rig.send(Internal, &second);
    assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into());
    // Its own sessions are many.
    for remote_port in 1..=50 {
        leave(&mut rig, &udp(HOST, 5000, REMOTE_2, remote_port));
    }
    assert_eq!(rig.sessions().len(), 51);
}

fn every_port_of_a_range_can_be_a_mappings() {
    let mut rig = rig("2000-2499", "");
    let mut taken = std::collections::BTreeSet::new();
    for port in 1..=500 {
        let endpoint = leave(&mut rig, &udp(HOST, port, REMOTE, 53));
        assert!(taken.insert(endpoint.1), "{endpoint:?} was lent twice");
        assert_eq!(leave(&mut rig, &udp(HOST, port, REMOTE_2, port)), endpoint);
    }
    rig.send(Internal, &udp(HOST, 501, STRANGER, 53));
    assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into());
    assert_eq!(rig.state().mappings.len(), 1_000);
}

fn with_overload_a_port_is_lent_toward_one_remote_where_none_is_left_for_all() {
    let mut rig = rig("40000", "overload = true");
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    // The second host gets the port where the first does not need it, and only there.
    assert_eq!(leave(&mut rig, &udp(SECOND_HOST, 5000, REMOTE_2, 53)), (ELASTIC_IP, PORT));
    rig.send(Internal, &udp(SECOND_HOST, 5000, REMOTE, 53));
    assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into());
    // So does the first, where the second was faster.
    rig.send(Internal, &udp(HOST, 5000, REMOTE_2, 53));
    assert_eq!(rig.state().drops(), [("error_port_allocation", 2)].into());
    let answer = udp(REMOTE_2, 53, ELASTIC_IP, PORT);
    rig.expect(External, &answer, inbound(&answer.delivered(SECOND_HOST, 5000)).judged());
    let answer = udp(REMOTE, 53, ELASTIC_IP, PORT);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
}

fn a_mapping_lives_as_long_as_one_of_its_sessions_and_then_gives_its_port_back() {
    let mut rig = rig("40000", &filtering("address-dependent"));
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    leave(&mut rig, &echo_request(HOST, 5000, REMOTE));
    assert_eq!(rig.state().mappings.len(), 5);
    // ICMP queries rest after 60 s, and their mapping with them.
    rig.age(100);
    rig.age(10);
    assert_eq!((rig.sessions().len(), rig.state().mappings.len()), (1, 3));
    assert_eq!(leave(&mut rig, &udp(HOST, 5000, REMOTE_2, 53)), (ELASTIC_IP, PORT));
    rig.age(400);
    rig.age(10);
    assert_eq!((rig.sessions().len(), rig.state().mappings.len()), (0, 0));
    leave(&mut rig, &udp(SECOND_HOST, 5000, REMOTE, 53));
}

fn mappings_are_apart_by_protocol() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    // RFC 7857 §5 and §6: neither mapping nor filtering of UDP says anything about TCP.
    rig.expect(External, &tcp(STRANGER, 9, ELASTIC_IP, PORT, SYN), dropped(Reason::NoSession));
    assert_eq!(leave(&mut rig, &tcp(SECOND_HOST, 6000, REMOTE, 80, SYN)), (ELASTIC_IP, PORT));
}

fn what_no_session_asked_for_comes_in_as_the_filtering_says() {
    let modes = [
        ("address-and-port-dependent", [true, false, false]),
        ("address-dependent", [true, true, false]),
        ("endpoint-independent", [true, true, true]),
    ];
    for (mode, accepted) in modes {
        for kind in [udp, |host, port, remote, other| tcp(host, port, remote, other, SYN)] {
            let mut rig = rig("40000", &filtering(mode));
            rig.case(mode);
            leave(&mut rig, &kind(HOST, 5000, REMOTE, 1000));
            let remotes = [(REMOTE, 1000), (REMOTE, 2222), (STRANGER, 3333)];
            for ((remote, port), accepted) in remotes.into_iter().zip(accepted) {
                let packet = kind(remote, port, ELASTIC_IP, PORT);
                let delivered = inbound(&packet.delivered(HOST, 5000)).judged();
                let expected = match (accepted, port) {
                    (false, _) => dropped(Reason::NoSession),
                    (true, 1000) => delivered,
                    (true, _) => delivered.refreshing_nothing(),
                };
                rig.expect(External, &packet, expected);
            }
        }
    }
}

fn what_comes_in_by_a_mapping_opens_and_refreshes_nothing() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    for port in 1..=100 {
        let packet = udp(STRANGER, port, ELASTIC_IP, PORT);
        let delivered = inbound(&packet.delivered(HOST, 5000)).refreshing_nothing();
        // The next hop toward the host is remembered for a moment.
        rig.expect(External, &packet, delivered.judged());
    }
    assert_eq!((rig.sessions().len(), rig.state().mappings.len()), (1, 2));
    // The host's answer opens the session, from the endpoint that the stranger knows.
    assert_eq!(leave(&mut rig, &udp(HOST, 5000, STRANGER, 7)), (ELASTIC_IP, PORT));
    let packet = udp(STRANGER, 7, ELASTIC_IP, PORT);
    rig.expect(External, &packet, inbound(&packet.delivered(HOST, 5000)).judged());
}

fn what_comes_in_by_a_mapping_still_needs_its_nacls() {
    let deny = "{ rule = 1, action = \"deny\", protocol = \"udp\", cidr = \"192.0.2.66/32\" }, \
                { rule = 2, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\" }";
    let allow = "{ rule = 2, action = \"allow\", protocol = \"all\", cidr = \"0.0.0.0/0\" }";
    for layout in [Layout::with_private_nacl(deny, allow), Layout::with_public_nacl(deny, allow)] {
        let mode = filtering("endpoint-independent");
        let mut rig = Rig::with(&layout.gateway_option(INDEPENDENT).gateway_option(&mode));
        leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
        rig.expect(External, &udp(STRANGER, 1, ELASTIC_IP, PORT), dropped(Reason::NaclInbound));
        let packet = udp(REMOTE_2, 1, ELASTIC_IP, PORT);
        rig.expect(External, &packet, inbound(&packet.delivered(HOST, 5000)).judged().refreshing_nothing());
    }
}

fn a_packet_that_comes_in_by_a_mapping_and_whose_ttl_runs_out_is_answered() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let packet = udp(STRANGER, 1, ELASTIC_IP, PORT).ttl(1);
    rig.expect(External, &packet, replied(&packet.answered(EXTERNAL_ADDRESS, 11, 0, 0)));
}

fn a_connection_from_outside_is_accepted_where_the_filtering_lets_its_syn_in() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &tcp(HOST, 5000, REMOTE, 80, SYN));
    let syn = tcp(STRANGER, 9, ELASTIC_IP, PORT, SYN);
    rig.expect(External, &syn, inbound(&syn.delivered(HOST, 5000)).judged().refreshing_nothing());
    // Only its beginning comes in by the mapping.
    for flags in [ACK, SYN | ACK, FIN | ACK, RST, SYN | RST] {
        rig.expect(External, &tcp(STRANGER, 9, ELASTIC_IP, PORT, flags), dropped(Reason::NoSession));
    }
    let answer = tcp(HOST, 5000, STRANGER, 9, SYN | ACK);
    rig.expect(
        Internal,
        &answer,
        outbound(&answer.translated(ELASTIC_IP, PORT)).opening_after(0).moves("connection_attempts", 1),
    );
    let third = tcp(STRANGER, 9, ELASTIC_IP, PORT, ACK);
    rig.expect(External, &third, inbound(&third.delivered(HOST, 5000)).judged());
    let data = tcp(HOST, 5000, STRANGER, 9, ACK).payload(b"hello");
    rig.expect(Internal, &data, outbound(&data.translated(ELASTIC_IP, PORT)));
}

fn a_connection_from_outside_that_its_host_refuses_leaves_no_session() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &tcp(HOST, 5000, REMOTE, 80, SYN));
    let syn = tcp(STRANGER, 9, ELASTIC_IP, PORT, SYN);
    rig.expect(External, &syn, inbound(&syn.delivered(HOST, 5000)).judged().refreshing_nothing());
    let refusal = tcp(HOST, 5000, STRANGER, 9, RST | ACK);
    let leaving = refusal.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &refusal, outbound(&leaving).judged().refreshing_nothing());
    assert_eq!(rig.sessions().len(), 1);
}

fn a_ping_from_outside_is_nobodys() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &echo_request(HOST, 77, REMOTE));
    rig.expect(External, &echo_request(STRANGER, PORT, ELASTIC_IP), dropped(Reason::NoSession));
    rig.expect(External, &echo_reply(STRANGER, PORT, ELASTIC_IP), dropped(Reason::NoSession));
}

fn an_error_about_what_came_in_by_a_mapping_leaves_by_it() {
    let mut rig = rig("40000", &filtering("endpoint-independent"));
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let packet = udp(STRANGER, 7, ELASTIC_IP, PORT);
    rig.send(External, &packet);
    let error = icmp_error(HOST, STRANGER, 3, 3, packet.delivered(HOST, 5000).bytes());
    let told = error.clone().payload(&packet.clone().ttl(63).bytes()).translated(ELASTIC_IP, 0);
    rig.expect(Internal, &error, outbound(&told).judged().refreshing_nothing());
    assert_eq!(rig.sessions().len(), 1);
}

fn a_permission_ends_with_the_last_session_toward_its_remote() {
    let mut rig = rig("40000", &filtering("address-dependent"));
    leave(&mut rig, &tcp(HOST, 5000, REMOTE, 80, SYN));
    leave(&mut rig, &tcp(HOST, 5000, REMOTE, 81, SYN));
    leave(&mut rig, &tcp(HOST, 5000, REMOTE_2, 80, SYN));
    let packet = |remote| tcp(remote, 9, ELASTIC_IP, PORT, SYN);
    for remote in [REMOTE, REMOTE_2] {
        let delivered = inbound(&packet(remote).delivered(HOST, 5000)).judged().refreshing_nothing();
        rig.expect(External, &packet(remote), delivered);
    }
    // One is established, which keeps it longer.
    let answer = tcp(REMOTE, 81, ELASTIC_IP, PORT, SYN | ACK);
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)).judged());
    leave(&mut rig, &tcp(HOST, 5000, REMOTE, 81, ACK));
    rig.age(300);
    rig.age(10);
    assert_eq!(rig.sessions().len(), 1);
    let delivered = inbound(&packet(REMOTE).delivered(HOST, 5000)).judged().refreshing_nothing();
    rig.expect(External, &packet(REMOTE), delivered);
    rig.expect(External, &packet(REMOTE_2), dropped(Reason::NoSession));
}

fn a_host_whose_elastic_ip_is_withdrawn_gets_a_mapping_elsewhere() {
    let addresses = ["203.0.113.10", "203.0.113.11"];
    let both = Layout::with_elastic_ips(&addresses, "40000").gateway_option(INDEPENDENT);
    let mut rig = Rig::with(&both);
    let (first, _) = leave(&mut rig, &udp(HOST, 5000, REMOTE, 53));
    let other = if first == ELASTIC_IP { addresses[1] } else { addresses[0] };
    rig.apply(&Layout::with_elastic_ips(&[other], "40000").gateway_option(INDEPENDENT));
    rig.age_withdrawn();
    rig.age(10);
    assert_eq!(rig.state().mappings.len(), 0);
    assert_eq!(leave(&mut rig, &udp(HOST, 5000, REMOTE, 53)).0.to_string(), other);
}

fn sessions_of_before_the_mapping_go_on_and_their_ports_are_not_taken_twice() {
    let mut rig = Rig::with(&Layout::with_ports("40000"));
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.apply(&layout("40000", ""));
    let packet = udp(HOST, 5000, REMOTE, 53);
    rig.expect(Internal, &packet, outbound(&packet.translated(ELASTIC_IP, PORT)).judged());
    // Another host may have the port by now, but not toward that remote.
    assert_eq!(leave(&mut rig, &udp(SECOND_HOST, 5000, REMOTE_2, 53)), (ELASTIC_IP, PORT));
    rig.send(Internal, &udp(SECOND_HOST, 5000, REMOTE, 53));
    assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into());
}

fn limits_of_a_host_count_sessions_and_not_mappings() {
    let mut rig = rig("1024-65535", "max_sessions_per_host = 3");
    for remote_port in 1..=3 {
        leave(&mut rig, &udp(HOST, 5000, REMOTE, remote_port));
    }
    rig.send(Internal, &udp(HOST, 5000, REMOTE, 4));
    assert_eq!(rig.state().drops(), [("host_session_limit", 1)].into());
    rig.age(400);
    leave(&mut rig, &udp(HOST, 5000, REMOTE, 4));
}

fn even_ports_stay_even_and_odd_ones_odd() {
    let mut rig = rig("1024-65535", "port_parity = true");
    for port in 2_000..2_400 {
        for host in [HOST, SECOND_HOST] {
            assert_eq!(leave(&mut rig, &udp(host, port, REMOTE, 1000)).1 % 2, port % 2);
        }
    }
}

fn system_ports_stay_system_ports_and_user_ports_user_ports() {
    let mut rig = rig("600-700,40000-40100", "port_parity = true");
    for port in (500..540).chain(2_000..2_040) {
        let (_, external) = leave(&mut rig, &udp(HOST, port, REMOTE, 1000));
        assert_eq!((external < 1_024, external % 2), (port < 1_024, port % 2));
    }
}

fn where_no_port_of_the_right_parity_is_left_another_will_do() {
    let mut rig = rig("2000-2199", "port_parity = true");
    for port in 0..100 {
        assert_eq!(leave(&mut rig, &udp(HOST, 3_000 + 2 * port, REMOTE, 1000)).1 % 2, 0);
    }
    for port in 100..200 {
        assert_eq!(leave(&mut rig, &udp(HOST, 3_000 + 2 * port, REMOTE, 1000)).1 % 2, 1);
    }
    rig.send(Internal, &udp(HOST, 5000, REMOTE, 1000));
    assert_eq!(rig.state().drops(), [("error_port_allocation", 1)].into());
}

fn with_parity_ports_are_as_hard_to_guess() {
    const BUCKETS: usize = 16;
    let mut rig = rig("1024-65535", "port_parity = true");
    for parity in [0, 1] {
        let internal = (0..2_000).map(|number| 2_000 + 2 * number + parity);
        let ports: Vec<_> = internal.map(|port| leave(&mut rig, &udp(HOST, port, REMOTE, 1000)).1).collect();
        assert!(ports.iter().all(|port| port % 2 == parity && *port >= 1_024));
        let near = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 128).count();
        // Chance makes about 8 of 2,000 pairs near.
        assert!(near < 40, "{near} ports are near their predecessor");
        let mut buckets = [0.0_f64; BUCKETS];
        for port in &ports {
            buckets[usize::from(port - 1_024) * BUCKETS / 64_512] += 1.0;
        }
        let mean = ports.len() as f64 / BUCKETS as f64;
        let chi_square: f64 = buckets.iter().map(|count| (count - mean).powi(2) / mean).sum();
        // With 15 degrees of freedom, chance exceeds 60 once in four million runs.
        assert!(chi_square < 60.0, "chi-square {chi_square}: {buckets:?}");
    }
}
