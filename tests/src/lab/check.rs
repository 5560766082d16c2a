//! What a gateway has to do for its hosts, each as one check that says what it saw. Scenarios and demo share them.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::nginx::{Nginx, PAGE};
use crate::lab::traffic::{self, EchoServer};
use crate::lab::{ELASTIC_IP, GATEWAY_INTERNAL, H1, Lab, Node, ROUTER, S1};

/// A private host fetches the front page of `nginx` on [`S1`], and the server sees the Elastic IP.
///
/// # Errors
/// When the page differs or another client address was logged.
pub fn page(lab: &Lab, nginx: &Nginx) -> Result<String> {
    let output = lab.host(Node::H1).run(&["curl", "-sS", "-m5", &format!("http://{S1}/")])?;
    ensure!(output.stdout == PAGE, "curl got another page: {:?}", output.stdout);
    // The line may come a moment after the page.
    let elastic_ip = ELASTIC_IP.to_string();
    let deadline = Instant::now() + Duration::from_secs(3);
    while nginx.clients()?.last() != Some(&elastic_ip) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = nginx.clients()?.last().cloned().context("nginx has logged no client")?;
    ensure!(client == elastic_ip, "nginx has logged {client}, not the Elastic IP {ELASTIC_IP}");
    Ok(format!("{H1} got {:?} from {S1}; nginx logged {client}", PAGE.trim()))
}

/// A datagram of a private host comes back from an echo server, which saw the Elastic IP.
///
/// # Errors
/// When nothing or something else comes back.
pub fn udp(lab: &Lab) -> Result<String> {
    let server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let socket = traffic::udp_socket(&lab.host(Node::H1), (H1, 0))?;
    ensure!(traffic::exchange(&socket, (S1, 7), b"are you there?")?, "{S1} port 7 did not echo a datagram");
    let clients = server.clients();
    let client = clients.iter().next().context("the echo server has seen no client")?;
    ensure!(*client.ip() == ELASTIC_IP, "the echo server saw {client}, not the Elastic IP");
    Ok(format!("{} got its datagram back; the server saw {client}", socket.local_addr()?))
}

/// A private host pings an outside server three times.
///
/// # Errors
/// When an answer is missing.
pub fn ping(lab: &Lab) -> Result<String> {
    let output = lab.host(Node::H1).run(&["ping", "-n", "-c3", "-i0.2", "-W2", &S1.to_string()])?;
    let summary = output.stdout.lines().find(|line| line.contains("packets transmitted"));
    let summary = summary.context("ping printed no summary")?;
    ensure!(summary.contains("3 received"), "ping: {summary}");
    Ok(summary.to_owned())
}

/// A traceroute from a private host shows the gateway, the router and the server.
///
/// # Errors
/// When a hop is another one.
pub fn traceroute(lab: &Lab) -> Result<String> {
    trace(lab, &[])
}

/// The same with TCP segments to a listening port of the server.
///
/// # Errors
/// When a hop is another one.
pub fn traceroute_by_tcp(lab: &Lab, port: u16) -> Result<String> {
    trace(lab, &["-T", "-p", &port.to_string()])
}

fn trace(lab: &Lab, how: &[&str]) -> Result<String> {
    let server = S1.to_string();
    let command = [&["traceroute", "-n", "-q1", "-w2", "-m5"], how, &[&server]].concat();
    let output = lab.host(Node::H1).run(&command)?.stdout;
    let hops: Vec<&str> = output.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let expected = [GATEWAY_INTERNAL, ROUTER, S1].map(|hop| hop.to_string());
    ensure!(hops == expected, "traceroute shows {hops:?}, not {expected:?}");
    Ok(hops.join(" → "))
}

/// A SYN from outside to the Elastic IP is answered by nothing at all.
///
/// # Errors
/// When anything but silence comes back.
pub fn outside_syn(lab: &Lab) -> Result<String> {
    let opened = traffic::connect(&lab.host(Node::S1), (ELASTIC_IP, 80), Duration::from_millis(1500));
    match opened.map_err(|error| error.downcast::<io::Error>()) {
        Err(Ok(error)) if error.kind() == io::ErrorKind::TimedOut => {}
        Err(Ok(error)) => bail!("a SYN from {S1} to {ELASTIC_IP} port 80 was answered: {error}"),
        Err(Err(error)) => return Err(error),
        Ok(_) => bail!("{S1} could connect to {ELASTIC_IP} port 80"),
    }
    Ok(format!("{S1} → {ELASTIC_IP} port 80: timed out"))
}

/// A datagram from outside to the Elastic IP is answered by nothing at all, not even an ICMP error.
///
/// # Errors
/// When anything but silence comes back.
pub fn outside_udp(lab: &Lab) -> Result<String> {
    let socket = traffic::udp_socket(&lab.host(Node::S1), (S1, 5353))?;
    socket.connect((ELASTIC_IP, 53))?;
    socket.send(b"let me in")?;
    let answer =
        traffic::receive(&socket).context("a datagram to the Elastic IP was answered by an ICMP error")?;
    ensure!(answer.is_none(), "a datagram to the Elastic IP was answered");
    Ok(format!("{S1} → {ELASTIC_IP} port 53: silence"))
}

/// A ping from outside to the Elastic IP is answered by nothing at all.
///
/// # Errors
/// When anything but silence comes back.
pub fn outside_ping(lab: &Lab) -> Result<String> {
    let output =
        lab.host(Node::S1).try_run(&["ping", "-n", "-c2", "-i0.2", "-W1", &ELASTIC_IP.to_string()])?;
    let summary = output.stdout.lines().find(|line| line.contains("packets transmitted"));
    let summary = summary.context("ping printed no summary")?;
    ensure!(
        summary.contains(" 0 received, 100% packet loss"),
        "a ping to the Elastic IP was answered: {summary}"
    );
    Ok(summary.to_owned())
}

/// The MTU that `node` has learned for `destination`, in bytes, if any.
///
/// # Errors
/// When the routing table cannot be read.
pub fn learned_mtu(lab: &Lab, node: Node, destination: Ipv4Addr) -> Result<Option<u32>> {
    let route = lab.host(node).run(&["ip", "route", "get", &destination.to_string()])?.stdout;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map(|mtu| mtu.parse().with_context(|| format!("no MTU in {route:?}"))).transpose()
}
