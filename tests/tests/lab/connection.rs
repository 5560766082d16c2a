//! The life of TCP connections between real sockets: what ends a session, and who learns of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, ANSWER};
use natgw_tests::lab::{ELASTIC_IP, H1, Lab, Node, Plan, S1};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use crate::control::{elastic_port, wait_for_no_session};
use crate::{Scenario, sample, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_host_that_goes_on_with_a_session_that_was_idle_too_long_is_reset,
        Plan::two_armed() => both_ends_of_a_session_that_was_idle_too_long_are_reset_as_it_ends,
        Plan::two_armed() => with_idle_reset_off_nobody_learns_of_an_end,
        Plan::two_armed() => a_server_sends_on_for_long_after_the_host_has_closed_its_side,
        Plan::two_armed() => a_port_is_used_again_while_the_server_waits_with_the_same_endpoint,
        Plan::two_armed() => a_reset_by_somebody_who_guesses_ends_nothing,
    ]
}

/// How long a session may take to be aged, and its ends to learn of it.
const SOON: Duration = Duration::from_secs(15);
const SERVER: (Ipv4Addr, u16) = (S1, 80);

/// Settings by which what the lab warms up with ends soon.
fn short_of_the_warm_up(lab: &Lab) -> Settings {
    Settings::of(lab.plan()).timeout("udp", 2).timeout("icmp", 2)
}

/// A gateway whose established sessions end after two seconds.
fn forgetful(lab: &Lab, idle_reset: &'static str) -> Result<Natgw> {
    let settings = short_of_the_warm_up(lab).timeout("tcp_established", 2).gateway(idle_reset);
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    Ok(gateway)
}

/// Both ends of a connection that has carried data both ways.
fn converse(lab: &Lab, listener: &TcpListener) -> Result<[TcpStream; 2]> {
    let mut client = traffic::connect(&lab.host(Node::H1), SERVER, ANSWER)?;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(ANSWER))?;
    exchange(&mut client, &mut server)?;
    Ok([client, server])
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream) -> Result<()> {
    say(client, server).context("to the server")?;
    say(server, client).context("to the host")
}

fn say(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    from.write_all(b"hello")?;
    let mut bytes = [0; 5];
    to.read_exact(&mut bytes).context("nothing came")?;
    ensure!(&bytes == b"hello", "{bytes:?} came");
    Ok(())
}

/// Waits for something to read: `None` where nothing came.
fn fate(stream: &mut TcpStream) -> Result<Option<ErrorKind>> {
    match stream.read(&mut [0; 16]) {
        Ok(length) => bail!("{length} bytes came"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Ok(Some(error.kind())),
    }
}

fn a_host_that_goes_on_with_a_session_that_was_idle_too_long_is_reset(lab: &Lab) -> Result<()> {
    let gateway = forgetful(lab, "")?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let [mut client, mut server] = converse(lab, &listener)?;
    wait_for_no_session(&gateway, SOON)?;
    ensure!(fate(&mut client)?.is_none(), "the host learns of it before it sends");
    client.write_all(b"still there?")?;
    let begin = Instant::now();
    ensure!(fate(&mut client)? == Some(ErrorKind::ConnectionReset), "the host is not reset");
    ensure!(begin.elapsed() < Duration::from_millis(500), "it took {:?}", begin.elapsed());
    ensure!(fate(&mut server)?.is_none(), "the server has heard something");
    let sent = gateway.json(&["status"])?["counters"]["resets_sent"].as_u64();
    ensure!(sent == Some(1), "{sent:?} resets are counted");
    gateway.detach()
}

fn both_ends_of_a_session_that_was_idle_too_long_are_reset_as_it_ends(lab: &Lab) -> Result<()> {
    let gateway = forgetful(lab, "idle_reset = \"at-expiry\"")?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let [mut client, mut server] = converse(lab, &listener)?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(SOON))?;
    }
    let begin = Instant::now();
    ensure!(fate(&mut client)? == Some(ErrorKind::ConnectionReset), "the host is not reset");
    ensure!(begin.elapsed() > Duration::from_secs(2), "it is reset after {:?}", begin.elapsed());
    ensure!(fate(&mut server)? == Some(ErrorKind::ConnectionReset), "the server is not reset");
    wait_for_no_session(&gateway, SOON)?;
    converse(lab, &listener).context("a new connection")?;
    gateway.detach()
}

