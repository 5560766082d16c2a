//! ICMP errors, in both directions.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::traffic;
use natgw_tests::lab::{H1, Lab, Node, Plan, S1, check};

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_port_unreachable_from_outside_reaches_the_internal_socket,
        Plan { transit_mtu: 1300, ..Plan::two_armed() } => a_private_host_learns_the_mtu_of_a_link_beyond_the_router,
        Plan { external_mtu: 1400, ..Plan::two_armed() } => the_gateway_tells_the_mtu_of_its_own_external_interface,
    ]
}

fn a_port_unreachable_from_outside_reaches_the_internal_socket(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    port_unreachable(lab)?;
    gateway.stop()
}

fn a_private_host_learns_the_mtu_of_a_link_beyond_the_router(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    learn_mtu(lab, 1300)?;
    gateway.stop()
}

fn the_gateway_tells_the_mtu_of_its_own_external_interface(lab: &Lab) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    learn_mtu(lab, 1400)?;
    gateway.stop()
}

/// A datagram to a closed port of an outside server ends as ECONNREFUSED at the internal socket that sent it.
pub fn port_unreachable(lab: &Lab) -> Result<()> {
    let socket = traffic::udp_socket(&lab.host(Node::H1), (H1, 0))?;
    socket.connect((S1, 4))?;
    socket.send(b"anybody home?")?;
    match socket.recv(&mut [0; 16]) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => bail!("no ICMP error reached the socket: {error}"),
        Ok(_) => bail!("a closed port answered"),
    }
}

/// A datagram too large for the path makes the internal host learn `mtu`; what fits then passes.
pub fn learn_mtu(lab: &Lab, mtu: u32) -> Result<()> {
    ensure!(check::learned_mtu(lab, Node::H1, S1)?.is_none(), "an MTU is known before the first packet");
    let _server = traffic::EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let socket = traffic::udp_socket(&lab.host(Node::H1), (H1, 0))?;
    socket.send_to(&[0; 1472], (S1, 7))?;
    let deadline = Instant::now() + Duration::from_secs(3);
    while check::learned_mtu(lab, Node::H1, S1)?.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let learned = check::learned_mtu(lab, Node::H1, S1)?.context("the private host has learned no MTU")?;
    ensure!(learned == mtu, "the private host has learned an MTU of {learned}, not {mtu}");
    let largest = vec![7; usize::try_from(mtu)? - 28];
    ensure!(
        traffic::exchange(&socket, (S1, 7), &largest)?,
        "a datagram that fills the MTU of {mtu} does not pass"
    );
    Ok(())
}
