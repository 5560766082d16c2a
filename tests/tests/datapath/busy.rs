//! The port maps of busy remotes, as the controller keeps them beside the data plane.

use std::net::Ipv4Addr;

use nat_userspace::datapath::BusyRemotes;
use natgw_tests::datapath::{Side::Internal, *};

super::tests![
    a_port_map_that_was_completed_knows_every_session_and_who_holds_it,
    the_ports_of_sessions_that_end_are_given_back,
    a_port_map_that_was_put_away_is_not_missed,
    remotes_with_few_sessions_have_no_port_map,
];

/// Ports of the Elastic IP.
const PORTS: u16 = 2_048;

/// Another host behind `int0`.
const THIRD_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 12);

fn rig() -> Rig {
    Rig::with(&Layout::with_ports("20000-22047"))
}

fn open(rig: &mut Rig, host: Ipv4Addr, sessions: u16) {
    for port in 1..=sessions {
        let verdict = rig.send(Internal, &udp(host, port, REMOTE, 53)).verdict;
        assert_eq!(verdict, Verdict::Redirect, "session {port}: {:?}", rig.state().drops());
    }
}

fn busy(rig: &Rig) -> BusyRemotes {
    BusyRemotes::new(rig.maps()).expect("the port maps can be mapped")
}

fn a_port_map_that_was_completed_knows_every_session_and_who_holds_it() {
    let mut rig = rig();
    open(&mut rig, HOST, 1_000);
    open(&mut rig, SECOND_HOST, 700);
    let busy = busy(&rig);
    let [(number, remote)] = busy.all()[..] else { panic!("one remote is busy: {:?}", busy.all()) };
    assert_eq!(
        (remote.elastic_ip, remote.remote.map(|remote| remote.to_string())),
        (ELASTIC_IP, Some(format!("{REMOTE}:53")))
    );
    assert!((100..1_700).contains(&remote.taken), "it knows only of later sessions: {remote:?}");
    busy.complete(number);
    assert_eq!(busy.all()[0].1.taken, 1_700);
    assert_eq!(busy.holders(number), [(HOST, 1_000), (SECOND_HOST, 700)]);
    busy.complete(number);
    assert_eq!(busy.all()[0].1.taken, 1_700, "once more changes nothing");
    open(&mut rig, THIRD_HOST, PORTS - 1_700);
    assert_eq!(busy.all()[0].1.taken, u32::from(PORTS));
}

fn the_ports_of_sessions_that_end_are_given_back() {
    let mut rig = rig();
    open(&mut rig, HOST, 1_500);
    let busy = busy(&rig);
    busy.complete(busy.all()[0].0);
    assert_eq!(rig.age(400), (1_500, 0));
    assert_eq!(busy.all()[0].1.taken, 0);
    open(&mut rig, SECOND_HOST, PORTS);
}

fn a_port_map_that_was_put_away_is_not_missed() {
    let mut rig = rig();
    open(&mut rig, HOST, 1_500);
    let busy = busy(&rig);
    let (number, _) = busy.all()[0];
    assert!(busy.retire(number) && !busy.retire(number));
    assert_eq!((busy.all().len(), busy.retired().collect::<Vec<_>>()), (0, vec![number]));
    busy.free(number);
    assert_eq!(busy.retired().count(), 0);
    open(&mut rig, SECOND_HOST, PORTS - 1_500);
    assert_eq!(rig.sessions().len(), usize::from(PORTS));
    let refused = rig.send(Internal, &udp(SECOND_HOST, PORTS, REMOTE, 53)).verdict;
    assert_eq!(refused, Verdict::Tx.at_this_hook());
    assert_eq!(busy.all().len(), 1, "it has begun anew");
}

fn remotes_with_few_sessions_have_no_port_map() {
    let mut rig = Rig::with(&Layout::with_ports("1024-65535"));
    for port in 1..=2_000 {
        rig.send(Internal, &udp(HOST, port, REMOTE, 53));
        rig.send(Internal, &udp(HOST, port, REMOTE_2, 53));
    }
    // Four guesses at a range of which 3 % are taken fail together once in a million sessions.
    assert_eq!(busy(&rig).all(), []);
}
