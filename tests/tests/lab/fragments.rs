//! Datagrams in fragments: cut by hand in every order, and by the kernels of clients and servers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::raw::{Raw, datagram, fragment};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, ANSWER, EchoServer, Load};
use natgw_tests::lab::{H1, H2, Lab, Node, Plan, S1, S2};
use nix::libc;

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => fragments_in_every_order_arrive_both_ways,
        Plan::one_armed() => fragments_in_every_order_arrive_through_one_arm,
        Plan::two_armed() => the_largest_datagrams_arrive_whole_both_ways,
        Plan::two_armed() => a_ping_in_fragments_is_answered,
        Plan { external_mtu: 1400, ..Plan::two_armed() } => what_may_be_fragmented_passes_a_smaller_link_in_fragments,
        Plan { external_mtu: 1400, ..Plan::two_armed() } => tcp_that_may_be_fragmented_passes_a_smaller_link,
        Plan::two_armed() => datagrams_of_two_hosts_in_fragments_are_not_mixed_up,
        Plan::two_armed() => a_flood_of_fragments_costs_other_traffic_nothing,
        Plan::two_armed() => without_a_controller_fragments_in_order_still_pass,
    ]
}

/// The client's and the server's endpoint.
const CLIENT: SocketAddrV4 = SocketAddrV4::new(H1, 5_000);
const SERVER: SocketAddrV4 = SocketAddrV4::new(S1, 7_000);

/// Bytes that depend on `seed` and repeat at no power of two.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 251 + seed) as u8).collect()
}

/// Every order of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![vec![]];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, count - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..count).map(move |at| insert(order, at))).collect()
}

/// A client and a server with sockets to receive by and raw sockets to send by, and the endpoint that the server sees.
struct Ends {
    client: UdpSocket,
    server: UdpSocket,
    from_client: Raw,
    from_server: Raw,
    seen: SocketAddrV4,
}

impl Ends {
    fn open(lab: &Lab) -> Result<Self> {
        let (h1, s1) = (lab.host(Node::H1), lab.host(Node::S1));
        let client = traffic::udp_socket(&h1, (H1, CLIENT.port()))?;
        let server = traffic::udp_socket(&s1, (S1, SERVER.port()))?;
        client.send_to(b"first", SERVER)?;
        let Some((_, SocketAddr::V4(seen))) = traffic::receive(&server)? else {
            bail!("the first datagram does not arrive")
        };
        Ok(Self { client, server, from_client: Raw::open(&h1)?, from_server: Raw::open(&s1)?, seen })
    }

    /// Sends the fragments in this order, outbound or inbound, and expects the datagram to arrive whole.
    fn expect(&self, outbound: bool, identification: u16, order: &[usize]) -> Result<()> {
        let (raw, from, to, receiver) = if outbound {
            (&self.from_client, CLIENT, SERVER, &self.server)
        } else {
            (&self.from_server, SERVER, self.seen, &self.client)
        };
        let payload = pattern(order.len() * 700 + 13, identification.into());
        let pieces = datagram(from, to, identification, &payload, order.len());
        ensure!(pieces.len() == order.len(), "{} pieces and not {}", pieces.len(), order.len());
        for number in order {
            raw.send(&pieces[*number])?;
        }
        let way = if outbound { "outbound" } else { "inbound" };
        let Some((received, source)) = receive(receiver)? else {
            bail!("{way}, fragments in the order {order:?} do not arrive")
        };
        ensure!(received == payload, "{way}, fragments in the order {order:?} arrive as something else");
        let expected = if outbound { self.seen } else { SERVER };
        ensure!(source == SocketAddr::V4(expected), "{way}, {order:?}: it comes from {source}");
        Ok(())
    }
}

/// A datagram of any size.
fn receive(socket: &UdpSocket) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = vec![0; 65_535];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Ok(Some((buffer[..length].to_vec(), from))),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => Ok(None),
        Err(error) => Err(error).context("cannot receive"),
    }
}

