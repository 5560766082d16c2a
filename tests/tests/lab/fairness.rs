//! What one host may take: limits that leave the others their share, and blocks of ports that tell who is who.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::{
    ELASTIC_IP, H1, H2, Lab, Node, Plan, S1,
    natgw::Natgw,
    settings::Settings,
    traffic::{self, EchoServer},
};
use serde_json::json;

use crate::{Scenario, policy::accept, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_host_that_opens_sessions_as_fast_as_it_can_leaves_another_all_of_its_own,
        Plan::two_armed() => blocks_of_ports_tell_who_is_who_and_are_logged,
    ]
}

/// The configuration with these fields of its NAT gateway.
fn with(settings: &Settings, fields: &str) -> String {
    settings.to_toml().replace("[[nat_gateway]]\n", &format!("[[nat_gateway]]\n{fields}\n"))
}

/// Opens one session after the other, each by a datagram from a port of its own.
fn flood(stop: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let port = 1_024 + (sent % 60_000) as u16;
        if let Ok(socket) = UdpSocket::bind((H1, port)) {
            sent += u32::from(socket.send_to(b"one more", (S1, 7)).is_ok());
        }
    }
    sent
}

/// Opens so many sessions of H2 with the echo server; how many were answered.
fn open(lab: &Lab, first_port: u16, count: u16) -> Result<u16> {
    let mut answered = 0;
    for port in first_port..first_port + count {
        let socket = traffic::udp_socket(&lab.host(Node::H2), (H2, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        answered += u16::from(traffic::exchange(&socket, (S1, 7), b"mine")?);
    }
    Ok(answered)
}

fn a_host_that_opens_sessions_as_fast_as_it_can_leaves_another_all_of_its_own(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan()).ports(40_000, 40_999);
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let limits = "max_ports_per_destination = 600\nmax_sessions_per_host = 2000\n\
                  new_sessions_per_second_per_host = 500";
    accept(gateway.reload_text(&with(&settings, limits))?)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let stop = Arc::clone(&stop);
        lab.host(Node::H1).thread(move || flood(&stop))
    };
    std::thread::sleep(Duration::from_millis(1_500));
    let answered = open(lab, 20_000, 300);
    stop.store(true, Ordering::Relaxed);
    let Ok(sent) = flood.join() else { bail!("the flood has panicked") };
    let sent = sent?;
    let answered = answered?;
    ensure!(answered == 300, "{answered} of the second host's 300 sessions were answered");
    ensure!(sent > 5_000, "the first host has sent {sent} datagrams only");
    let (by_rate, by_port) = (gateway.dropped("host_rate_limit")?, gateway.dropped("host_port_limit")?);
    ensure!(by_rate > 0 && by_port > 0, "{by_rate} were refused by rate, {by_port} by destination");
    ensure!(gateway.dropped("error_port_allocation")? == 0, "a session found no port");
    gateway.detach()
}

/// A port of the Elastic IP that a session of `host` has.
fn port_of(gateway: &Natgw, host: Ipv4Addr) -> Result<String> {
    let flows = gateway.flows()?;
    let own =
        flows.iter().find(|flow| flow["source"] == json!(host.to_string()) && flow["protocol"] == "udp");
    Ok(own.with_context(|| format!("{host} has no session"))?["elastic_port"].to_string())
}

fn blocks_of_ports_tell_who_is_who_and_are_logged(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    accept(gateway.reload_text(&with(&settings, "block_size = 64\nmax_blocks = 2"))?)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    for (node, host) in [(Node::H1, H1), (Node::H2, H2)] {
        let socket = traffic::udp_socket(&lab.host(node), (host, 30_000))?;
        ensure!(traffic::exchange(&socket, (S1, 7), b"who am I")?, "{host} gets no answer");
        let port = port_of(&gateway, host)?;
        let found = gateway.json(&["eip", "who", &ELASTIC_IP.to_string(), "--port", &port])?;
        ensure!(
            found[0]["host"] == json!(host.to_string()) && found[0]["by"] == "block",
            "{port} is {found}"
        );
        ensure!(found.as_array().is_some_and(|found| found.len() == 1), "more than one has {port}: {found}");
        let line = format!("block of ports lent host={host}");
        ensure!(gateway.log().contains(&line), "`{line}` is not logged:\n{}", gateway.log());
    }
    let nobody = gateway.cli(&["eip", "who", &ELASTIC_IP.to_string(), "--port", "80"])?;
    ensure!(nobody.status.code() == Some(1), "port 80 is somebody's: {}", nobody.stdout);
    accept(gateway.reload_text(&with(&settings, "block_size = 64\ndeterministic = true"))?)?;
    let computed = gateway.json(&["eip", "who", &ELASTIC_IP.to_string(), "--port", "1100"])?;
    ensure!(computed[0]["host"] == "10.0.1.1" && computed[0]["by"] == "computed", "1100 is {computed}");
    gateway.detach()
}
