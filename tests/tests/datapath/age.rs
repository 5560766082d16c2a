//! Ageing: each idle timeout, what refreshes a session, and what goes with it.

use std::{thread::sleep, time::Duration};

use DropReason as Reason;
use nat_common::config::Ageing;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    a_udp_session_ends_after_its_idle_timeout,
    an_icmp_session_ends_after_its_idle_timeout,
    a_tcp_session_without_answer_ends_after_the_transitory_timeout,
    a_handshake_that_is_not_completed_ends_after_the_transitory_timeout,
    an_established_tcp_session_ends_after_its_idle_timeout,
    a_half_closed_tcp_session_is_as_good_as_an_established_one,
    a_closed_tcp_session_ends_after_the_closing_timeout,
    a_reset_tcp_session_ends_after_the_closing_timeout,
    a_new_syn_on_a_closed_session_begins_anew,
    packets_of_either_direction_refresh_a_session_and_errors_do_not,
    a_refused_packet_refreshes_nothing,
    without_inbound_refresh_outbound_packets_alone_keep_udp_and_icmp_alive,
    without_inbound_refresh_either_side_keeps_tcp_alive,
    an_ended_session_is_ended_for_both_directions,
    a_withdrawn_elastic_ip_ends_its_own_sessions_alone,
    an_ageing_pass_without_anything_idle_ends_nothing,
    in_an_empty_table_nothing_can_ever_end,
    until_a_session_ends_a_pass_foretells_when,
    a_closed_or_unanswered_tcp_session_is_foretold_by_its_own_timeout,
    a_session_of_which_one_direction_is_idle_is_foretold_by_the_other,
    without_inbound_refresh_the_outbound_direction_foretells_the_end,
    of_many_sessions_the_first_to_end_is_foretold,
    after_something_has_ended_nothing_is_foretold,
    a_young_mapping_is_looked_at_again_soon_and_then_waits_for_its_sessions,
];

const TIMEOUTS: &str =
    "[timeouts]\ntcp_established = 1000\ntcp_transitory = 200\ntcp_closing = 100\nudp = 300\nicmp = 60\n";

fn rig() -> Rig {
    Rig::with(&Layout::with_limits(TIMEOUTS))
}

/// Expects the only session to end after `seconds`, and `idle` of TCP not to have been closed.
fn ends_after(rig: &mut Rig, seconds: u64, idle: u64) {
    assert_eq!(rig.age(seconds - 5), (0, 0), "it lives until then");
    assert_eq!(rig.age(seconds), (1, idle), "it ends then");
    assert!(rig.state().flows.is_empty());
}

/// Sends a segment of the connection from 5000 to port 443.
fn segment(rig: &mut Rig, side: Side, bits: u8) {
    let packet = if side == Internal {
        tcp(HOST, 5000, REMOTE, 443, bits)
    } else {
        tcp(REMOTE, 443, ELASTIC_IP, PORT, bits)
    };
    assert_eq!(rig.send(side, &packet).verdict, Verdict::Redirect);
}

fn a_udp_session_ends_after_its_idle_timeout() {
    let mut rig = rig();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    ends_after(&mut rig, 300, 0);
}

fn an_icmp_session_ends_after_its_idle_timeout() {
    let mut rig = rig();
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    ends_after(&mut rig, 60, 0);
}

fn a_tcp_session_without_answer_ends_after_the_transitory_timeout() {
    let mut rig = rig();
    rig.open(&tcp(HOST, 5000, REMOTE, 443, SYN));
    segment(&mut rig, Internal, SYN);
    ends_after(&mut rig, 200, 1);
}

fn a_handshake_that_is_not_completed_ends_after_the_transitory_timeout() {
    let mut rig = rig();
    rig.establish(&tcp(HOST, 5000, REMOTE, 443, SYN));
    ends_after(&mut rig, 200, 1);
}

fn an_established_tcp_session_ends_after_its_idle_timeout() {
    let mut rig = rig();
    rig.connect(HOST, 5000, REMOTE, 443);
    ends_after(&mut rig, 1_000, 1);
}

fn a_half_closed_tcp_session_is_as_good_as_an_established_one() {
    for side in [Internal, External] {
        let mut rig = rig();
        rig.connect(HOST, 5000, REMOTE, 443);
        segment(&mut rig, side, FIN | ACK);
        ends_after(&mut rig, 1_000, 1);
    }
}

