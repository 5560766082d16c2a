//! TCP segments of every kind pass as they are: windows, options, urgent data, congestion bits, probes (RFC 5382 REQ-2,
//! RFC 9293 MUST-5 and MUST-30).

use natgw_tests::datapath::{
    Side::{External, Internal},
    flags::ACK,
};

use crate::connection::{connected, header, pass, phase, segment, start};

super::tests![segments_of_every_kind_pass_as_they_are];

/// What makes a segment of some kind of a plain one.
type Change = fn(&mut etherparse::TcpHeader);

fn segments_of_every_kind_pass_as_they_are() {
    let mut rig = connected();
    for side in [Internal, External] {
        let (bare, data) = (start(side) + 1, segment(side, ACK, start(side) + 1));
        let changes: [(&str, Change); 8] = [
            ("zero window", |header| header.window_size = 0),
            ("urgent data", |header| {
                header.urg = true;
                header.urgent_pointer = 3;
            }),
            ("an urgent pointer without URG", |header| header.urgent_pointer = 0xffff),
            ("CWR and ECE", |header| {
                header.cwr = true;
                header.ece = true;
            }),
            ("AE", |header| header.ns = true),
            ("unknown options", |header| {
                let options = [253, 6, 1, 2, 3, 4, 30, 4, 0, 1, 34, 2, 99, 3, 7, 1, 1, 0, 0, 0];
                header.set_options_raw(&options).expect("they fit");
            }),
            ("timestamps and SACK", |header| {
                let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9];
                header.set_options_raw(&options).expect("they fit");
            }),
            ("push", |header| header.psh = true),
        ];
        for (name, change) in changes {
            rig.case(format!("{side:?}: {name}"));
            pass(&mut rig, side, &header(data.clone(), change));
        }
        rig.case(format!("{side:?}: keep-alives and window probes"));
        for content in [&b""[..], b"\0"] {
            pass(&mut rig, side, &segment(side, ACK, bare - 2).payload(content));
            pass(&mut rig, side, &segment(side, ACK, bare + 5).payload(content));
        }
        rig.case(format!("{side:?}: no flags at all"));
        pass(&mut rig, side, &segment(side, 0, bare));
    }
    rig.case("");
    assert_eq!(phase(&rig), "Established");
}
