//! Bursts: most packets are sent ahead, to be translated together, and nobody can tell.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::stream::StreamEcho;
use natgw_tests::lab::traffic::{EchoServer, Load, connect, udp_socket};
use natgw_tests::lab::{GATEWAY_EXTERNAL, GATEWAY_INTERNAL, H1, Hook, Lab, Node, Plan, S1, check};

use crate::control::whole;
use crate::{Scenario, policy, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    let plan = Plan { hook: Hook::Bursts, ..Plan::two_armed() };
    scenarios![
        plan => every_packet_of_a_session_is_sent_ahead_in_both_directions,
        plan => what_is_for_the_host_is_not_sent_ahead,
        plan => beginning_and_ending_bursts_under_load_loses_nothing,
        plan => an_address_that_the_host_gets_is_not_sent_ahead_any_more,
        plan => nothing_is_sent_ahead_to_an_interface_that_is_down,
        plan => bursts_begin_with_many_sessions_and_end_with_few,
        plan => without_a_controller_packets_are_translated_one_by_one,
        Plan { hook: Hook::Bursts, ..Plan::one_armed() } => on_one_interface_there_are_no_bursts_and_status_says_why,
    ]
}

const LIMIT: Duration = Duration::from_secs(4);

/// What `natgw status` says of bursts: whether they are on, and why.
fn bursts(gateway: &Natgw) -> Result<(bool, String)> {
    let status = gateway.json(&["status"])?;
    let on = status["bursts"]["on"].as_bool().context("status does not tell of bursts")?;
    Ok((on, status["bursts"]["why"].as_str().unwrap_or_default().to_owned()))
}

/// Waits until bursts are on, or off.
fn wait_for(gateway: &Natgw, on: bool, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        let (now, why) = bursts(gateway)?;
        if now == on {
            return Ok(());
        }
        ensure!(begin.elapsed() < limit, "bursts are on: {now}, and not {on}, after {limit:?}: {why}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn sent_ahead(gateway: &Natgw) -> Result<u64> {
    gateway.json(&["status"])?["counters"]["sent_ahead"].as_u64().context("status has no such counter")
}

/// A gateway whose bursts have begun.
fn start(lab: &Lab) -> Result<Natgw> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    Ok(gateway)
}

fn every_packet_of_a_session_is_sent_ahead_in_both_directions(lab: &Lab) -> Result<()> {
    let gateway = start(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let before = sent_ahead(&gateway)?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 500)?;
    thread::sleep(Duration::from_secs(1));
    let tally = load.stop()?;
    ensure!(tally.missing.is_empty(), "{} datagrams of {} are missing", tally.missing.len(), tally.sent);
    let ahead = sent_ahead(&gateway)? - before;
    ensure!(ahead >= 2 * tally.sent, "of {} datagrams and their answers {ahead} were sent ahead", tally.sent);
    let before = sent_ahead(&gateway)?;
    let _server = StreamEcho::start(&lab.host(Node::S1), (S1, 8_000))?;
    connect(&lab.host(Node::H1), (S1, 8_000), LIMIT)?;
    ensure!(sent_ahead(&gateway)? >= before + 3, "the three segments of a handshake were not sent ahead");
    gateway.detach()
}

fn what_is_for_the_host_is_not_sent_ahead(lab: &Lab) -> Result<()> {
    let gateway = start(lab)?;
    let before = sent_ahead(&gateway)?;
    for (node, address) in [(Node::H1, GATEWAY_INTERNAL), (Node::S1, GATEWAY_EXTERNAL)] {
        let _server = StreamEcho::start(&lab.host(Node::Gateway), (address, 8_000))?;
        connect(&lab.host(node), (address, 8_000), LIMIT)
            .with_context(|| format!("to the gateway's own {address}"))?;
    }
    ensure!(sent_ahead(&gateway)? == before, "the host's own packets were sent ahead");
    gateway.detach()
}

