//! Links that leave segmentation and checksums to whoever needs them, as virtual machines and containers have them.
//!
//! What arrives there is not checked by the receiver. Where a checksum must be right, the gateway's own interface
//! completes it, and the receiver's kernel checks it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::nginx::Nginx;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, ANSWER};
use natgw_tests::lab::{H1, Hook, Lab, Node, Plan, S1, check};

use crate::{Scenario, bulk, errors, reach, scenarios};

/// Bytes of an [`upload`].
pub const UPLOAD: usize = 64_000_000;

/// Two arms, TC, offloads on.
const PLAN: Plan = Plan { hook: Hook::Tc, offloads: true, ..Plan::two_armed() };

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        PLAN => with_offloads_everything_works_on_tc,
        PLAN => with_offloads_eight_parallel_downloads_arrive_whole_on_tc,
        PLAN => with_offloads_an_upload_arrives_whole_in_packets_larger_than_the_mtu_on_tc,
        PLAN => with_offloads_checksums_are_right_once_completed_on_tc,
        Plan { external_mtu: 1400, ..PLAN } => with_offloads_a_smaller_mtu_is_told_and_the_upload_goes_on_on_tc,
        Plan { transit_mtu: 1300, ..PLAN } => with_offloads_the_mtu_of_a_link_beyond_the_router_is_learned_on_tc,
        Plan { hook: Hook::Auto, ..PLAN } => auto_takes_tc_for_veth_and_status_says_why,
    ]
}

fn with_offloads_everything_works_on_tc(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    reach::everything(lab)?;
    errors::port_unreachable(lab)?;
    gateway.stop()
}

fn with_offloads_eight_parallel_downloads_arrive_whole_on_tc(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    bulk::downloads(lab)?;
    gateway.stop()
}

fn with_offloads_an_upload_arrives_whole_in_packets_larger_than_the_mtu_on_tc(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let before = frames_received(lab)?;
    upload(lab)?;
    let frames = frames_received(lab)? - before;
    ensure!(
        frames < UPLOAD as u64 / 4_000,
        "the upload took {frames} frames: segmentation was not left to the end"
    );
    let status = gateway.json(&["status"])?;
    let counted = status["counters"]["outbound_packets"].as_u64().context("no counter outbound_packets")?;
    ensure!(counted > UPLOAD as u64 / 1_500, "{counted} packets are counted, fewer than a wire would carry");
    gateway.detach()
}

/// The gateway's interfaces complete checksums, so that both ends check what natgw has left of them: of translated
/// packets and of its own ICMP errors.
fn with_offloads_checksums_are_right_once_completed_on_tc(lab: &Lab) -> Result<()> {
    for interface in [lab.plan().internal(), lab.plan().external()] {
        lab.host(Node::Gateway).run(&["ethtool", "-K", interface, "tx", "off"])?;
    }
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    let nginx = Nginx::start(lab, Node::S1, S1)?;
    check::page(lab, &nginx)?;
    check::udp(lab)?;
    check::traceroute(lab)?;
    check::traceroute_by_tcp(lab, 80)?;
    gateway.stop()
}

fn with_offloads_a_smaller_mtu_is_told_and_the_upload_goes_on_on_tc(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    upload(lab)?;
    let learned = check::learned_mtu(lab, Node::H1, S1)?;
    ensure!(learned == Some(1400), "the private host has learned an MTU of {learned:?}, not 1400");
    gateway.stop()
}

fn with_offloads_the_mtu_of_a_link_beyond_the_router_is_learned_on_tc(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    errors::learn_mtu(lab, 1300)?;
    gateway.stop()
}

fn auto_takes_tc_for_veth_and_status_says_why(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let status = gateway.json(&["status"])?;
    let interfaces = status["interfaces"].as_array().context("status lists no interfaces")?;
    ensure!(interfaces.len() == 2, "status lists {} interfaces, not 2", interfaces.len());
    for interface in interfaces {
        ensure!(interface["mode"] == "tc", "auto has chosen {}", interface["mode"]);
        let why = interface["why"].as_str().unwrap_or_default();
        ensure!(why.contains("veth"), "the reason does not name the kind of device: {why}");
    }
    gateway.detach()
}

/// Sends [`UPLOAD`] bytes by TCP from a private host to an outside server, which must get exactly these.
pub fn upload(lab: &Lab) -> Result<()> {
    let listener = traffic::listen(&lab.host(Node::S1), (S1, 5001))?;
    let sent = pattern();
    let received = thread::spawn(move || -> Result<Vec<u8>> {
        let mut all = Vec::with_capacity(UPLOAD);
        listener.accept()?.0.read_to_end(&mut all)?;
        Ok(all)
    });
    let mut stream = traffic::connect(&lab.host(Node::H1), (S1, 5001), ANSWER)?;
    stream.write_all(&sent).context("the upload from the private host stalls")?;
    stream.shutdown(Shutdown::Write)?;
    let received = received.join().map_err(|_| anyhow::anyhow!("the server has panicked"))??;
    ensure!(received == sent, "{} bytes from {H1} arrived as {} others", sent.len(), received.len());
    Ok(())
}

/// Bytes that repeat at no power of two.
fn pattern() -> Vec<u8> {
    (0..UPLOAD).map(|at| (at % 251) as u8 ^ (at / 65_521) as u8).collect()
}

/// Frames that the gateway's internal interface has received.
pub fn frames_received(lab: &Lab) -> Result<u64> {
    let links =
        lab.host(Node::Gateway).run(&["ip", "-j", "-s", "link", "show", "dev", lab.plan().internal()])?;
    let links: serde_json::Value = serde_json::from_str(&links.stdout)?;
    links[0]["stats64"]["rx"]["packets"].as_u64().context("ip tells no received packets")
}
