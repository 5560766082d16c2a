//! Packets that get more than their translation: a lower MSS, an identification of the gateway's own.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use etherparse::{IpNumber, TcpOptionElement, TcpSlice};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::raw::{self, Raw};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, ANSWER};
use natgw_tests::lab::watch::{Seen, Watch};
use natgw_tests::lab::{ELASTIC_IP, H1, H2, Lab, Node, Plan, S1};

use crate::policy::accept;
use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan { external_mtu: 1400, ..Plan::two_armed() } => a_clamped_mss_lets_bulk_through_where_no_icmp_tells_the_mtu,
        Plan::two_armed() => two_hosts_with_the_same_identifications_leave_with_different_ones,
    ]
}

const PORT: u16 = 5001;
/// What each side sends, more than the buffers on its way hold.
const BULK: usize = 8 << 20;
/// A host that hears nothing of MTUs.
const DEAF: &str = "table ip lab {
    chain deaf {
        type filter hook input priority filter
        icmp type destination-unreachable icmp code 4 counter drop
    }
}
";

fn a_clamped_mss_lets_bulk_through_where_no_icmp_tells_the_mtu(lab: &Lab) -> Result<()> {
    for node in [Node::H1, Node::S1] {
        lab.host(node).run_with_input(&["nft", "-f", "-"], DEAF)?;
    }
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    ensure!(swap(lab, ANSWER).is_err(), "bulk gets through without a clamp: the lab is no black hole");
    accept(gateway.reload(&settings.gateway_option("mss_clamp = \"auto\""))?)?;
    let [at_server, at_host] = [(Node::S1, ELASTIC_IP), (Node::H1, S1)]
        .map(|(node, from)| Ok::<_, anyhow::Error>((Watch::start(&lab.host(node), "eth0")?, from)));
    let swapped = swap(lab, Duration::from_secs(20));
    for (watch, from) in [at_server?, at_host?] {
        let syn = watch.expect(|seen| seen.slice().header().source_addr() == from && mss(seen).is_some())?;
        ensure!(mss(&syn) == Some(1360), "the SYN from {from} announces an MSS of {:?}", mss(&syn));
    }
    swapped?;
    gateway.detach()
}

/// The MSS that a SYN announces.
fn mss(seen: &Seen) -> Option<u16> {
    let tcp = TcpSlice::from_slice(seen.payload()).ok().filter(TcpSlice::syn)?;
    (seen.slice().header().protocol() == IpNumber::TCP).then_some(())?;
    tcp.options_iterator().flatten().find_map(|option| {
        let TcpOptionElement::MaximumSegmentSize(size) = option else { return None };
        Some(size)
    })
}

/// A private host and a server send each other [`BULK`] bytes, and neither waits longer than `patience` for the next.
fn swap(lab: &Lab, patience: Duration) -> Result<()> {
    let listener = traffic::listen(&lab.host(Node::S1), (S1, PORT))?;
    let client = traffic::connect(&lab.host(Node::H1), (S1, PORT), ANSWER)?;
    let (server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
    }
    let ends = thread::scope(|scope| {
        let ends = [("upload", &client, &server), ("download", &server, &client)].map(|(what, from, to)| {
            let sending = scope.spawn(move || send(from));
            let receiving = scope.spawn(move || receive(to));
            (what, sending, receiving)
        });
        ends.map(|(what, sending, receiving)| (what, sending.join(), receiving.join()))
    });
    for (what, sent, received) in ends {
        sent.map_err(|_| anyhow!("it panicked"))?.with_context(|| format!("sending the {what}"))?;
        received.map_err(|_| anyhow!("it panicked"))?.with_context(|| format!("receiving the {what}"))?;
    }
    Ok(())
}

fn send(mut to: &std::net::TcpStream) -> Result<()> {
    to.write_all(&bulk())?;
    Ok(to.shutdown(Shutdown::Write)?)
}

fn receive(mut from: &std::net::TcpStream) -> Result<()> {
    let mut all = Vec::with_capacity(BULK);
    from.read_to_end(&mut all)?;
    ensure!(all == bulk(), "{BULK} bytes arrived as {} others", all.len());
    Ok(())
}

/// Bytes that repeat at no power of two.
fn bulk() -> Vec<u8> {
    (0..BULK).map(|at| (at % 251) as u8 ^ (at / 65_521) as u8).collect()
}

fn two_hosts_with_the_same_identifications_leave_with_different_ones(lab: &Lab) -> Result<()> {
    const EACH: u16 = 200;
    const DIVISIBLE: u16 = 4000;
    const WHOLE: u16 = 4001;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let router = Watch::start(&lab.host(Node::Router), "gw")?;
    let hosts = [(Node::H1, H1), (Node::H2, H2)];
    let senders = hosts.map(|(node, address)| Raw::open(&lab.host(node)).map(|raw| (raw, address)));
    let senders = senders.into_iter().collect::<Result<Vec<_>>>()?;
    for number in 1..=EACH {
        for (raw, address) in &senders {
            for (port, atomic) in [(DIVISIBLE, false), (WHOLE, true)] {
                let remote = std::net::SocketAddrV4::new(S1, port);
                let from = std::net::SocketAddrV4::new(*address, 4000);
                let datagram = raw::datagram(from, remote, number, b"which is which?", 1).remove(0);
                raw.send(&if atomic { undivided(datagram)? } else { datagram })?;
            }
        }
    }
    let seen = router.until_silence(|seen| seen.slice().header().protocol() == IpNumber::UDP)?;
    let identifications = |port: u16| -> Vec<u16> {
        let to_port = |seen: &&Seen| seen.payload().get(2..4) == Some(&port.to_be_bytes());
        seen.iter().filter(to_port).map(|seen| seen.slice().header().identification()).collect()
    };
    let given = identifications(DIVISIBLE);
    ensure!(
        given.len() == 2 * usize::from(EACH),
        "{} of {} divisible packets were seen",
        given.len(),
        2 * EACH
    );
    let different: HashSet<u16> = given.iter().copied().collect();
    ensure!(different.len() == given.len(), "{} packets share {} numbers", given.len(), different.len());
    // What may not be fragmented keeps its own.
    let mut kept = identifications(WHOLE);
    kept.sort_unstable();
    let sent: Vec<u16> = (1..=EACH).flat_map(|number| [number, number]).collect();
    ensure!(kept == sent, "packets that may not be fragmented leave with others: {kept:?}");
    gateway.detach()
}

/// The packet, not to be fragmented.
fn undivided(packet: Vec<u8>) -> Result<Vec<u8>> {
    let (mut header, payload) = etherparse::Ipv4Header::from_slice(&packet)?;
    header.dont_fragment = true;
    header.header_checksum = header.calc_header_checksum();
    Ok([&header.to_bytes()[..], payload].concat())
}
