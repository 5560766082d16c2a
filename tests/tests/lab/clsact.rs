//! TC by a filter of the clsact qdisc, as on kernels before 6.6, which have no TCX.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::{self, Natgw};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{EchoServer, Load};
use natgw_tests::lab::{H1, Hook, Lab, Node, Plan, S1, check};

use crate::{Scenario, bulk, control, errors, invariants, offloads, reach, scenarios};

const PLAN: Plan = Plan { hook: Hook::Clsact, ..Plan::two_armed() };

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        PLAN => by_clsact_everything_works_and_status_says_so,
        Plan { hook: Hook::Clsact, ..Plan::one_armed() } => by_clsact_one_interface_serves_both_sides,
        Plan { offloads: true, ..PLAN } => by_clsact_with_offloads_downloads_and_an_upload_arrive_whole,
        PLAN => by_clsact_no_internal_source_leaves_while_the_gateway_starts_reloads_and_detaches,
        PLAN => by_clsact_a_controller_killed_under_load_and_started_again_costs_no_packet,
        PLAN => by_clsact_a_second_run_takes_over_from_a_controller_that_still_runs,
        PLAN => by_clsact_a_reload_under_load_loses_nothing,
        PLAN => a_change_between_tcx_and_clsact_keeps_the_sessions,
        PLAN => by_clsact_detach_leaves_nothing_behind,
        PLAN => detach_leaves_anothers_filters_and_qdisc_alone,
        PLAN => a_filter_of_another_kind_in_the_first_place_is_refused_and_left_alone,
        PLAN => another_gateways_filter_is_refused_and_left_alone,
        PLAN => a_filter_that_was_removed_by_hand_is_added_again,
        PLAN => detach_in_another_namespace_says_that_the_filter_stays,
    ]
}

fn by_clsact_everything_works_and_status_says_so(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    reach::everything(lab)?;
    errors::port_unreachable(lab)?;
    let status = gateway.json(&["status"])?;
    for interface in status["interfaces"].as_array().context("status lists no interfaces")? {
        ensure!(interface["mode"] == "tc", "the mode is {}", interface["mode"]);
        let why = interface["why"].as_str().unwrap_or_default();
        ensure!(why.contains("clsact"), "the reason does not speak of clsact: {why}");
    }
    gateway.detach()
}

fn by_clsact_one_interface_serves_both_sides(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    reach::everything(lab)?;
    gateway.stop()
}

fn by_clsact_with_offloads_downloads_and_an_upload_arrive_whole(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    bulk::downloads(lab)?;
    offloads::upload(lab)?;
    gateway.stop()
}

fn by_clsact_no_internal_source_leaves_while_the_gateway_starts_reloads_and_detaches(
    lab: &Lab,
) -> Result<()> {
    invariants::start_reload_detach(lab)
}

fn by_clsact_a_controller_killed_under_load_and_started_again_costs_no_packet(lab: &Lab) -> Result<()> {
    invariants::invariant_5_a_controller_killed_under_load_and_started_again_costs_no_packet(lab)
}

fn by_clsact_a_second_run_takes_over_from_a_controller_that_still_runs(lab: &Lab) -> Result<()> {
    control::a_second_run_takes_over_from_a_controller_that_still_runs(lab)
}

fn by_clsact_a_reload_under_load_loses_nothing(lab: &Lab) -> Result<()> {
    control::a_reload_under_load_loses_nothing(lab)
}

/// The kernel stops an interface's queue for some milliseconds when a clsact qdisc comes or goes.
fn a_change_between_tcx_and_clsact_keeps_the_sessions(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 1000)?;
    thread::sleep(Duration::from_millis(300));
    let before = control::elastic_port(&gateway, 4001)?;
    for way in ["tcx", "clsact", "tcx"] {
        thread::sleep(Duration::from_millis(300));
        gateway.terminate()?;
        gateway.restart_with(&["--tc-attach", way])?;
        let by_filter = filters(lab, lab.plan().internal(), "ingress")?.contains("natgw_tc");
        ensure!(by_filter == (way == "clsact"), "there is {by_filter} a filter with {way}");
    }
    thread::sleep(Duration::from_millis(300));
    let after = control::elastic_port(&gateway, 4001)?;
    ensure!(after == before, "the session's port was {before} and is {after}");
    let tally = load.stop()?;
    ensure!(
        tally.missing.len() as u64 * 20 < tally.sent,
        "{} of {} are lost",
        tally.missing.len(),
        tally.sent
    );
    gateway.detach()?;
    nothing_remains(lab)
}

fn by_clsact_detach_leaves_nothing_behind(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    ensure!(filters(lab, lab.plan().external(), "ingress")?.contains("natgw_tc"), "there is no filter");
    gateway.detach()?;
    nothing_remains(lab)?;
    let silent = lab.host(Node::H1).try_run(&["ping", "-n", "-c1", "-W1", &S1.to_string()])?;
    ensure!(!silent.success(), "a packet passes without a gateway");
    Ok(())
}

