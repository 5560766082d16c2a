//! Random packets through the data plane and a model of a NAT, which share no code.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use natgw_tests::{
    fuzz::{Machine, Options, Report, fuzz, parse, print},
    model::Mutation,
};

super::tests![
    random_packets_leave_the_data_plane_as_they_leave_a_model_of_a_nat,
    every_mistake_made_on_purpose_in_the_model_is_found,
    nothing_is_disagreed_on_twice,
];

fn options(seed: u64, packets: u64) -> Options {
    Options { seed, packets, time: Duration::MAX }
}

fn random_packets_leave_the_data_plane_as_they_leave_a_model_of_a_nat() {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
    let mut machine = Machine::new(None);
    for (seed, packets) in [(1, 40_000), (today << 32, 10_000)] {
        let Report { packets: sent, failure, .. } = fuzz(&mut machine, &options(seed, packets));
        if let Some(failure) = failure {
            let (seed, what) = (failure.seed, failure.disagreement.what);
            panic!("seed {seed}: {what}\nwhat is left of it:\n{}", print(&failure.steps));
        }
        assert!(sent >= packets);
    }
}

fn every_mistake_made_on_purpose_in_the_model_is_found() {
    let mut machine = Machine::new(None);
    for mutation in Mutation::ALL {
        machine.mistake(Some(*mutation));
        let report = fuzz(&mut machine, &options(1, 100_000));
        let failure = report.failure.unwrap_or_else(|| panic!("{mutation:?} is not found"));
        // What is left of it shows the mistake, if not with every choice of ports, and nothing else.
        assert!((0..50).any(|_| machine.run(&failure.steps).is_err()), "{mutation:?}");
        machine.mistake(None);
        assert!(machine.run(&failure.steps).is_ok(), "{mutation:?}");
    }
}

/// What was disagreed on once, and mended: the files of tests/regressions.
fn nothing_is_disagreed_on_twice() {
    let mut machine = Machine::new(None);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files = 0;
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("the directory can be read").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is text");
        let steps = parse(&text).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        files += 1;
        // The data plane may choose other ports each time.
        for _ in 0..10 {
            if let Err(disagreement) = machine.run(&steps) {
                panic!("{}, step {}: {}", path.display(), disagreement.step, disagreement.what);
            }
        }
    }
    assert!(files > 0, "there are no regressions");
}
