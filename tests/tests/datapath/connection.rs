//! The life of a TCP connection, as the gateway follows it: RFC 5382 §5, RFC 5961, RFC 7857 §2.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::{ACK, FIN, RST, SYN},
    *,
};

super::tests![
    a_lost_syn_ack_costs_no_second_session,
    both_sides_may_open_at_once,
    a_fin_that_comes_again_after_both_fins_still_passes,
    data_goes_on_the_other_way_for_long_after_one_side_has_closed,
    an_established_session_outlives_two_hours_and_four_minutes_by_the_profile_of_the_rfcs,
    a_reset_where_the_stream_is_ends_the_session_soon,
    a_believed_reset_changes_both_flows_and_no_more,
    a_reset_far_out_of_window_passes_and_shortens_nothing,
    a_reset_follows_the_stream_for_megabytes_and_past_zero,
    an_old_segment_does_not_take_the_stream_back,
    a_segment_far_ahead_does_not_lead_the_stream_astray,
    a_session_on_which_either_side_goes_on_was_not_reset,
    a_reset_that_comes_again_after_data_is_believed_again,
    a_refused_connection_ends_soon_if_the_refusal_acknowledges_the_syn,
    a_host_may_reset_what_it_has_just_begun,
    a_syn_in_the_midst_of_a_connection_passes_and_changes_nothing,
    a_tuple_reused_within_time_wait_keeps_its_endpoint_and_begins_anew,
    an_unsolicited_syn_is_never_answered_and_does_not_stand_in_the_way,
];

const TIMEOUTS: &str =
    "[timeouts]\ntcp_established = 1000\ntcp_transitory = 200\ntcp_closing = 100\nudp = 300\nicmp = 60\n";

/// Where the streams of both sides begin.
const OURS: u32 = 0x1111_0000;
const THEIRS: u32 = 0xfffe_0000;

fn rig() -> Rig {
    Rig::with(&Layout::with_limits(TIMEOUTS))
}

/// A segment of the connection from 5000 to port 443 with this sequence number.
pub fn segment(side: Side, bits: u8, sequence: u32) -> Packet {
    let packet = if side == Internal {
        tcp(HOST, 5000, REMOTE, 443, bits)
    } else {
        tcp(REMOTE, 443, ELASTIC_IP, PORT, bits)
    };
    header(packet, |header| header.sequence_number = sequence)
}

pub fn header(packet: Packet, change: impl FnOnce(&mut etherparse::TcpHeader)) -> Packet {
    packet.with(|packet| {
        if let Body::Tcp(header, _) = &mut packet.body {
            change(header);
        }
    })
}

/// Expects a segment of that connection to pass, with all its bytes.
#[track_caller]
pub fn pass(rig: &mut Rig, side: Side, packet: &Packet) {
    let expected = if side == Internal {
        outbound(&packet.translated(ELASTIC_IP, PORT))
    } else {
        inbound(&packet.delivered(HOST, 5000))
    };
    rig.expect(side, packet, expected);
}

/// Sends one of them, and looks at verdict and bytes alone: those that begin or end something change more.
#[track_caller]
fn send(rig: &mut Rig, side: Side, bits: u8, sequence: u32) {
    let packet = segment(side, bits, sequence);
    let passed =
        if side == Internal { packet.translated(ELASTIC_IP, PORT) } else { packet.delivered(HOST, 5000) };
    let Outcome { verdict, frame } = rig.send(side, &packet);
    assert_eq!((verdict, frame), (Verdict::Redirect, passed.frame()));
}

/// Completes the handshake of that connection.
pub fn connected() -> Rig {
    let mut rig = rig();
    connect(&mut rig, OURS, THEIRS);
    rig
}

fn connect(rig: &mut Rig, ours: u32, theirs: u32) {
    rig.open(&segment(Internal, SYN, ours));
    let accepted = segment(External, SYN | ACK, theirs);
    rig.expect(External, &accepted, inbound(&accepted.delivered(HOST, 5000)).judged());
    send(rig, Internal, ACK, ours + 1);
    send(rig, External, ACK, theirs + 1);
}