/// One interface has another's qdisc and filter before natgw comes; on the other, another puts its filter on the qdisc
/// that natgw has made.
fn detach_leaves_anothers_filters_and_qdisc_alone(lab: &Lab) -> Result<()> {
    let (internal, external) = (lab.plan().internal(), lab.plan().external());
    tc(lab, &["qdisc", "add", "dev", internal, "clsact"])?;
    foreign_filter(lab, internal, "ingress", "7")?;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    foreign_filter(lab, external, "egress", "1")?;
    check::udp(lab)?;
    gateway.detach()?;
    for (interface, direction) in [(internal, "ingress"), (external, "egress")] {
        ensure!(filters(lab, interface, direction)?.contains("u32"), "{interface} has lost another's filter");
        let ours = filters(lab, interface, "ingress")?;
        ensure!(!ours.contains("natgw_tc"), "natgw's filter stays on {interface}: {ours}");
    }
    tc(lab, &["filter", "del", "dev", internal, "ingress", "prio", "7"])?;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    gateway.detach()?;
    ensure!(qdiscs(lab, internal)?.contains("clsact"), "natgw has removed another's qdisc");
    Ok(())
}

fn a_filter_of_another_kind_in_the_first_place_is_refused_and_left_alone(lab: &Lab) -> Result<()> {
    let internal = lab.plan().internal();
    tc(lab, &["qdisc", "add", "dev", internal, "clsact"])?;
    foreign_filter(lab, internal, "ingress", "1")?;
    refused(lab, "priority 1")?;
    ensure!(filters(lab, internal, "ingress")?.contains("u32"), "another's filter is gone");
    ensure!(!qdiscs(lab, lab.plan().external())?.contains("clsact"), "a qdisc is left after a refusal");
    Ok(())
}

fn another_gateways_filter_is_refused_and_left_alone(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let pins = gateway.pins().with_file_name(format!("{}-second", lab.id()));
    let pins = pins.to_string_lossy();
    let config = gateway.config().to_string_lossy().into_owned();
    let binary = natgw::binary()?;
    let run = [&binary.to_string_lossy(), "--pin-dir", &pins, "run", "--config", &config];
    let output = lab.host(Node::Gateway).try_run(&[&run[..], &["--tc-attach", "clsact"]].concat());
    let _ = std::fs::remove_dir_all(&*pins);
    let output = output?;
    ensure!(output.status.code() == Some(2), "it ended with {}", output.status);
    ensure!(output.stderr.contains("another gateway"), "the message is {}", output.stderr);
    check::udp(lab)?;
    gateway.detach()?;
    nothing_remains(lab)
}

fn a_filter_that_was_removed_by_hand_is_added_again(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    gateway.kill9();
    tc(lab, &["filter", "del", "dev", lab.plan().internal(), "ingress"])?;
    tc(lab, &["qdisc", "del", "dev", lab.plan().external(), "clsact"])?;
    gateway.restart()?;
    check::udp(lab)?;
    gateway.detach()?;
    nothing_remains(lab)
}

fn detach_in_another_namespace_says_that_the_filter_stays(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    gateway.terminate()?;
    let (binary, pins) = (natgw::binary()?, gateway.pins().to_owned());
    let detach = [&binary.to_string_lossy(), "--pin-dir", &pins.to_string_lossy(), "detach"];
    let output = lab.host(Node::Router).try_run(&detach)?;
    ensure!(output.success() && !pins.exists(), "it ended with {}: {}", output.status, output.stderr);
    for interface in [lab.plan().internal(), lab.plan().external()] {
        let remedy = format!("tc filter del dev {interface} ingress prio 1");
        ensure!(output.stderr.contains(&remedy), "the message is {}", output.stderr);
        tc(lab, &remedy.split_whitespace().skip(1).collect::<Vec<_>>())?;
        ensure!(!filters(lab, interface, "ingress")?.contains("natgw_tc"), "the remedy does not help");
    }
    Ok(())
}

/// A start is refused with a message that says `what`.
fn refused(lab: &Lab, what: &str) -> Result<()> {
    let gateway = Natgw::absent(lab)?;
    gateway.write(&Settings::of(lab.plan()).to_toml())?;
    let config = gateway.config().to_string_lossy().into_owned();
    let output = gateway.cli(&["run", "--config", &config, "--tc-attach", "clsact"])?;
    ensure!(output.status.code() == Some(2), "it ended with {}", output.status);
    ensure!(output.stderr.contains(what), "the message is {}", output.stderr);
    gateway.assert_nothing_attached()
}

/// Neither a filter nor a qdisc of natgw's.
fn nothing_remains(lab: &Lab) -> Result<()> {
    for interface in [lab.plan().internal(), lab.plan().external()] {
        let qdiscs = qdiscs(lab, interface)?;
        ensure!(!qdiscs.contains("clsact"), "a qdisc remains on {interface}: {qdiscs}");
    }
    Ok(())
}

/// A filter that lets everything pass.
fn foreign_filter(lab: &Lab, interface: &str, direction: &str, priority: &str) -> Result<()> {
    let head = ["filter", "add", "dev", interface, direction, "prio", priority];
    let rest = ["protocol", "all", "u32", "match", "u8", "0", "0", "flowid", "1:1"];
    tc(lab, &[&head[..], &rest].concat()).map(drop)
}

fn filters(lab: &Lab, interface: &str, direction: &str) -> Result<String> {
    tc(lab, &["filter", "show", "dev", interface, direction])
}

fn qdiscs(lab: &Lab, interface: &str) -> Result<String> {
    tc(lab, &["qdisc", "show", "dev", interface])
}

fn tc(lab: &Lab, arguments: &[&str]) -> Result<String> {
    Ok(lab.host(Node::Gateway).run(&[&["tc"], arguments].concat())?.stdout)
}
