//! Much of everything: parallel downloads and many sessions.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::nginx::{self, Nginx};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer};
use natgw_tests::lab::{ELASTIC_IP, H1, Lab, Node, Plan, S1};

use crate::{Scenario, scenarios};

/// Sessions opened through one Elastic IP.
const SESSIONS: u16 = 10_000;

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => eight_parallel_downloads_of_100_mb_arrive_whole,
        Plan::two_armed() => ten_thousand_sessions_through_one_elastic_ip_are_all_listed,
    ]
}

fn eight_parallel_downloads_of_100_mb_arrive_whole(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    downloads(lab)?;
    gateway.stop()
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