pub const fn start(side: Side) -> u32 {
    if matches!(side, Internal) { OURS } else { THEIRS }
}

const fn other(side: Side) -> Side {
    if matches!(side, Internal) { External } else { Internal }
}

#[track_caller]
pub fn phase(rig: &Rig) -> String {
    let sessions = rig.sessions();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    format!("{:?}", sessions[0].phase.expect("it is TCP"))
}

/// Expects the only session to end after `seconds`, and `idle` of TCP not to have been closed.
#[track_caller]
fn ends_after(rig: &mut Rig, seconds: u64, idle: u64) {
    assert_eq!(rig.age(seconds - 5), (0, 0), "it lives until then");
    assert_eq!(rig.age(seconds), (1, idle), "it ends then");
}

fn a_lost_syn_ack_costs_no_second_session() {
    let mut rig = rig();
    rig.open(&segment(Internal, SYN, OURS));
    let accepted = segment(External, SYN | ACK, THEIRS);
    rig.expect(External, &accepted, inbound(&accepted.delivered(HOST, 5000)).judged());
    send(&mut rig, Internal, SYN, OURS);
    send(&mut rig, External, SYN | ACK, THEIRS);
    assert_eq!(phase(&rig), "Opening");
    send(&mut rig, Internal, ACK, OURS + 1);
    send(&mut rig, External, SYN | ACK, THEIRS);
    assert_eq!(phase(&rig), "Established");
    ends_after(&mut rig, 1_000, 1);
}

fn both_sides_may_open_at_once() {
    let mut rig = rig();
    rig.open(&segment(Internal, SYN, OURS));
    let theirs = segment(External, SYN, THEIRS);
    rig.expect(External, &theirs, inbound(&theirs.delivered(HOST, 5000)).judged());
    send(&mut rig, Internal, SYN | ACK, OURS);
    send(&mut rig, External, SYN | ACK, THEIRS);
    assert_eq!(phase(&rig), "Opening");
    send(&mut rig, Internal, ACK, OURS + 1);
    send(&mut rig, External, ACK, THEIRS + 1);
    assert_eq!(phase(&rig), "Established");
}

fn a_fin_that_comes_again_after_both_fins_still_passes() {
    let mut rig = connected();
    for side in [External, Internal, External, Internal] {
        send(&mut rig, side, FIN | ACK, start(side) + 6);
    }
    send(&mut rig, External, ACK, THEIRS + 12);
    assert_eq!(phase(&rig), "Closing");
    ends_after(&mut rig, 100, 0);
}

fn data_goes_on_the_other_way_for_long_after_one_side_has_closed() {
    for side in [Internal, External] {
        let mut rig = connected();
        send(&mut rig, side, FIN | ACK, start(side) + 6);
        assert_eq!(rig.age(300), (0, 0));
        assert_eq!(phase(&rig), "HalfClosed");
        let other = other(side);
        send(&mut rig, other, ACK, start(other) + 6);
        send(&mut rig, side, ACK, start(side) + 12);
        assert_eq!(phase(&rig), "HalfClosed");
        ends_after(&mut rig, 1_000, 1);
    }
}

fn an_established_session_outlives_two_hours_and_four_minutes_by_the_profile_of_the_rfcs() {
    let mut rig = Rig::with(&Layout::with_limits("[timeouts]\nprofile = \"rfc\"\n"));
    connect(&mut rig, OURS, THEIRS);
    assert_eq!(rig.age(7_200), (0, 0));
    // A keep-alive, and its answer.
    send(&mut rig, Internal, ACK, OURS);
    send(&mut rig, External, ACK, THEIRS + 1);
    ends_after(&mut rig, 7_440, 1);
}

fn a_reset_where_the_stream_is_ends_the_session_soon() {
    for side in [Internal, External] {
        for off in [0, 6, 40_000] {
            let mut rig = connected();
            send(&mut rig, side, RST, start(side) + off);
            assert_eq!(phase(&rig), "Closing", "{side:?}, {off}");
            ends_after(&mut rig, 100, 0);
        }
    }
}

