//! Ports that run short: told before sessions fail, and to whoever fails.

use std::{
    io::{ErrorKind, Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::{
    ELASTIC_IP, H1, H2, Lab, Node, Plan, S1,
    natgw::Natgw,
    settings::Settings,
    traffic::{self, EchoServer},
};
use serde_json::json;

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => ports_that_run_short_are_told_with_destination_and_holder_before_sessions_fail,
        Plan::two_armed() => a_client_that_finds_no_port_is_told_at_once,
        Plan::two_armed() => all_64512_sessions_toward_one_remote_open_at_their_first_datagram_and_the_next_is_told,
    ]
}

/// Ports of the Elastic IP.
const PORTS: u16 = 100;
const FIRST: u16 = 5_000;

fn gateway(lab: &Lab) -> Result<Natgw> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).ports(FIRST, FIRST + PORTS - 1))?;
    lab.wait_for_ping(Node::H1, S1)?;
    Ok(gateway)
}

/// Opens sessions of H1 with the echo server until there are `count`.
fn open(lab: &Lab, sockets: &mut Vec<UdpSocket>, count: u16) -> Result<()> {
    while sockets.len() < usize::from(count) {
        let socket = traffic::udp_socket(&lab.host(Node::H1), (H1, 30_000 + sockets.len() as u16))?;
        ensure!(traffic::exchange(&socket, (S1, 7), b"a port, please")?, "session {} fails", sockets.len());
        sockets.push(socket);
    }
    Ok(())
}

/// Waits for `text` in the controller's log.
fn wait_for_log(gateway: &Natgw, text: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !gateway.log().contains(text) {
        ensure!(Instant::now() < deadline, "the log does not say `{text}`:\n{}", gateway.log());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn ports_that_run_short_are_told_with_destination_and_holder_before_sessions_fail(lab: &Lab) -> Result<()> {
    let gateway = gateway(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let mut sockets = Vec::new();
    open(lab, &mut sockets, 70)?;
    thread::sleep(Duration::from_secs(2));
    ensure!(!gateway.log().contains("ports run short"), "told too early:\n{}", gateway.log());
    open(lab, &mut sockets, 80)?;
    wait_for_log(&gateway, "ports run short: 80 %")?;
    wait_for_log(&gateway, &format!("most by {H1} (80)"))?;
    open(lab, &mut sockets, 95)?;
    wait_for_log(&gateway, "ports run short: 95 %")?;
    let told = gateway.log().matches("ports run short").count();
    ensure!(told == 2, "told {told} times:\n{}", gateway.log());
    let expected = json!({
        "elastic_ip": ELASTIC_IP, "destination": format!("{S1}:7"), "protocol": "udp",
        "ports_used": 95, "ports_free": 5, "hosts": [{ "host": H1, "ports": 95 }],
    });
    let status = gateway.json(&["status"])?;
    ensure!(status["busiest_destinations"][0] == expected, "{}", status["busiest_destinations"]);
    let listed = gateway.json(&["eip", "list"])?;
    ensure!(listed[0]["busiest"] == expected, "{listed}");
    let metrics = metrics(&gateway)?;
    let line = format!(
        "natgw_destination_ports_used{{elastic_ip=\"{ELASTIC_IP}\",destination=\"{S1}:7\",protocol=\"udp\"}} 95"
    );
    ensure!(metrics.lines().any(|found| found == line), "the metrics lack {line}:\n{metrics}");
    open(lab, &mut sockets, PORTS)?;
    ensure!(gateway.dropped("error_port_allocation")? == 0, "a session failed although ports were free");
    gateway.detach()
}

/// What Prometheus would read.
fn metrics(gateway: &Natgw) -> Result<String> {
    let mut stream = UnixStream::connect(gateway.socket()).context("the API is not served")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: natgw\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    Ok(answer)
}

fn a_client_that_finds_no_port_is_told_at_once(lab: &Lab) -> Result<()> {
    let gateway = gateway(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let mut sockets = Vec::new();
    open(lab, &mut sockets, PORTS)?;
    let one_more = traffic::udp_socket(&lab.host(Node::H1), (H1, 29_999))?;
    one_more.connect((S1, 7))?;
    one_more.set_read_timeout(Some(Duration::from_secs(2)))?;
    one_more.send(b"a port, please")?;
    match one_more.recv(&mut [0; 64]) {
        Err(error) if error.kind() == ErrorKind::HostUnreachable => {}
        answer => bail!("the client got {answer:?} and not communication administratively prohibited"),
    }
    ensure!(gateway.dropped("error_port_allocation")? == 1, "the refused session is not counted");
    let drops = gateway.json(&["drops"])?;
    let named = drops.to_string().contains(&format!("\"destination\":\"{S1}\",\"destination_port\":7"));
    ensure!(named, "the refusal does not name its destination: {drops}");
    gateway.detach()
}

fn all_64512_sessions_toward_one_remote_open_at_their_first_datagram_and_the_next_is_told(
    lab: &Lab,
) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.wait_for_ping(Node::H1, S1)?;
    lab.wait_for_ping(Node::H2, S1)?;
    lab.host(Node::H1).within(|| {
        // One socket after the other: a session outlives its socket.
        for port in 1_024..=u16::MAX {
            UdpSocket::bind((H1, port))?.send_to(b"a port, please", (S1, 9))?;
        }
        Ok(())
    })?;
    let busiest = || Ok::<_, anyhow::Error>(gateway.json(&["status"])?["busiest_destinations"][0].clone());
    let used = busiest()?;
    ensure!(used["ports_used"] == 64_512 && used["ports_free"] == 0, "{used}");
    ensure!(gateway.dropped("error_port_allocation")? == 0, "a session failed although ports were free");
    let one_more = traffic::udp_socket(&lab.host(Node::H2), (H2, 30_000))?;
    one_more.connect((S1, 9))?;
    one_more.send(b"a port, please")?;
    let answer = one_more.recv(&mut [0; 64]).map_err(|error| error.kind());
    ensure!(answer == Err(ErrorKind::HostUnreachable), "the client got {answer:?}");
    ensure!(gateway.dropped("error_port_allocation")? == 1, "the refused session is not counted");
    gateway.detach()
}
