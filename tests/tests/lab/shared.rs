//! The Elastic IP is the gateway host's own address: both use it, and neither disturbs the other.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer, Load};
use natgw_tests::lab::{ELASTIC_IP, GATEWAY_EXTERNAL, H1, Lab, Node, Plan, S1};

use crate::{Scenario, scenarios};

/// The ports asked for, and those among them that the host holds from the beginning.
const PORTS: (u16, u16) = (20_000, 20_299);
const TCP_SERVICE: u16 = 20_100;
const UDP_SERVICE: u16 = 20_200;
const CLIENT: u16 = 20_250;
/// The remote that everybody talks to.
const REMOTE: (Ipv4Addr, u16) = (S1, 9_000);
/// Sessions that private hosts open toward it: nearly all that there are ports for.
const SESSIONS: u16 = 290;
/// Until the controller has read the host's sockets again.
const REREAD: Duration = Duration::from_secs(15);

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => on_a_shared_address_the_hosts_own_traffic_and_hundreds_of_sessions_go_on_side_by_side,
        Plan::two_armed() => on_a_shared_address_a_port_that_the_host_binds_later_is_not_lent_any_more,
        Plan::two_armed() => on_a_shared_address_the_ephemeral_range_of_the_host_is_spared_without_being_told,
    ]
}

/// A gateway whose Elastic IP is its external interface's address.
fn start(lab: &Lab, settings: &Settings) -> Result<Natgw> {
    let text = settings.to_toml().replace(&ELASTIC_IP.to_string(), &GATEWAY_EXTERNAL.to_string());
    let mut gateway = Natgw::absent(lab)?;
    gateway.write(&text)?;
    gateway.restart()?;
    lab.warm_up()?;
    Ok(gateway)
}

fn on_a_shared_address_the_hosts_own_traffic_and_hundreds_of_sessions_go_on_side_by_side(
    lab: &Lab,
) -> Result<()> {
    let host = lab.host(Node::Gateway);
    let listener = traffic::listen(&host, (Ipv4Addr::UNSPECIFIED, TCP_SERVICE))?;
    let _service = EchoServer::start(&host, (GATEWAY_EXTERNAL, UDP_SERVICE))?;
    let _remote = EchoServer::start(&lab.host(Node::S1), REMOTE)?;
    let gateway = start(lab, &Settings::of(lab.plan()).ports(PORTS.0, PORTS.1))?;
    let client = Load::start(&host, (GATEWAY_EXTERNAL, CLIENT), REMOTE, 200)?;
    not_lent(&gateway, CLIENT)?;
    let _sockets = open(lab)?;
    let taken = ports_of_sessions(&gateway)?;
    ensure!(taken.len() == usize::from(SESSIONS), "{} sessions have a port, not {SESSIONS}", taken.len());
    for own in [TCP_SERVICE, UDP_SERVICE, CLIENT] {
        ensure!(!taken.contains(&own.into()), "a session has port {own} of the host");
    }
    tcp_service(lab, &listener)?;
    let outside = traffic::udp_socket(&lab.host(Node::S1), (S1, 0))?;
    ensure!(
        traffic::exchange(&outside, (GATEWAY_EXTERNAL, UDP_SERVICE), b"service")?,
        "the UDP service is silent"
    );
    lab.wait_for_ping(Node::S1, GATEWAY_EXTERNAL)?;
    ephemeral_client(lab)?;
    let tally = client.stop()?;
    ensure!(tally.missing.is_empty(), "the host's client lost {} of {}", tally.missing.len(), tally.sent);
    gateway.detach()
}

fn on_a_shared_address_a_port_that_the_host_binds_later_is_not_lent_any_more(lab: &Lab) -> Result<()> {
    let host = lab.host(Node::Gateway);
    let _remote = EchoServer::start(&lab.host(Node::S1), REMOTE)?;
    let gateway = start(lab, &Settings::of(lab.plan()).ports(PORTS.0, PORTS.1))?;
    let session = traffic::udp_socket(&lab.host(Node::H1), (H1, 0))?;
    ensure!(traffic::exchange(&session, REMOTE, b"first")?, "no session opens");
    let held = ports_of_sessions(&gateway)?.into_iter().next().context("no session is listed")?;
    let _listener = traffic::listen(&host, (GATEWAY_EXTERNAL, TCP_SERVICE))?;
    let _on_held = traffic::udp_socket(&host, (Ipv4Addr::UNSPECIFIED, u16::try_from(held)?))?;
    not_lent(&gateway, TCP_SERVICE)?;
    not_lent(&gateway, u16::try_from(held)?)?;
    ensure!(traffic::exchange(&session, REMOTE, b"second")?, "the session on a port bound since is cut");
    // Toward another remote the port would be free.
    let _other = EchoServer::start(&lab.host(Node::S1), (S1, REMOTE.1 + 1))?;
    let _sockets = open_toward(lab, (S1, REMOTE.1 + 1))?;
    let taken = ports_toward(&gateway, REMOTE.1 + 1)?;
    ensure!(taken.len() == usize::from(SESSIONS), "{} sessions have a port, not {SESSIONS}", taken.len());
    ensure!(!taken.contains(&held) && !taken.contains(&TCP_SERVICE.into()), "a bound port was lent anew");
    gateway.detach()
}

