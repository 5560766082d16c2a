//! The controller's life beside running traffic: reloads, ageing, take-over, detach.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::natgw::{Natgw, Reload};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer, Load};
use natgw_tests::lab::{H1, Lab, Node, Plan, S1, check};

use crate::{Scenario, policy, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_reload_under_load_loses_nothing,
        Plan::two_armed() => a_reload_with_a_broken_file_is_refused_and_the_old_configuration_goes_on,
        Plan::two_armed() => same_queue_on_devices_that_tell_nothing_is_off_and_status_says_why,
        Plan::two_armed() => sessions_age_out_and_their_count_returns_to_zero,
        Plan::two_armed() => a_second_run_takes_over_the_pinned_state,
        Plan::two_armed() => a_second_run_takes_over_from_a_controller_that_still_runs,
        Plan::two_armed() => the_benchmark_measures_both_directions_established_and_new_without_touching_the_gateway,
        Plan::two_armed() => four_privileges_are_enough,
        Plan::two_armed() => flows_and_status_can_be_read_without_a_controller,
        Plan::two_armed() => detach_leaves_nothing_behind,
    ]
}

pub fn a_reload_under_load_loses_nothing(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 2000)?;
    let mut generation = gateway.generation();
    for rule in ["192.0.2.20/32", "192.0.2.21/32", "192.0.2.22/32"] {
        thread::sleep(Duration::from_millis(500));
        let text = settings.clone().route(rule, "blackhole");
        let next = policy::accept(gateway.reload(&text)?)?;
        ensure!(next > generation, "generation {next} follows {generation}");
        generation = next;
    }
    whole(load)?;
    gateway.detach()
}

fn a_reload_with_a_broken_file_is_refused_and_the_old_configuration_goes_on(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let before = gateway.generation();
    let broken = format!("colour = \"blue\"\n{}", settings.to_toml());
    let Reload::Refused(message) = gateway.reload_text(&broken)? else { bail!("a broken file was accepted") };
    ensure!(message.contains("colour"), "the message does not name the field: {message}");
    let status = gateway.json(&["status"])?;
    ensure!(status["generation"] == before, "generation {before} became {}", status["generation"]);
    check::udp(lab)?;
    policy::accept(gateway.reload(&settings)?)?;
    gateway.detach()
}

fn same_queue_on_devices_that_tell_nothing_is_off_and_status_says_why(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    ensure!(!gateway.cli(&["status"])?.stdout.contains("same queue"), "nobody has asked for it");
    let asking = settings.to_toml().replacen("[gateway]", "[gateway]\nsame_queue = true", 1);
    policy::accept(gateway.reload_text(&asking)?)?;
    let status = gateway.json(&["status"])?;
    for interface in status["interfaces"].as_array().context("status lists no interfaces")? {
        let (name, same_queue) = (interface["name"].as_str(), &interface["same_queue"]);
        if name == Some(lab.plan().external()) {
            let why = same_queue["why_not"][0].as_str().unwrap_or_default();
            ensure!(why.contains("driver does not tell"), "the reason is missing: {same_queue}");
        } else {
            ensure!(same_queue.is_null(), "{name:?} is no external interface: {same_queue}");
        }
    }
    let line = format!("same queue {}: off; its driver does not tell", lab.plan().external());
    let text = gateway.cli(&["status"])?.stdout;
    ensure!(text.contains(&line), "{line} is missing in\n{text}");
    check::udp(lab)?;
    gateway.detach()
}

fn sessions_age_out_and_their_count_returns_to_zero(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan()).timeout("udp", 2).timeout("icmp", 2);
    let settings =
        settings.timeout("tcp_established", 2).timeout("tcp_transitory", 2).timeout("tcp_closing", 2);
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    check::udp(lab)?;
    let listener = traffic::listen(&lab.host(Node::S1), (S1, 80))?;
    let _stream = traffic::connect(&lab.host(Node::H1), (S1, 80), traffic::ANSWER)?;
    drop(listener);
    ensure!(gateway.sessions()? >= 2, "the sessions are not counted");
    wait_for_no_session(&gateway, Duration::from_secs(15))?;
    let eips = gateway.json(&["eip", "list"])?;
    ensure!(eips[0]["ports_used"] == 0, "ports are in use without a session: {eips}");
    gateway.detach()
}

fn a_second_run_takes_over_the_pinned_state(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 1000)?;
    thread::sleep(Duration::from_millis(500));
    let port = elastic_port(&gateway, 4001)?;
    let output = gateway.terminate()?;
    ensure!(output.success(), "SIGTERM ended the controller with {}: {}", output.status, output.stderr);
    thread::sleep(Duration::from_millis(500));
    gateway.restart()?;
    thread::sleep(Duration::from_millis(500));
    whole(load)?;
    ensure!(elastic_port(&gateway, 4001)? == port, "the session has another port after the take-over");
    gateway.detach()
}

