//! The data plane on single packets: verdict, bytes, counters, drop reasons and sessions. The files are named after
//! the data plane's own; a test's name is what it shows.

mod age;
mod allocate;
mod block;
mod burst;
mod busy;
mod choose;
mod connection;
mod expire;
mod flow;
mod forward;
mod fragment;
mod fuzz;
mod hairpin;
mod host;
mod icmp;
mod icmp_checksum;
mod identification;
mod interface;
mod invariants;
mod mapping;
mod mss;
mod nacl;
mod options;
mod parse;
mod protocol;
mod query;
mod random;
mod reply;
mod reset;
mod route;
mod router;
mod rss;
mod segment;
mod slow;
mod table;
mod traffic;
mod translate;
mod xdp;

use std::{env, panic, process::ExitCode, thread};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nat_userspace::host::preflight::KernelVersion;
use natgw_tests::datapath::Hook;
use nix::{sys::utsname::uname, unistd::Uid};

/// Tests of frames that the TC hook never sees so, or that the kernel does not run its programs on: with a VLAN tag
/// among their bytes, without a whole IP header, or in several buffers; and of what only XDP does.
const XDP_ONLY: [&str; 28] = [
    "two_processors_that_open_sessions_at_once_never_share_an_endpoint",
    "a_session_is_opened_once_by_two_processors_that_carry_its_first_packets_at_once",
    "two_processors_that_open_the_same_sessions_count_each_once",
    "frames_in_several_buffers_are_translated_both_ways",
    "a_frame_in_several_buffers_is_as_long_as_all_of_them",
    "a_frame_in_several_buffers_for_the_host_is_counted_whole",
    "a_frame_in_several_buffers_too_big_for_the_next_link_is_answered",
    "an_answer_quotes_across_buffers",
    "a_header_beyond_the_first_buffer_is_refused",
    "an_error_whose_quote_is_beyond_the_first_buffer_is_refused_or_translated_right",
    "the_tag_of_a_vlan_is_taken_off_outbound_and_put_back_inbound",
    "the_priority_of_a_tag_changes_nothing",
    "a_priority_tag_names_no_vlan_and_is_taken_off",
    "an_error_about_a_session_of_a_vlan_is_tagged",
    "between_subnets_the_tag_changes_with_the_subnet",
    "a_local_route_may_be_narrowed",
    "ipv6_for_anybody_else_is_refused",
    "invariant_1_no_internal_address_ever_leaves_on_an_external_interface",
    "invariant_1_nothing_but_what_is_for_the_host_is_handed_to_its_stack",
    "invariant_8_every_packet_is_counted_exactly_once",
    "invariant_1_without_a_configuration_nothing_is_forwarded_or_handed_on",
    "invariant_2_an_outside_packet_never_creates_state",
    "invariant_9_no_frame_makes_the_program_fail_or_a_refused_frame_change",
    "a_frame_that_ends_within_its_headers_is_too_short",
    "plain_packets_are_sent_ahead_with_nothing_but_their_mark_changed",
    "what_is_not_plain_is_translated_at_once",
    "what_does_not_leave_where_nearly_all_do_is_translated_at_once",
    "with_several_private_interfaces_what_comes_in_is_translated_at_once",
];

/// Tests that choose how many bytes a frame's first buffer holds, which the kernel's `BPF_PROG_TEST_RUN` can since 6.18.
const SPLIT: [&str; 3] = [
    "an_answer_quotes_across_buffers",
    "a_header_beyond_the_first_buffer_is_refused",
    "an_error_whose_quote_is_beyond_the_first_buffer_is_refused_or_translated_right",
];
/// Tests of what only TC may not know.
const TC_ONLY: [&str; 1] = ["where_the_queue_is_not_known_answers_are_spread_over_all_queues"];

fn main() -> ExitCode {
    let obstacle = (!Uid::effective().is_root()).then_some("run them as root");
    let in_ci = env::var("CI").is_ok_and(|value| value == "true");
    if let (Some(reason), false) = (obstacle, in_ci) {
        eprintln!("the data-plane tests are ignored: {reason}");
    }
    let trials = [
        age::trials(),
        allocate::trials(),
        busy::trials(),
        choose::trials(),
        connection::trials(),
        expire::trials(),
        block::trials(),
        burst::trials(),
        flow::trials(),
        forward::trials(),
        fragment::trials(),
        fuzz::trials(),
        host::trials(),
        hairpin::trials(),
        icmp::trials(),
        icmp_checksum::trials(),
        identification::trials(),
        interface::trials(),
        invariants::trials(),
        mapping::trials(),
        mss::trials(),
        nacl::trials(),
        options::trials(),
        parse::trials(),
        protocol::trials(),
        query::trials(),
        reply::trials(),
        reset::trials(),
        route::trials(),
        router::trials(),
        rss::trials(),
        segment::trials(),
        slow::trials(),
        table::trials(),
        translate::trials(),
        xdp::trials(),
    ];
    let trials =
        trials.into_iter().flatten().flat_map(at_each_hook).map(|(name, hook, test)| match obstacle {
            None if SPLIT.contains(&&*name) && !splits() => Trial::ignorable_test(name, || {
                Ok(Completion::ignored_with("needs Linux 6.18 or later to split frames"))
            }),
            None => Trial::test(name, move || in_own_thread(hook, test)),
            Some(reason) => Trial::test(name, move || Err(Failed::from(reason))).with_ignored_flag(!in_ci),
        });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Whether this kernel lets a test choose what a frame's first buffer holds.
fn splits() -> bool {
    let release = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    KernelVersion::from_release(&release) >= Some(KernelVersion { major: 6, minor: 18 })
}

/// Every test runs at XDP, and once more at TC unless it is about XDP alone.
fn at_each_hook((name, test): Test) -> Vec<(String, Hook, fn())> {
    if TC_ONLY.contains(&name) {
        return vec![(format!("{name}_on_tc"), Hook::Tc, test)];
    }
    let mut trials = vec![(name.to_owned(), Hook::Xdp, test)];
    if !XDP_ONLY.contains(&name) {
        trials.push((format!("{name}_on_tc"), Hook::Tc, test));
    }
    trials
}

/// Every test enters a network namespace of its own, which ends with its thread.
fn in_own_thread(hook: Hook, test: fn()) -> Result<(), Failed> {
    let test = move || {
        hook.take();
        test();
    };
    match thread::spawn(test).join() {
        Ok(()) => Ok(()),
        Err(cause) => panic::resume_unwind(cause),
    }
}

/// A test's name, a sentence of behaviour, and what it does; it fails by panicking.
type Test = (&'static str, fn());

/// Lists tests by the names of their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<crate::Test> {
            vec![$((stringify!($name), $name as fn())),+]
        }
    };
}
pub(crate) use tests;