fn on_a_shared_address_the_ephemeral_range_of_the_host_is_spared_without_being_told(lab: &Lab) -> Result<()> {
    let host = lab.host(Node::Gateway);
    host.run(&["sysctl", "-qw", "net.ipv4.ip_local_port_range=30000 39999"])?;
    let _listener = traffic::listen(&host, (Ipv4Addr::UNSPECIFIED, 8080))?;
    let gateway = start(lab, &Settings::of(lab.plan()))?;
    let listed = listed(&gateway)?;
    ensure!(listed == "1024-8079,8081-29999,40000-65535", "{listed} are lent");
    gateway.detach()
}

/// Opens [`SESSIONS`] sessions toward [`REMOTE`]; their sockets.
fn open(lab: &Lab) -> Result<Vec<UdpSocket>> {
    open_toward(lab, REMOTE)
}

fn open_toward(lab: &Lab, remote: (Ipv4Addr, u16)) -> Result<Vec<UdpSocket>> {
    let host = lab.host(Node::H1);
    let open = |_| {
        let socket = traffic::udp_socket(&host, (H1, 0))?;
        ensure!(traffic::exchange(&socket, remote, b"open")?, "a session does not open");
        Ok(socket)
    };
    (0..SESSIONS).map(open).collect()
}

/// Fetches a line from the host's own TCP service, from outside.
fn tcp_service(lab: &Lab, listener: &std::net::TcpListener) -> Result<()> {
    let far = Duration::from_secs(3);
    let mut outside = traffic::connect(&lab.host(Node::S1), (GATEWAY_EXTERNAL, TCP_SERVICE), far)?;
    let (mut own, _) = listener.accept()?;
    echo(&mut own, &mut outside).context("from the host's service")?;
    echo(&mut outside, &mut own).context("to the host's service")
}

/// The host's own client, from a port that the kernel picks, talks to a server outside.
fn ephemeral_client(lab: &Lab) -> Result<()> {
    let server = traffic::listen(&lab.host(Node::S1), (S1, 8_000))?;
    let mut client = traffic::connect(&lab.host(Node::Gateway), (S1, 8_000), Duration::from_secs(3))?;
    let (mut accepted, _) = server.accept()?;
    echo(&mut client, &mut accepted).context("from the host's client")?;
    echo(&mut accepted, &mut client).context("to the host's client")
}

fn echo(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    from.write_all(b"hello")?;
    let mut bytes = [0; 5];
    to.set_read_timeout(Some(traffic::ANSWER))?;
    to.read_exact(&mut bytes)?;
    ensure!(&bytes == b"hello", "{bytes:?} came");
    Ok(())
}

fn ports_of_sessions(gateway: &Natgw) -> Result<HashSet<u64>> {
    ports_toward(gateway, REMOTE.1)
}

/// The ports of the shared address that sessions toward this port of the remote have.
fn ports_toward(gateway: &Natgw, port: u16) -> Result<HashSet<u64>> {
    let flows = gateway.flows()?;
    let there = flows.iter().filter(|flow| flow["destination_port"] == port);
    there.map(|flow| flow["elastic_port"].as_u64().context("a flow without an elastic_port")).collect()
}

/// The ports lent, as `natgw eip list` tells them.
fn listed(gateway: &Natgw) -> Result<String> {
    let list = gateway.json(&["eip", "list"])?;
    ensure!(list[0]["shared"] == true, "the address is not called shared: {list}");
    Ok(list[0]["ports"].as_str().context("no ports")?.to_owned())
}

/// Waits until `port` is lent no more.
fn not_lent(gateway: &Natgw, port: u16) -> Result<()> {
    let deadline = Instant::now() + REREAD;
    loop {
        let ports = listed(gateway)?;
        let mut ranges = ports.split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
        let holds = |(first, last): (&str, &str)| {
            first.parse().is_ok_and(|first: u16| first <= port)
                && last.parse().is_ok_and(|last: u16| port <= last)
        };
        if !ranges.any(holds) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "port {port} is still lent: {ports}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