fn a_believed_reset_changes_both_flows_and_no_more() {
    for side in [Internal, External] {
        let mut rig = connected();
        let expected = |packet: &Packet| {
            if side == Internal {
                outbound(&packet.translated(ELASTIC_IP, PORT))
            } else {
                inbound(&packet.delivered(HOST, 5000))
            }
        };
        let stray = segment(side, RST, start(side).wrapping_add(0x0100_0000));
        rig.expect(side, &stray, expected(&stray));
        let reset = segment(side, RST, start(side) + 6);
        rig.expect(side, &reset, expected(&reset).telling_the_other());
        rig.expect(side, &reset, expected(&reset));
    }
}

fn a_reset_far_out_of_window_passes_and_shortens_nothing() {
    for side in [Internal, External] {
        let mut rig = connected();
        for off in [0x0002_0000, 0x0100_0000, 0x8000_0000, 0xfffd_ffff] {
            send(&mut rig, side, RST, start(side).wrapping_add(off));
            send(&mut rig, side, RST | ACK, start(side).wrapping_add(off));
            assert_eq!(phase(&rig), "Established", "{side:?}, {off:#x}");
        }
        ends_after(&mut rig, 1_000, 1);
    }
}

/// Sends so many segments, each `step` after the one before; where the stream is then.
fn stream(rig: &mut Rig, side: Side, segments: u32, step: u32) -> u32 {
    let mut sequence = start(side) + 1;
    for _ in 0..segments {
        sequence = sequence.wrapping_add(step);
        send(rig, side, ACK, sequence);
    }
    sequence
}

fn a_reset_follows_the_stream_for_megabytes_and_past_zero() {
    for side in [Internal, External] {
        for step in [1_460, 60_000, 500_000] {
            let mut rig = connected();
            let end = stream(&mut rig, side, 200, step);
            if step > 1_460 {
                send(&mut rig, side, RST, start(side) + 6);
                assert_eq!(phase(&rig), "Established", "{side:?}, {step}: where it was");
            }
            send(&mut rig, side, RST, end.wrapping_add(5));
            assert_eq!(phase(&rig), "Closing", "{side:?}, {step}: where it is");
        }
    }
}

fn an_old_segment_does_not_take_the_stream_back() {
    let mut rig = connected();
    let end = stream(&mut rig, External, 20, 60_000);
    send(&mut rig, External, ACK, THEIRS + 1);
    send(&mut rig, External, RST, THEIRS + 6);
    assert_eq!(phase(&rig), "Established");
    send(&mut rig, External, RST, end.wrapping_add(5));
    assert_eq!(phase(&rig), "Closing");
}

fn a_segment_far_ahead_does_not_lead_the_stream_astray() {
    let mut rig = connected();
    for off in [0x0020_0000, 0x4000_0000, 0x7fff_0000] {
        let astray = THEIRS.wrapping_add(off);
        send(&mut rig, External, ACK, astray);
        send(&mut rig, External, SYN, astray);
        send(&mut rig, External, RST, astray);
        assert_eq!(phase(&rig), "Established", "{off:#x}");
    }
    send(&mut rig, External, RST, THEIRS + 6);
    assert_eq!(phase(&rig), "Closing");
}

fn a_session_on_which_either_side_goes_on_was_not_reset() {
    for side in [Internal, External] {
        for goes_on in [Internal, External] {
            let mut rig = connected();
            send(&mut rig, side, RST, start(side) + 6);
            assert_eq!(phase(&rig), "Closing");
            send(&mut rig, goes_on, ACK, start(goes_on) + 6);
            assert_eq!(phase(&rig), "Established", "{side:?} resets, {goes_on:?} goes on");
            ends_after(&mut rig, 1_000, 1);
        }
    }
}

fn a_reset_that_comes_again_after_data_is_believed_again() {
    for side in [Internal, External] {
        let mut rig = connected();
        for _ in 0..3 {
            send(&mut rig, side, RST, start(side) + 6);
            assert_eq!(phase(&rig), "Closing");
            send(&mut rig, other(side), ACK, start(other(side)) + 6);
            assert_eq!(phase(&rig), "Established");
        }
        send(&mut rig, side, RST, start(side) + 6);
        // What is answered by a reset does not go on.
        send(&mut rig, other(side), RST, start(other(side)) + 6);
        assert_eq!(phase(&rig), "Closing");
    }
}

