//! The lab's scenarios: the real `natgw` between real clients and servers.
//!
//! Each runs in a lab of its own; after it, the captures must hold no bad checksum and no internal address outside.
//! What cannot run here is reported as ignored, with the reason; with `CI=true` it fails.

mod ageing;
mod amended;
mod baseline;
mod bulk;
mod bursts;
mod clsact;
mod connection;
mod control;
mod discovery;
mod drain;
mod errors;
mod fairness;
mod fragments;
mod invariants;
mod measuring;
mod offloads;
mod policy;
mod protocols;
mod reach;
mod refusal;
mod sample;
mod shared;
mod shortage;
mod unreachable;

use std::env;
use std::path::Path;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use natgw_tests::lab::{Hook, Lab, Plan, natgw, sweep};

/// One scenario: a lab built from `plan`, and what happens in it.
struct Scenario {
    name: String,
    plan: Plan,
    needs_natgw: bool,
    body: fn(&Lab) -> Result<()>,
}

impl Scenario {
    /// A scenario that asks for XDP runs once more at TC, which must look the same from outside.
    fn at_each_hook(self) -> Vec<Self> {
        if !self.needs_natgw || self.plan.hook != Hook::Xdp {
            return vec![self];
        }
        let in_bursts = IN_BURSTS.contains(&self.name.as_str()).then(|| self.at(Hook::Bursts, "in_bursts"));
        let on_tc = self.at(Hook::Tc, "on_tc");
        [self, on_tc].into_iter().chain(in_bursts).collect()
    }

    /// The same scenario at another hook, which its name ends with.
    fn at(&self, hook: Hook, suffix: &str) -> Self {
        let plan = Plan { hook, ..self.plan };
        Self { name: format!("{}_{suffix}", self.name), plan, needs_natgw: self.needs_natgw, body: self.body }
    }
}

/// Scenarios that run with packets translated in bursts too: those in which packets take every way there is out of the
/// program at the end of a burst, and those in which bursts begin and end.
const IN_BURSTS: [&str; 15] = [
    "a_private_host_fetches_a_page_and_the_web_server_sees_the_elastic_ip",
    "a_traceroute_shows_the_gateway_and_the_router",
    "a_syn_a_datagram_and_a_ping_from_outside_to_the_elastic_ip_get_nothing",
    "the_gateway_tells_the_mtu_of_its_own_external_interface",
    "a_host_that_goes_on_with_a_session_that_was_idle_too_long_is_reset",
    "a_reload_under_load_loses_nothing",
    "a_second_run_takes_over_the_pinned_state",
    "a_second_run_takes_over_from_a_controller_that_still_runs",
    "four_privileges_are_enough",
    "detach_leaves_nothing_behind",
    "invariant_1_no_internal_source_leaves_while_the_gateway_starts_reloads_and_detaches",
    "invariant_1_no_internal_source_leaves_when_ports_are_exhausted",
    "invariant_2_an_outside_packet_never_creates_state",
    "invariant_5_a_controller_killed_under_load_and_started_again_costs_no_packet",
    "invariant_8_everything_refused_is_counted_and_seen",
];

/// A list of scenarios, each `plan => function`, named after their functions.
macro_rules! scenarios {
    ($($plan:expr => $body:ident),+ $(,)?) => {
        vec![$(crate::Scenario { name: stringify!($body).to_owned(), plan: $plan, needs_natgw: true, body: $body }),+]
    };
}
use scenarios;

/// Programs that the scenarios call.
const TOOLS: [&str; 11] = [
    "ip",
    "tc",
    "ethtool",
    "nft",
    "nginx",
    "curl",
    "ping",
    "traceroute",
    "setpriv",
    "sha256sum",
    "turnserver",
];

fn main() {
    sweep::prepare();
    let mut arguments = Arguments::from_args();
    // Every lab wants the whole machine for itself.
    arguments.test_threads.get_or_insert(1);
    let scenarios = [
        baseline::scenarios(),
        reach::scenarios(),
        errors::scenarios(),
        fairness::scenarios(),
        fragments::scenarios(),
        bulk::scenarios(),
        bursts::scenarios(),
        offloads::scenarios(),
        clsact::scenarios(),
        connection::scenarios(),
        policy::scenarios(),
        control::scenarios(),
        discovery::scenarios(),
        drain::scenarios(),
        invariants::scenarios(),
        refusal::scenarios(),
        shared::scenarios(),
        shortage::scenarios(),
        unreachable::scenarios(),
        protocols::scenarios(),
        amended::scenarios(),
        ageing::scenarios(),
    ];
    let scenarios = scenarios.into_iter().flatten().flat_map(Scenario::at_each_hook).map(trial);
    let trials = scenarios.chain(measuring::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(scenario: Scenario) -> Trial {
    let (name, needs_natgw) = (scenario.name.clone(), scenario.needs_natgw);
    privileged(&name, needs_natgw, move || perform(&scenario))
}

/// A test that is left out, with the reason, where it cannot run.
fn privileged(name: &str, needs_natgw: bool, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match obstacle(needs_natgw) {
        Some(reason) if env::var("CI").is_ok_and(|value| value == "true") => Err(Failed::from(reason)),
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => match body() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        },
    })
}

fn perform(scenario: &Scenario) -> Result<()> {
    let lab = Lab::new(scenario.plan)?;
    (scenario.body)(&lab)?;
    lab.verify_captures()
}

/// Why a scenario cannot run here, if so.
fn obstacle(needs_natgw: bool) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root for network namespaces; run it with sudo".to_owned());
    }
    if let Some(tool) = TOOLS.iter().find(|tool| !is_installed(tool)) {
        return Some(format!("{tool} is not installed; `cargo xtask setup` brings it"));
    }
    if needs_natgw { natgw::binary().err().map(|error| error.to_string()) } else { None }
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .any(|directory| directory.join(tool).is_file())
}