fn fragments_in_every_order_arrive_both_ways(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    every_order(lab)?;
    let status = gateway.json(&["status"])?;
    let counter =
        |name: &str| status["counters"][name].as_u64().with_context(|| format!("no counter {name}"));
    let (held, released) = (counter("held_packets")?, counter("fragments_released")?);
    ensure!(held > 0 && released == held, "{held} fragments were held and {released} released");
    gateway.detach()
}

fn fragments_in_every_order_arrive_through_one_arm(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    every_order(lab)?;
    gateway.detach()
}

/// All 152 orders of two to five fragments, both ways.
fn every_order(lab: &Lab) -> Result<()> {
    let ends = Ends::open(lab)?;
    let orders: Vec<_> = (2..=5).flat_map(orders).collect();
    ensure!(orders.len() == 152, "there are {} orders", orders.len());
    for (number, order) in orders.iter().enumerate() {
        for outbound in [true, false] {
            ends.expect(outbound, 1 + number as u16, order)?;
        }
    }
    Ok(())
}

fn the_largest_datagrams_arrive_whole_both_ways(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let ends = Ends::open(lab)?;
    for seed in 0..10 {
        let (there, back) = (pattern(65_507, seed), pattern(65_507, seed + 100));
        ends.client.send_to(&there, SERVER)?;
        let (received, _) = receive(&ends.server)?.context("the largest datagram does not arrive outside")?;
        ensure!(received == there, "{} bytes arrive outside, others than were sent", received.len());
        ends.server.send_to(&back, ends.seen)?;
        let (received, _) = receive(&ends.client)?.context("the largest datagram does not arrive inside")?;
        ensure!(received == back, "{} bytes arrive inside, others than were sent", received.len());
    }
    gateway.detach()
}

fn a_ping_in_fragments_is_answered(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let target = S1.to_string();
    lab.host(Node::H1).run(&["ping", "-c", "5", "-i", "0.2", "-W", "2", "-s", "4000", &target])?;
    gateway.detach()
}

/// Has the kernel leave DF out of what `socket` sends.
fn allow_fragments(socket: &impl AsRawFd) -> Result<()> {
    let value = libc::IP_PMTUDISC_DONT;
    // SAFETY: the option is an integer, which lives until the call returns.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "IP_MTU_DISCOVER: {}", std::io::Error::last_os_error());
    Ok(())
}

fn what_may_be_fragmented_passes_a_smaller_link_in_fragments(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let ends = Ends::open(lab)?;
    allow_fragments(&ends.client)?;
    for (seed, length) in [1_472, 1_400, 4_000, 20_000].into_iter().cycle().take(200).enumerate() {
        let payload = pattern(length, seed);
        ends.client.send_to(&payload, SERVER)?;
        let received = receive(&ends.server)?.with_context(|| format!("{length} bytes do not arrive"))?.0;
        ensure!(received == payload, "{length} bytes arrive as others");
    }
    gateway.detach()?;
    thread::sleep(Duration::from_millis(200));
    let offsets = fragments_captured(&lab.directory().join("external.pcap"))?;
    ensure!(offsets.len() > 400, "only {} fragments were seen outside", offsets.len());
    let in_order = offsets.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1);
    ensure!(in_order, "fragments of one datagram left out of order");
    Ok(())
}

/// Identification and offset of every fragment to the server in a capture, in order.
fn fragments_captured(path: &Path) -> Result<Vec<(u16, u16)>> {
    let bytes = std::fs::read(path)?;
    let mut records = bytes.get(24..).context("the capture has no header")?;
    let mut found = Vec::new();
    while let Some((header, rest)) = records.split_at_checked(16) {
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        records = rest;
        let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(frame) else { continue };
        let Ok(ip) = Ipv4HeaderSlice::from_slice(&frame[ethernet.slice().len()..]) else { continue };
        if ip.is_fragmenting_payload() && ip.destination_addr() == S1 {
            found.push((ip.identification(), ip.fragments_offset().value()));
        }
    }
    Ok(found)
}