fn a_refused_connection_ends_soon_if_the_refusal_acknowledges_the_syn() {
    for (bits, acknowledged, expected) in [
        (RST | ACK, OURS + 6, "Closing"),
        (RST | ACK, OURS.wrapping_sub(0x0100_0000), "Opening"),
        (RST, OURS + 6, "Opening"),
    ] {
        let mut rig = rig();
        rig.open(&segment(Internal, SYN, OURS));
        let refusal =
            header(segment(External, bits, 0), |header| header.acknowledgment_number = acknowledged);
        let delivered = inbound(&refusal.delivered(HOST, 5000)).judged();
        let believed = expected == "Closing";
        rig.expect(External, &refusal, if believed { delivered.telling_the_other() } else { delivered });
        assert_eq!(phase(&rig), expected, "{bits:#x} {acknowledged:#x}");
        // The host tries again and is accepted.
        connect_again(&mut rig, OURS + 0x0200_0000);
        assert_eq!(phase(&rig), "Established");
    }
}

fn connect_again(rig: &mut Rig, ours: u32) {
    send(rig, Internal, SYN, ours);
    send(rig, External, SYN | ACK, THEIRS);
    send(rig, Internal, ACK, ours + 1);
}

fn a_host_may_reset_what_it_has_just_begun() {
    let mut rig = rig();
    rig.open(&segment(Internal, SYN, OURS));
    send(&mut rig, Internal, RST, OURS + 6);
    assert_eq!(phase(&rig), "Closing");
}

fn a_syn_in_the_midst_of_a_connection_passes_and_changes_nothing() {
    for side in [Internal, External] {
        let mut rig = connected();
        send(&mut rig, side, SYN, 0x5555_5555);
        assert_eq!(phase(&rig), "Established");
        // The challenge (RFC 5961 §4.2), and a reset by somebody who does not know the stream.
        send(&mut rig, other(side), ACK, start(other(side)) + 6);
        send(&mut rig, side, RST, 0x5555_5555);
        assert_eq!(phase(&rig), "Established");
        // A host that has forgotten the connection resets it where the challenge says, and begins anew.
        send(&mut rig, side, RST, start(side) + 6);
        assert_eq!(phase(&rig), "Closing");
        send(&mut rig, side, SYN, 0x5555_5555);
        assert_eq!(phase(&rig), if side == Internal { "Opening" } else { "Established" });
    }
}

fn a_tuple_reused_within_time_wait_keeps_its_endpoint_and_begins_anew() {
    let mut rig = connected();
    send(&mut rig, Internal, FIN | ACK, OURS + 6);
    send(&mut rig, External, FIN | ACK, THEIRS + 6);
    send(&mut rig, Internal, ACK, OURS + 12);
    let (ours, theirs) = (OURS + 0x1000_0000, THEIRS.wrapping_add(0x3000_0000));
    send(&mut rig, Internal, SYN, ours);
    send(&mut rig, External, SYN | ACK, theirs);
    send(&mut rig, Internal, ACK, ours + 1);
    assert_eq!(phase(&rig), "Established");
    for (side, old) in [(Internal, OURS), (External, THEIRS)] {
        send(&mut rig, side, RST, old + 12);
        assert_eq!(phase(&rig), "Established", "a reset of the old connection");
    }
    send(&mut rig, External, RST, theirs + 1);
    assert_eq!(phase(&rig), "Closing");
}

/// RFC 5382 REQ-4: silence for six seconds, and by policy for ever.
fn an_unsolicited_syn_is_never_answered_and_does_not_stand_in_the_way() {
    let mut rig = rig();
    let theirs = segment(External, SYN, THEIRS);
    for _ in 0..3 {
        rig.expect(External, &theirs, dropped(Reason::NoSession));
    }
    rig.open(&segment(Internal, SYN, OURS));
    rig.expect(External, &theirs, inbound(&theirs.delivered(HOST, 5000)).judged());
}