fn beginning_and_ending_bursts_under_load_loses_nothing(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = start(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 2_000)?;
    for when in ["never", "always", "never", "always"] {
        policy::accept(gateway.reload(&settings.clone().bursts(when))?)?;
        wait_for(&gateway, when == "always", LIMIT)?;
        thread::sleep(Duration::from_millis(200));
    }
    whole(load)?;
    gateway.detach()
}

fn an_address_that_the_host_gets_is_not_sent_ahead_any_more(lab: &Lab) -> Result<()> {
    let gateway = start(lab)?;
    let host = lab.host(Node::Gateway);
    // In the /16 of a server: what goes there was sent ahead until now.
    host.run(&["ip", "address", "add", "192.0.77.1/32", "dev", lab.plan().internal()])?;
    thread::sleep(Duration::from_secs(2));
    wait_for(&gateway, true, LIMIT)?;
    let before = sent_ahead(&gateway)?;
    let _server = StreamEcho::start(&host, ([192, 0, 77, 1].into(), 8_000))?;
    connect(&lab.host(Node::H1), ([192, 0, 77, 1].into(), 8_000), LIMIT).context("to the new address")?;
    ensure!(sent_ahead(&gateway)? == before, "the host's own packets were sent ahead");
    check::udp(lab)?;
    gateway.detach()
}

fn nothing_is_sent_ahead_to_an_interface_that_is_down(lab: &Lab) -> Result<()> {
    let gateway = start(lab)?;
    let (host, device) = (lab.host(Node::Gateway), lab.plan().external());
    for (state, is_down) in [("down", true), ("up", false)] {
        host.run(&["ip", "link", "set", "dev", device, state])?;
        let begin = Instant::now();
        while bursts(&gateway)?.1.contains("is down") != is_down {
            ensure!(begin.elapsed() < LIMIT, "{device} is {state}, and status says {:?}", bursts(&gateway)?);
            thread::sleep(Duration::from_millis(50));
        }
    }
    ensure!(bursts(&gateway)?.0, "bursts have not begun again");
    gateway.detach()
}

fn bursts_begin_with_many_sessions_and_end_with_few(lab: &Lab) -> Result<()> {
    const PORTS: u64 = 1_000;
    let settings = Settings::of(lab.plan()).bursts("auto").timeout("udp", 4);
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let (on, why) = bursts(&gateway)?;
    ensure!(!on, "bursts are on with hardly a session: {why}");
    let many = why.rsplit("from ").next().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let many = many.with_context(|| format!("status does not say with how many they begin: {why}"))?;
    let sockets: Vec<UdpSocket> = (0..many.div_ceil(PORTS))
        .map(|number| udp_socket(&lab.host(Node::H1), (H1, 20_000 + number as u16)))
        .collect::<Result<_>>()?;
    for socket in &sockets {
        for port in 0..PORTS as u16 {
            // Who answers that nobody listens is heard here.
            let _ = socket.send_to(b"open", (S1, 30_000 + port));
        }
    }
    wait_for(&gateway, true, LIMIT)?;
    check::udp(lab)?;
    wait_for(&gateway, false, 4 * LIMIT)?;
    check::udp(lab)?;
    gateway.detach()
}

fn without_a_controller_packets_are_translated_one_by_one(lab: &Lab) -> Result<()> {
    let mut gateway = start(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 1_000)?;
    thread::sleep(Duration::from_millis(300));
    let output = gateway.terminate()?;
    ensure!(output.success(), "SIGTERM ended the controller with {}: {}", output.status, output.stderr);
    let before = sent_ahead(&gateway)?;
    thread::sleep(Duration::from_millis(300));
    whole(load)?;
    ensure!(sent_ahead(&gateway)? == before, "packets are sent ahead still");
    ensure!(!bursts(&gateway)?.0, "status says that they are");
    gateway.detach()
}

fn on_one_interface_there_are_no_bursts_and_status_says_why(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    check::udp(lab)?;
    let (on, why) = bursts(&gateway)?;
    ensure!(!on && why.contains("one by one"), "{why}");
    gateway.detach()
}
