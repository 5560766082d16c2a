//! What a private host learns where the gateway has no way on: by ICMP, and soon (RFC 1812 §4.3.3.1).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::topology::ip;
use natgw_tests::lab::traffic;
use natgw_tests::lab::{Lab, Node, Plan, ROUTER, S1};

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_connection_to_a_neighbour_that_does_not_answer_fails_soon_and_opens_once_it_does,
        Plan::two_armed() => a_connection_by_a_router_that_does_not_answer_fails_soon_and_opens_once_it_does,
        Plan::two_armed() => a_connection_without_a_route_fails_at_once_and_opens_once_there_is_one,
    ]
}

/// An address of the gateway's external link that nobody has at first.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
/// A server that is reached by way of [`NEIGHBOUR`].
const BEYOND: Ipv4Addr = Ipv4Addr::new(198, 18, 7, 7);
const PORT: u16 = 80;
/// The kernel asks three times, a second each, and the client's next SYN comes after 7 s.
const SOON: Duration = Duration::from_secs(8);
/// What needs no waiting for anybody.
const AT_ONCE: Duration = Duration::from_millis(500);

fn a_connection_to_a_neighbour_that_does_not_answer_fails_soon_and_opens_once_it_does(
    lab: &Lab,
) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    fails_until_it_answers(lab, &gateway, NEIGHBOUR)?;
    gateway.detach()
}

fn a_connection_by_a_router_that_does_not_answer_fails_soon_and_opens_once_it_does(lab: &Lab) -> Result<()> {
    // The gateway knows this next hop by its routes, and keeps asking for it by itself.
    ip(&lab.host(Node::Gateway), &format!("route add 198.18.0.0/15 via {NEIGHBOUR}\n"))?;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    fails_until_it_answers(lab, &gateway, BEYOND)?;
    gateway.detach()
}

/// Connects to a server behind a next hop that is not there, gives the router its addresses, and connects again.
fn fails_until_it_answers(lab: &Lab, gateway: &Natgw, server: Ipv4Addr) -> Result<()> {
    lab.host(Node::H1).within(double_pauses)?;
    let failure = failure(lab, server, SOON)?;
    ensure!(failure.kind() == io::ErrorKind::HostUnreachable, "the first connection ends with: {failure}");
    let before = gateway.dropped("no_neighbour")?;
    let begin = Instant::now();
    let failure = self::failure(lab, server, SOON)?;
    ensure!(failure.kind() == io::ErrorKind::HostUnreachable, "the second connection ends with: {failure}");
    ensure!(begin.elapsed() < AT_ONCE, "the second connection fails only after {:?}", begin.elapsed());
    let counted = gateway.dropped("no_neighbour")? - before;
    ensure!(counted == 1, "one SYN was refused as no_neighbour, {counted} are counted");
    let _listener = appear(lab, server)?;
    opens_within(lab, server, Duration::from_secs(2))
}

/// SYNs come after 1, 3 and 7 s, as from most hosts; newer kernels would send one each second.
fn double_pauses() -> Result<()> {
    let file = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";
    // A kernel without it does so anyway.
    if fs::exists(file)? {
        fs::write(file, "0").with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// The router takes the addresses, and a server listens there.
fn appear(lab: &Lab, server: Ipv4Addr) -> Result<TcpListener> {
    let router = lab.host(Node::Router);
    ip(&router, &format!("addr add {NEIGHBOUR}/32 dev gw\naddr add {BEYOND}/32 dev lo\n"))?;
    traffic::listen(&router, (server, PORT))
}

fn a_connection_without_a_route_fails_at_once_and_opens_once_there_is_one(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let _listener = traffic::listen(&lab.host(Node::S1), (S1, PORT))?;
    let host = lab.host(Node::Gateway);
    ip(&host, "route del default\n")?;
    // The routes that it had are remembered until the gateway has learned of the change.
    let deadline = Instant::now() + Duration::from_secs(2);
    while traffic::connect(&lab.host(Node::H1), (S1, PORT), AT_ONCE).is_ok() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let before = gateway.dropped("unreachable")?;
    let begin = Instant::now();
    let failure = failure(lab, S1, SOON)?;
    ensure!(failure.kind() == io::ErrorKind::NetworkUnreachable, "the connection ends with: {failure}");
    ensure!(begin.elapsed() < AT_ONCE, "the connection fails only after {:?}", begin.elapsed());
    let counted = gateway.dropped("unreachable")? - before;
    ensure!(counted == 1, "one SYN was refused as unreachable, {counted} are counted");
    ip(&host, &format!("route add default via {ROUTER}\n"))?;
    opens_within(lab, S1, Duration::from_secs(2))?;
    gateway.detach()
}

/// Why a connection to the server cannot be opened.
fn failure(lab: &Lab, server: Ipv4Addr, limit: Duration) -> Result<io::Error> {
    match traffic::connect(&lab.host(Node::H1), (server, PORT), limit) {
        Err(error) => error.downcast().context("not the socket's error"),
        Ok(_) => bail!("a connection to {server} opens"),
    }
}

/// Tries again and again to connect, as people do.
fn opens_within(lab: &Lab, server: Ipv4Addr, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    loop {
        match traffic::connect(&lab.host(Node::H1), (server, PORT), limit) {
            Ok(_) if begin.elapsed() <= limit => return Ok(()),
            Ok(_) => bail!("a connection to {server} opens only after {:?}", begin.elapsed()),
            Err(error) if begin.elapsed() > limit => {
                return Err(error).with_context(|| format!("no connection to {server} opens"));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