fn tcp_that_may_be_fragmented_passes_a_smaller_link(lab: &Lab) -> Result<()> {
    const BYTES: usize = 2_000_000;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    // Its TCP no longer discovers the path's MTU, and sends without DF.
    lab.host(Node::H1).run(&["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"])?;
    let listener = traffic::listen(&lab.host(Node::S1), (S1, 5_001))?;
    let received = thread::spawn(move || -> Result<Vec<u8>> {
        let mut all = Vec::new();
        listener.accept()?.0.read_to_end(&mut all)?;
        Ok(all)
    });
    let mut stream = traffic::connect(&lab.host(Node::H1), (S1, 5_001), ANSWER)?;
    stream.write_all(&pattern(BYTES, 1)).context("the upload stalls")?;
    stream.shutdown(Shutdown::Write)?;
    let received = received.join().map_err(|_| anyhow::anyhow!("the server has panicked"))??;
    ensure!(received == pattern(BYTES, 1), "{} bytes arrive, others than were sent", received.len());
    let status = gateway.json(&["status"])?;
    let divided = status["counters"]["packets_divided"].as_u64().context("no counter packets_divided")?;
    ensure!(divided >= 1_000, "only {divided} packets were divided");
    gateway.detach()
}

fn datagrams_of_two_hosts_in_fragments_are_not_mixed_up(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let servers = [Node::S1, Node::S2].map(|node| lab.host(node));
    let receivers =
        [traffic::udp_socket(&servers[0], (S1, 7_000))?, traffic::udp_socket(&servers[1], (S2, 7_000))?];
    let raws = [Raw::open(&lab.host(Node::H1))?, Raw::open(&lab.host(Node::H2))?];
    for round in 1..=50 {
        // Both hosts use the same identification and ports at the same time, toward servers of their own.
        let payloads = [pattern(2_000, round), pattern(2_000, round + 1_000)];
        let ends = [(H1, S1), (H2, S2)];
        let pieces: Vec<_> = (0..2)
            .map(|at| {
                let from = SocketAddrV4::new(ends[at].0, 5_000);
                datagram(from, SocketAddrV4::new(ends[at].1, 7_000), round as u16, &payloads[at], 2)
            })
            .collect();
        for number in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            for at in 0..2 {
                raws[at].send(&pieces[at][number])?;
            }
        }
        for at in 0..2 {
            let (received, _) = receive(&receivers[at])?.with_context(|| format!("round {round} is lost"))?;
            ensure!(received == payloads[at], "round {round}: another datagram arrives");
        }
    }
    gateway.detach()
}

fn a_flood_of_fragments_costs_other_traffic_nothing(lab: &Lab) -> Result<()> {
    const FLOOD: u32 = 200_000;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let ends = Ends::open(lab)?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 6_000), (S1, 7), 500)?;
    let flood = Raw::open(&lab.host(Node::H2))?;
    let begin = Instant::now();
    for number in 0..FLOOD {
        let identification = number.wrapping_mul(40_503) as u16;
        let offset = 8 + (number % 100) as usize;
        flood.send(&fragment(H2, S1, identification, offset, number % 3 == 0, &[7; 16]))?;
        if number % 2_000 == 0 {
            ends.expect(true, (number / 2_000) as u16 + 1, &[0, 1, 2])?;
            ends.expect(false, (number / 2_000) as u16 + 1, &[0, 1, 2])?;
        }
    }
    let took = begin.elapsed();
    let tally = load.stop()?;
    ensure!(tally.missing.is_empty(), "of {} datagrams {:?} are missing", tally.sent, tally.missing);
    let refused = gateway.dropped("fragment_unknown")?;
    ensure!(refused > u64::from(FLOOD) / 2, "only {refused} fragments of {FLOOD} were refused in {took:?}");
    gateway.detach()
}

fn without_a_controller_fragments_in_order_still_pass(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let ends = Ends::open(lab)?;
    gateway.kill9();
    for outbound in [true, false] {
        ends.expect(outbound, 1, &[0, 1, 2])?;
        ensure!(ends.expect(outbound, 2, &[2, 1, 0]).is_err(), "nobody is there to hold fragments");
    }
    let _old = gateway.restart()?;
    for outbound in [true, false] {
        ends.expect(outbound, 3, &[2, 1, 0])?;
    }
    gateway.detach()
}