fn a_closed_tcp_session_ends_after_the_closing_timeout() {
    let mut rig = rig();
    rig.connect(HOST, 5000, REMOTE, 443);
    segment(&mut rig, External, FIN | ACK);
    segment(&mut rig, Internal, FIN | ACK);
    segment(&mut rig, External, ACK);
    ends_after(&mut rig, 100, 0);
}

fn a_reset_tcp_session_ends_after_the_closing_timeout() {
    for side in [Internal, External] {
        let mut rig = rig();
        rig.connect(HOST, 5000, REMOTE, 443);
        segment(&mut rig, side, RST | ACK);
        ends_after(&mut rig, 100, 0);
    }
}

fn a_new_syn_on_a_closed_session_begins_anew() {
    let mut rig = rig();
    rig.connect(HOST, 5000, REMOTE, 443);
    segment(&mut rig, External, FIN | ACK);
    segment(&mut rig, Internal, FIN | ACK);
    segment(&mut rig, Internal, SYN);
    segment(&mut rig, External, SYN | ACK);
    segment(&mut rig, Internal, ACK);
    ends_after(&mut rig, 1_000, 1);
}

/// Lets more than two ticks of the data plane's clock pass.
fn wait() {
    sleep(Duration::from_millis(2_300));
}

/// The UDP timeout of 300 s, and `fewer` ticks less.
fn udp_timeout(fewer: u32) -> u32 {
    nat_common::clock::ticks_from_seconds(300) - fewer
}

fn packets_of_either_direction_refresh_a_session_and_errors_do_not() {
    let mut rig = rig();
    let [forgotten, outgoing, incoming, complained_of] =
        [1, 2, 3, 4].map(|port| udp(HOST, 5000, REMOTE, port));
    for packet in [&forgotten, &outgoing, &incoming, &complained_of] {
        rig.establish(packet);
    }
    wait();
    let leaving = outgoing.translated(ELASTIC_IP, PORT);
    rig.expect(Internal, &outgoing, outbound(&leaving));
    let answer = incoming.translated(ELASTIC_IP, PORT).answer();
    rig.expect(External, &answer, inbound(&answer.delivered(HOST, 5000)));
    let error = icmp_error(STRANGER, ELASTIC_IP, 3, 3, complained_of.translated(ELASTIC_IP, PORT).quote(8));
    assert_eq!(rig.send(External, &error).verdict, Verdict::Redirect);
    let delivered = complained_of.translated(ELASTIC_IP, PORT).answer().delivered(HOST, 5000);
    let error = icmp_error(HOST, REMOTE, 3, 3, delivered.quote(8));
    assert_eq!(rig.send(Internal, &error).verdict, Verdict::Redirect);
    assert_eq!(rig.age_ticks(udp_timeout(1)), (2, 0));
    let mut left: Vec<_> = rig.sessions().iter().map(|session| session.remote.port()).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3]);
}

fn a_refused_packet_refreshes_nothing() {
    let mut rig = rig();
    let (outgoing, incoming) = (udp(HOST, 5000, REMOTE, 1), udp(HOST, 5000, REMOTE, 2));
    rig.establish(&outgoing);
    let (_, answer) = rig.establish(&incoming);
    rig.apply(&Layout { limits: TIMEOUTS.into(), ..Layout::with_private_nacl("", "") });
    wait();
    rig.expect(Internal, &outgoing, dropped(Reason::NaclOutbound));
    rig.expect(External, &answer, dropped(Reason::NaclInbound));
    assert_eq!(rig.age_ticks(udp_timeout(1)), (2, 0));
}

/// A rig whose sessions of UDP and ICMP are kept alive by outbound packets alone.
fn outbound_alone() -> Rig {
    Rig::with(&Layout::with_limits(&format!("{TIMEOUTS}inbound_refresh = false\n")))
}

