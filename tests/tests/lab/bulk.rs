//! Much of everything: parallel downloads and many sessions.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::nginx::{self, Nginx};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer};
use natgw_tests::lab::{ELASTIC_IP, H1, Hook, Lab, Node, Plan, S1, check};

use crate::{Scenario, offloads, scenarios};

/// Sessions opened through one Elastic IP.
const SESSIONS: u16 = 10_000;

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => eight_parallel_downloads_of_100_mb_arrive_whole,
        Plan::jumbo() => downloads_and_an_upload_in_jumbo_frames_arrive_whole,
        Plan { hook: Hook::XdpGeneric, ..Plan::jumbo() } => in_generic_xdp_jumbo_frames_arrive_whole_too,
        Plan { external_mtu: 1500, ..Plan::jumbo() } => a_jumbo_frame_too_big_for_the_next_link_is_answered_and_the_upload_goes_on,
        Plan::two_armed() => ten_thousand_sessions_through_one_elastic_ip_are_all_listed,
    ]
}

fn eight_parallel_downloads_of_100_mb_arrive_whole(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    downloads(lab)?;
    gateway.stop()
}

/// The links carry packets of 9,000 bytes, which take several buffers of a driver's.
fn downloads_and_an_upload_in_jumbo_frames_arrive_whole(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    is_at_its_hook(&gateway, lab)?;
    downloads(lab)?;
    let before = offloads::frames_received(lab)?;
    offloads::upload(lab)?;
    let frames = offloads::frames_received(lab)? - before;
    ensure!(
        frames < offloads::UPLOAD as u64 / 8_000,
        "the upload took {frames} frames: they were no jumbo ones"
    );
    gateway.detach()
}

fn in_generic_xdp_jumbo_frames_arrive_whole_too(lab: &Lab) -> Result<()> {
    downloads_and_an_upload_in_jumbo_frames_arrive_whole(lab)
}

fn a_jumbo_frame_too_big_for_the_next_link_is_answered_and_the_upload_goes_on(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    offloads::upload(lab)?;
    let learned = check::learned_mtu(lab, Node::H1, S1)?;
    ensure!(learned == Some(1500), "the private host has learned an MTU of {learned:?}, not 1500");
    gateway.detach()
}

/// In XDP that is the driver's own, which refuses such links to programs that want a frame in one buffer.
fn is_at_its_hook(gateway: &Natgw, lab: &Lab) -> Result<()> {
    let hook = lab.plan().hook;
    let mode = if hook == Hook::Xdp { "xdp-native" } else { hook.mode() };
    let status = gateway.json(&["status"])?;
    for interface in status["interfaces"].as_array().context("status lists no interfaces")? {
        ensure!(
            interface["mode"] == mode,
            "{} is served at {}, not {mode}",
            interface["name"],
            interface["mode"]
        );
    }
    Ok(())
}

/// Eight downloads of 100 MB at once, four on each private host, have the SHA-256 of the original.
pub fn downloads(lab: &Lab) -> Result<()> {
    let nginx = Nginx::start(lab, Node::S1, S1)?;
    let original = nginx.add_random_file(lab, "random", 100_000_000)?;
    let download = format!("curl -sS -m120 http://{S1}/random | sha256sum");
    let nodes = [Node::H1, Node::H2].into_iter().cycle().take(8);
    let running: Vec<_> =
        nodes.map(|node| lab.host(node).spawn(&["sh", "-c", &download])).collect::<Result<_>>()?;
    for process in running {
        let output = process.wait()?;
        let hash = nginx::first_word(&output.stdout)?;
        ensure!(hash == original, "a download arrived as {hash}, not {original}: {}", output.stderr);
    }
    Ok(())
}

fn ten_thousand_sessions_through_one_elastic_ip_are_all_listed(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let server = EchoServer::start(&lab.host(Node::S1), (S1, 9000))?;
    open_sessions(lab)?;
    let clients = server.clients();
    ensure!(
        clients.len() == usize::from(SESSIONS),
        "the server saw {} clients, not {SESSIONS}",
        clients.len()
    );
    ensure!(clients.iter().all(|client| *client.ip() == ELASTIC_IP), "a client is not the Elastic IP");
    let flows = gateway.flows()?;
    let status = gateway.sessions()?;
    ensure!(flows.len() as u64 == status, "flows lists {} sessions, status counts {status}", flows.len());
    let ports: HashSet<u64> = flows
        .iter()
        .filter(|flow| flow["protocol"] == "udp" && flow["destination_port"] == 9000)
        .map(|flow| flow["elastic_port"].as_u64().context("a flow without an elastic_port"))
        .collect::<Result<_>>()?;
    let served: HashSet<u64> = clients.iter().map(|client| u64::from(client.port())).collect();
    ensure!(ports == served, "flows lists {} Elastic IP ports, the server saw {}", ports.len(), served.len());
    gateway.detach()
}

/// One datagram from each of [`SESSIONS`] source ports of one private host to one remote.
fn open_sessions(lab: &Lab) -> Result<()> {
    lab.host(Node::H1).within(|| {
        for port in 20_000..20_000 + SESSIONS {
            let socket =
                std::net::UdpSocket::bind((H1, port)).with_context(|| format!("cannot bind port {port}"))?;
            socket.send_to(b"open", (S1, 9000))?;
            // A breath every so often: the links between the namespaces hold only 256 frames.
            if port % 50 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    })?;
    std::thread::sleep(traffic::ANSWER);
    Ok(())
}