fn with_idle_reset_off_nobody_learns_of_an_end(lab: &Lab) -> Result<()> {
    let gateway = forgetful(lab, "idle_reset = \"off\"")?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let [mut client, mut server] = converse(lab, &listener)?;
    wait_for_no_session(&gateway, SOON)?;
    let before = gateway.dropped("not_opening")?;
    client.write_all(b"still there?")?;
    ensure!(fate(&mut client)?.is_none() && fate(&mut server)?.is_none(), "somebody has heard something");
    ensure!(gateway.dropped("not_opening")? > before, "the segment is not counted as dropped");
    gateway.detach()
}

fn a_server_sends_on_for_long_after_the_host_has_closed_its_side(lab: &Lab) -> Result<()> {
    let settings = short_of_the_warm_up(lab).timeout("tcp_transitory", 1).timeout("tcp_closing", 1);
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let [mut client, mut server] = converse(lab, &listener)?;
    client.shutdown(std::net::Shutdown::Write)?;
    ensure!(server.read(&mut [0; 16])? == 0, "the server has not seen the end");
    thread::sleep(Duration::from_secs(5));
    ensure!(state(&gateway)? == "half_closed", "the session is {}", state(&gateway)?);
    server.write_all(b"at last")?;
    drop(server);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    ensure!(bytes == b"at last", "{bytes:?} came");
    drop(client);
    wait_for_no_session(&gateway, SOON)?;
    gateway.detach()
}

/// The state of the only session to the server.
fn state(gateway: &Natgw) -> Result<String> {
    let flows = gateway.flows()?;
    let flow = flows.iter().find(|flow| flow["destination_port"] == SERVER.1).context("no session")?;
    Ok(flow["state"].as_str().context("a session without a state")?.to_owned())
}

fn a_port_is_used_again_while_the_server_waits_with_the_same_endpoint(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let mut port = None;
    for _ in 0..5 {
        let mut client = connect_from(lab, 30_001)?;
        let (mut server, from) = listener.accept()?;
        server.set_read_timeout(Some(ANSWER))?;
        exchange(&mut client, &mut server)?;
        let SocketAddr::V4(from) = from else { bail!("{from} is no IPv4") };
        ensure!(*from.ip() == ELASTIC_IP, "it comes from {from}");
        ensure!(*port.get_or_insert(from.port()) == from.port(), "another port: {from}");
        ensure!(u64::from(from.port()) == elastic_port(&gateway, 30_001)?, "flows shows another port");
        ensure!(state(&gateway)? == "established", "the session is {}", state(&gateway)?);
        // The server closes first, and waits.
        drop(server);
        ensure!(client.read(&mut [0; 16])? == 0, "the host has not seen the end");
        drop(client);
        thread::sleep(Duration::from_millis(100));
        ensure!(state(&gateway)? == "closing", "the session is {}", state(&gateway)?);
    }
    gateway.detach()
}

/// A connection from this port of the host, which may have been used a moment ago.
fn connect_from(lab: &Lab, port: u16) -> Result<TcpStream> {
    lab.host(Node::H1).within(move || {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let address = |(address, port): (Ipv4Addr, u16)| {
            let [a, b, c, d] = address.octets();
            SockaddrIn::new(a, b, c, d, port)
        };
        bind(socket.as_raw_fd(), &address((H1, port)))?;
        connect(socket.as_raw_fd(), &address(SERVER)).context("cannot connect again")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(stream)
    })
}

fn a_reset_by_somebody_who_guesses_ends_nothing(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan()).timeout("tcp_transitory", 1).timeout("tcp_closing", 1);
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let listener = traffic::listen(&lab.host(Node::S1), SERVER)?;
    let [mut client, mut server] = converse(lab, &listener)?;
    let SocketAddr::V4(external) = server.peer_addr()? else { bail!("no IPv4") };
    // In steps of a sixteenth of the sequence space: at most one of them can be near.
    for guess in 0..16_u32 {
        let packet = sample::tcp(SERVER, (*external.ip(), external.port()), |header| {
            header.rst = true;
            header.sequence_number = guess << 28;
        })?;
        sample::send(&lab.host(Node::S1), &packet)?;
    }
    thread::sleep(Duration::from_secs(5));
    ensure!(state(&gateway)? == "established", "the session is {}", state(&gateway)?);
    exchange(&mut client, &mut server)?;
    gateway.detach()
}
