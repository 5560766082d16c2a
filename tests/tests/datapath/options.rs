//! IPv4 options that are refused. Those that pass are among the tests of translation.

use DropReason as Reason;
use natgw_tests::datapath::{
    Side::{External, Internal},
    *,
};

super::tests![
    options_that_overrun_their_header_are_refused,
    options_that_steer_or_record_the_route_are_refused,
];

fn refuse(cases: &[&[u8]], reason: Reason) {
    let mut rig = Rig::standard();
    for options in cases {
        let with_options = |packet: Packet| {
            packet.with(|packet| packet.ip.options = (*options).try_into().expect("whole words"))
        };
        rig.case(format!("options {options:?}"));
        rig.expect(Internal, &with_options(udp(HOST, 5000, REMOTE, 53)), dropped(reason));
        rig.expect(External, &with_options(udp(REMOTE, 53, ELASTIC_IP, PORT)), dropped(reason));
        // The stack is not shown them either: a source route to the host would lead on from it.
        rig.expect(External, &with_options(udp(REMOTE, 53, EXTERNAL_ADDRESS, 80)), dropped(reason));
    }
}

fn options_that_overrun_their_header_are_refused() {
    let cases: [&[u8]; 9] = [
        &[148, 0, 0, 0],
        &[148, 1, 0, 0],
        &[148, 5, 0, 0],
        &[148, 255, 0, 0],
        &[1, 148, 4, 0],
        &[1, 1, 148, 3],
        &[1, 1, 1, 148],
        &[130, 11, 0, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0, 1, 1, 1, 99],
    ];
    refuse(&cases, Reason::IpOptions);
}

fn options_that_steer_or_record_the_route_are_refused() {
    let cases: [&[u8]; 8] = [
        &[131, 7, 4, 192, 0, 2, 99, 0],
        &[137, 7, 4, 192, 0, 2, 99, 0],
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[1, 1, 1, 131],
        &[148, 4, 0, 0, 131, 3, 4, 0],
        &[1, 131, 3, 4],
        &[131, 0, 0, 0],
    ];
    refuse(&cases, Reason::SourceRoute);
}