fn without_inbound_refresh_outbound_packets_alone_keep_udp_and_icmp_alive() {
    let mut rig = outbound_alone();
    let requests = [udp(HOST, 5000, REMOTE, 1), udp(HOST, 5000, REMOTE, 2), echo_request(HOST, 5000, REMOTE)];
    let [_, outgoing, _] = &requests;
    let mut answers = requests.iter().map(|request| rig.establish(request).1).collect::<Vec<_>>();
    let ping = answers.remove(2);
    wait();
    rig.expect(Internal, outgoing, outbound(&outgoing.translated(ELASTIC_IP, PORT)));
    for answer in answers.iter().chain([&ping]) {
        rig.expect(External, answer, inbound(&answer.delivered(HOST, 5000)));
    }
    assert_eq!(rig.age_ticks(nat_common::clock::ticks_from_seconds(60) - 1), (1, 0), "the ping");
    assert_eq!(rig.age_ticks(udp_timeout(1)), (1, 0), "what was only answered");
    let left: Vec<_> = rig.sessions().iter().map(|session| session.remote.port()).collect();
    assert_eq!(left, [2]);
    rig.expect(External, &answers[0], dropped(Reason::NoSession));
    rig.expect(External, &ping, dropped(Reason::NoSession));
}

fn without_inbound_refresh_either_side_keeps_tcp_alive() {
    let mut rig = outbound_alone();
    rig.connect(HOST, 5000, REMOTE, 443);
    wait();
    segment(&mut rig, External, ACK);
    let timeout = nat_common::clock::ticks_from_seconds(1_000);
    assert_eq!(rig.age_ticks(timeout - 1), (0, 0));
    assert_eq!(rig.age_ticks(timeout + 1), (1, 1));
}

fn an_ended_session_is_ended_for_both_directions() {
    let mut rig = rig();
    let request = udp(HOST, 5000, REMOTE, 53);
    let (_, answer) = rig.establish(&request);
    rig.connect(HOST, 5000, REMOTE, 443);
    assert_eq!(rig.age(1_000), (2, 1));
    rig.expect(External, &answer, dropped(Reason::NoSession));
    rig.expect(External, &tcp(REMOTE, 443, ELASTIC_IP, PORT, ACK), dropped(Reason::NoSession));
    rig.expect(Internal, &tcp(HOST, 5000, REMOTE, 443, RST), dropped(Reason::NotOpening));
    rig.open(&request);
}