pub fn a_second_run_takes_over_from_a_controller_that_still_runs(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 1000)?;
    thread::sleep(Duration::from_millis(500));
    let first = gateway.restart()?.context("the first controller is not known")?;
    let output = first.wait()?;
    ensure!(output.success(), "the first controller ended with {}: {}", output.status, output.stderr);
    thread::sleep(Duration::from_millis(500));
    whole(load)?;
    let status = gateway.json(&["status"])?;
    let pid = gateway.pid().context("the second controller is not known")?;
    ensure!(status["controller"]["pid"] == pid.as_raw(), "status names another controller: {status}");
    gateway.detach()
}

fn the_benchmark_measures_both_directions_established_and_new_without_touching_the_gateway(
    lab: &Lab,
) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let before = gateway.sessions()?;
    let report = gateway.json(&["bench", "--sessions", "1,500", "--packets", "20000"])?;
    ensure!(report["empty_ns"].as_f64() > Some(0.0), "no empty program was measured: {report}");
    for sessions in [1, 500] {
        for direction in ["outbound", "inbound"] {
            for kind in ["established", "new"] {
                let wanted = |found: &&serde_json::Value| {
                    found["direction"] == direction && found["kind"] == kind && found["sessions"] == sessions
                };
                let results = report["results"].as_array().context("no results")?;
                let found = results.iter().find(wanted);
                let found =
                    found.with_context(|| format!("no {direction} {kind} at {sessions}: {report}"))?;
                ensure!(
                    found["ns"].as_f64() > report["empty_ns"].as_f64(),
                    "translating costs nothing: {found}"
                );
            }
        }
    }
    ensure!(gateway.sessions()? == before, "the benchmark has opened sessions of the gateway's");
    gateway.detach()
}

fn four_privileges_are_enough(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::absent(lab)?;
    gateway.take_privileges();
    gateway.write(&settings.to_toml())?;
    gateway.restart()?;
    lab.warm_up()?;
    check::udp(lab)?;
    policy::accept(gateway.reload(&settings.route("192.0.2.20/32", "blackhole"))?)?;
    gateway.restart()?;
    check::udp(lab).context("with a second controller")?;
    ensure!(!gateway.flows()?.is_empty(), "no session is listed");
    gateway.dropped("no_session")?;
    gateway.detach()
}

fn flows_and_status_can_be_read_without_a_controller(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    check::udp(lab)?;
    gateway.terminate()?;
    let status = gateway.json(&["status"])?;
    ensure!(status["controller"]["running"] == false, "a controller is said to run: {status}");
    ensure!(!gateway.flows()?.is_empty(), "no session is listed");
    check::udp(lab).context("without a controller")?;
    gateway.detach()
}

fn detach_leaves_nothing_behind(lab: &Lab) -> Result<()> {
    let before = forwarding(lab)?;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    check::udp(lab)?;
    gateway.detach()?;
    let after = forwarding(lab)?;
    ensure!(before == after, "forwarding was {before:?} and is {after:?}");
    let silent = lab.host(Node::H1).try_run(&["ping", "-n", "-c1", "-W1", &S1.to_string()])?;
    ensure!(!silent.success(), "a packet passes without a gateway");
    Ok(())
}

/// The gateway's forwarding switches: all, and each interface.
fn forwarding(lab: &Lab) -> Result<Vec<String>> {
    let interfaces = ["all", "lo", lab.plan().internal(), lab.plan().external()];
    lab.host(Node::Gateway).within(move || {
        let files = interfaces.map(|name| format!("/proc/sys/net/ipv4/conf/{name}/forwarding"));
        files.iter().map(|file| fs::read_to_string(file).with_context(|| file.clone())).collect()
    })
}

/// The Elastic IP port of the session from this source port.
pub fn elastic_port(gateway: &Natgw, source_port: u16) -> Result<u64> {
    let flows = gateway.flows()?;
    let flow = flows.iter().find(|flow| flow["source_port"] == source_port);
    let flow = flow.with_context(|| format!("no session from port {source_port}"))?;
    flow["elastic_port"].as_u64().context("a session without an elastic_port")
}

/// Fails unless every datagram of the load came back.
pub fn whole(load: Load) -> Result<()> {
    let tally = load.stop()?;
    ensure!(tally.sent > 100, "the load sent only {} datagrams", tally.sent);
    let first = tally.missing.first();
    ensure!(tally.missing.is_empty(), "{} of {} are lost, first {first:?}", tally.missing.len(), tally.sent);
    Ok(())
}

/// Waits until `natgw status` counts no session.
pub fn wait_for_no_session(gateway: &Natgw, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let sessions = gateway.sessions()?;
        if sessions == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{sessions} sessions have not aged out in {limit:?}");
        thread::sleep(Duration::from_millis(250));
    }
}