fn a_withdrawn_elastic_ip_ends_its_own_sessions_alone() {
    let layout = Layout { limits: TIMEOUTS.into(), ..Layout::with_two_elastic_ips("40000-40003") };
    let mut rig = Rig::with(&layout);
    for last in 2..=41 {
        rig.send(Internal, &udp([10, 0, 1, last].into(), 5000, REMOTE, u16::from(last)));
    }
    let of = |rig: &Rig, address| {
        rig.sessions().iter().filter(|session| *session.external.ip() == address).count()
    };
    let (first, second) = (of(&rig, ELASTIC_IP), of(&rig, SECOND_ELASTIC_IP));
    assert_eq!(first + second, 40);
    assert!(first > 0 && second > 0);
    assert_eq!(rig.age_withdrawn(), (0, 0));
    let one = layout.nat_gateways.replace(r#""203.0.113.10", "#, "");
    rig.apply(&Layout { nat_gateways: one, ..layout });
    assert_eq!(rig.age(0), (0, 0), "only on order");
    assert_eq!(rig.age_withdrawn(), (first as u64, 0));
    assert_eq!((of(&rig, ELASTIC_IP), of(&rig, SECOND_ELASTIC_IP)), (0, second));
}

fn an_ageing_pass_without_anything_idle_ends_nothing() {
    let mut rig = rig();
    assert_eq!(rig.age(100_000), (0, 0));
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    rig.connect(HOST, 5000, REMOTE, 443);
    assert_eq!(rig.age(0), (0, 0));
    assert_eq!(rig.sessions().len(), 2);
}

/// The timeout of so many seconds, in ticks.
fn ticks(seconds: u64) -> u32 {
    nat_common::clock::ticks_from_seconds(seconds)
}

fn in_an_empty_table_nothing_can_ever_end() {
    let mut rig = rig();
    assert_eq!(rig.left(0), Ageing::NEVER);
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.age(300);
    assert_eq!(rig.left(0), Ageing::NEVER);
}

/// Expects that what passes foretell comes true: nothing ends before, and the only session ends then.
fn ends_as_foretold(rig: &mut Rig) {
    let (mut ahead, mut passes) = (0, 0);
    while !rig.sessions().is_empty() {
        let left = rig.left(ahead);
        if left == 0 {
            assert_eq!(rig.sessions(), [], "nothing is left, and it is still there");
            break;
        }
        assert_eq!(rig.left(ahead + left - 1), 1, "after a wait of {left} ticks less one");
        ahead += left;
        passes += 1;
    }
    assert!(passes <= 2, "{passes} vain passes");
}

fn until_a_session_ends_a_pass_foretells_when() {
    let mut rig = rig();
    rig.wait_for_a_tick();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    assert_eq!(rig.left(0), ticks(300) + 1, "beyond the timeout, not at it");
    assert_eq!(rig.left(200), ticks(300) - 199);
    assert_eq!(rig.left(ticks(300)), 1);
    ends_as_foretold(&mut rig);
    rig.wait_for_a_tick();
    rig.connect(HOST, 5000, REMOTE, 443);
    // Any segment may close it: then it is looked at, and its phase asked.
    assert_eq!(rig.left(0), ticks(100) + 1);
    assert_eq!(rig.left(ticks(100) + 1), ticks(1_000) - ticks(100));
    ends_as_foretold(&mut rig);
}

fn a_closed_or_unanswered_tcp_session_is_foretold_by_its_own_timeout() {
    let mut rig = Rig::with(&Layout::with_limits("[timeouts]\ntcp_transitory = 50\ntcp_closing = 100\n"));
    rig.wait_for_a_tick();
    rig.connect(HOST, 5000, REMOTE, 443);
    segment(&mut rig, External, FIN | ACK);
    segment(&mut rig, Internal, FIN | ACK);
    assert_eq!(rig.left(60), ticks(100) - 59);
    ends_as_foretold(&mut rig);
    rig.wait_for_a_tick();
    rig.open(&tcp(HOST, 5001, REMOTE, 443, SYN));
    assert_eq!(rig.left(40), ticks(50) - 39);
    ends_as_foretold(&mut rig);
}

fn a_session_of_which_one_direction_is_idle_is_foretold_by_the_other() {
    let mut rig = rig();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.wait_for_a_tick();
    rig.let_pass(ticks(300) + 1);
    rig.send(External, &answer);
    assert_eq!(rig.left(0), ticks(300) + 1);
    ends_as_foretold(&mut rig);
}

fn without_inbound_refresh_the_outbound_direction_foretells_the_end() {
    let mut rig = outbound_alone();
    let (_, answer) = rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.let_pass(200);
    rig.wait_for_a_tick();
    rig.send(External, &answer);
    let left = rig.left(0);
    assert!((ticks(300) - 201..ticks(300) - 198).contains(&left), "{left} ticks of {} less 200", ticks(300));
    ends_as_foretold(&mut rig);
}

fn of_many_sessions_the_first_to_end_is_foretold() {
    let mut rig = rig();
    rig.wait_for_a_tick();
    for host in 0..=255 {
        // All over the table, which is aged in slices.
        rig.send(Internal, &udp([10, 0, 1, host].into(), 5000, REMOTE, 53));
    }
    assert_eq!(rig.left(0), ticks(300) + 1);
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    assert_eq!(rig.left(0), ticks(60) + 1);
    assert_eq!(rig.left(30), ticks(60) - 29);
}

fn after_something_has_ended_nothing_is_foretold() {
    let mut rig = rig();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    rig.establish(&echo_request(HOST, 5000, REMOTE));
    assert_eq!(rig.left(ticks(60) + 1), 0);
    assert_eq!(rig.sessions().len(), 1);
}

fn a_young_mapping_is_looked_at_again_soon_and_then_waits_for_its_sessions() {
    let layout = Layout::with_limits(TIMEOUTS).gateway_option("mapping = \"endpoint-independent\"");
    let mut rig = Rig::with(&layout);
    rig.wait_for_a_tick();
    rig.establish(&udp(HOST, 5000, REMOTE, 53));
    assert_eq!(rig.state().mappings.len(), 2);
    assert_eq!([rig.left(0), rig.left(1)], [0, 0]);
    assert_eq!(rig.left(2), ticks(300) - 1, "its session");
    assert_eq!(rig.left(ticks(300) + 1), 0);
    assert_eq!(rig.sessions(), []);
    // If it stands before its session in the table, it has waited for the next pass.
    assert_eq!(rig.left(ticks(300) + 1), Ageing::NEVER);
    assert_eq!(rig.state().mappings.len(), 0);
}
