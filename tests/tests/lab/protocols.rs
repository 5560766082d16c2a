//! Protocols other than TCP, UDP and ping, by raw sockets: what is translated, and what is refused.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use etherparse::{IpNumber, Ipv4Header, checksum::Sum16BitWords};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::watch::{Seen, Watch};
use natgw_tests::lab::{ELASTIC_IP, GATEWAY_INTERNAL, H1, H2, Lab, Node, Plan, S1, S2};

use crate::{Scenario, sample, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => gre_goes_both_ways_for_one_host_at_a_time_toward_a_remote,
        Plan::two_armed() => esp_goes_both_ways_for_one_host_at_a_time_toward_a_remote,
        Plan::two_armed() => sctp_is_refused_and_its_sender_told_that_the_protocol_is_unreachable,
        Plan::two_armed() => an_icmp_timestamp_is_answered,
    ]
}

/// GRE (RFC 2784) with an IPv4 packet in it, whose addresses are nobody's concern outside the tunnel.
const GRE: [u8; 12] = [0, 0, 8, 0, 0x45, 10, 0, 1, 10, 10, 0, 1];
/// ESP: a number of its association, a sequence number, and what only the two ends can read.
const ESP: [u8; 12] = [0xc0, 0, 0, 1, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef];
/// An SCTP INIT from port 5000 to port 5001.
const SCTP: [u8; 16] = [0x13, 0x88, 0x13, 0x89, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 4];

fn packet(protocol: IpNumber, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let mut header = Ipv4Header::new(payload.len() as u16, 64, protocol, from.octets(), to.octets())?;
    header.header_checksum = header.calc_header_checksum();
    Ok([&header.to_bytes()[..], payload].concat())
}

/// Whether it is of this protocol, between these two.
fn is(seen: &Seen, protocol: IpNumber, from: Ipv4Addr, to: Ipv4Addr) -> bool {
    let ip = seen.slice();
    let header = ip.header();
    (header.protocol(), header.source_addr(), header.destination_addr()) == (protocol, from, to)
}

/// An ICMP "destination unreachable" of the gateway about a packet to `remote`.
fn is_refusal(seen: &Seen, code: u8, host: Ipv4Addr, remote: Ipv4Addr) -> bool {
    let icmp = seen.payload();
    is(seen, IpNumber::ICMP, GATEWAY_INTERNAL, host)
        && icmp.get(..2) == Some(&[3, code])
        && icmp.get(8 + 12..8 + 20) == Some(&[host.octets(), remote.octets()].concat())
}

fn gre_goes_both_ways_for_one_host_at_a_time_toward_a_remote(lab: &Lab) -> Result<()> {
    without_ports(lab, "gre", IpNumber::GRE, &GRE)
}

fn esp_goes_both_ways_for_one_host_at_a_time_toward_a_remote(lab: &Lab) -> Result<()> {
    without_ports(lab, "esp", IpNumber::ENCAPSULATING_SECURITY_PAYLOAD, &ESP)
}

fn without_ports(lab: &Lab, name: &str, protocol: IpNumber, payload: &[u8]) -> Result<()> {
    let settings = Settings::of(lab.plan()).gateway_option(&format!("port_less = [\"{name}\"]"));
    let gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let first = Watch::start(&lab.host(Node::H1), "eth0")?;
    let second = Watch::start(&lab.host(Node::H2), "eth0")?;
    // Nobody outside may begin.
    sample::send(&lab.host(Node::S1), &packet(protocol, S1, ELASTIC_IP, payload)?)?;
    for round in 0..3 {
        there_and_back(lab, (Node::H1, H1, &first), (Node::S1, S1), protocol, payload)
            .with_context(|| format!("round {round} of the first host"))?;
    }
    let refused = gateway.dropped("error_port_allocation")?;
    sample::send(&lab.host(Node::H2), &packet(protocol, H2, S1, payload)?)?;
    second.expect(|seen| is_refusal(seen, 13, H2, S1)).context("a refusal for the second host")?;
    let refused = gateway.dropped("error_port_allocation")? - refused;
    ensure!(refused == 1, "one packet was refused as error_port_allocation, {refused} are counted");
    there_and_back(lab, (Node::H2, H2, &second), (Node::S2, S2), protocol, payload)
        .context("the second host toward another remote")?;
    there_and_back(lab, (Node::H1, H1, &first), (Node::S1, S1), protocol, payload)
        .context("the first host after all")?;
    ensure!(gateway.dropped("no_session")? == 1, "the packet that nobody has asked for is not counted");
    let listed = gateway.flows()?.iter().filter(|flow| flow["protocol"] == name).count();
    ensure!(listed == 2, "flows lists {listed} sessions of {name}");
    gateway.detach()
}

/// A packet of the host reaches the server from the Elastic IP, and its answer the host, both with what they carry.
fn there_and_back(
    lab: &Lab,
    (node, host, watch): (Node, Ipv4Addr, &Watch),
    (server_node, server): (Node, Ipv4Addr),
    protocol: IpNumber,
    payload: &[u8],
) -> Result<()> {
    let remote = Watch::start(&lab.host(server_node), "eth0")?;
    sample::send(&lab.host(node), &packet(protocol, host, server, payload)?)?;
    let seen = remote.expect(|seen| is(seen, protocol, ELASTIC_IP, server)).context("at the server")?;
    ensure!(seen.payload() == payload, "the server got {:x?}", seen.payload());
    let answer: Vec<u8> = payload.iter().rev().copied().collect();
    sample::send(&lab.host(server_node), &packet(protocol, server, ELASTIC_IP, &answer)?)?;
    let seen = watch.expect(|seen| is(seen, protocol, server, host)).context("at the host")?;
    ensure!(seen.payload() == answer, "the host got {:x?}", seen.payload());
    Ok(())
}

fn sctp_is_refused_and_its_sender_told_that_the_protocol_is_unreachable(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let router = Watch::start(&lab.host(Node::Router), "gw")?;
    let host = Watch::start(&lab.host(Node::H1), "eth0")?;
    let init = packet(IpNumber::SCTP, H1, S1, &SCTP)?;
    sample::send(&lab.host(Node::H1), &init)?;
    let told = host.expect(|seen| is_refusal(seen, 2, H1, S1)).context("protocol unreachable")?;
    ensure!(told.payload().get(8 + 20..) == Some(&SCTP), "it quotes {:x?}", told.payload());
    let refused = gateway.dropped("protocol")?;
    ensure!(refused == 1, "one packet was refused as protocol, {refused} are counted");
    // What comes after it does leave: the watch has not missed anything.
    lab.wait_for_ping(Node::H1, S1)?;
    let left = router.until_silence(|_| true)?;
    ensure!(left.iter().any(|seen| is(seen, IpNumber::ICMP, ELASTIC_IP, S1)), "the ping has not been seen");
    ensure!(left.iter().all(|seen| seen.slice().header().protocol() != IpNumber::SCTP), "SCTP has left");
    // From outside there is nobody to be told.
    let outside = Watch::start(&lab.host(Node::S1), "eth0")?;
    sample::send(&lab.host(Node::S1), &packet(IpNumber::SCTP, S1, ELASTIC_IP, &SCTP)?)?;
    lab.wait_for_ping(Node::H1, S1)?;
    let heard = outside.until_silence(|seen| seen.payload().first() == Some(&3))?;
    ensure!(heard.is_empty(), "somebody outside was told: {heard:x?}");
    let refused = gateway.dropped("protocol")?;
    ensure!(refused == 2, "two packets were refused as protocol, {refused} are counted");
    gateway.detach()
}

/// The server's kernel answers; the identifier is translated there and back.
fn an_icmp_timestamp_is_answered(lab: &Lab) -> Result<()> {
    const IDENTIFIER: [u8; 2] = [0x12, 0x34];
    const SEQUENCE: [u8; 2] = [0, 9];
    const ORIGINATE: [u8; 4] = [1, 2, 3, 4];
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let host = Watch::start(&lab.host(Node::H1), "eth0")?;
    let server = Watch::start(&lab.host(Node::S1), "eth0")?;
    let mut query = [&[13, 0, 0, 0][..], &IDENTIFIER, &SEQUENCE, &ORIGINATE, &[0; 8]].concat();
    let sum = Sum16BitWords::new().add_slice(&query).ones_complement();
    query[2..4].copy_from_slice(&sum.to_ne_bytes());
    sample::send(&lab.host(Node::H1), &packet(IpNumber::ICMP, H1, S1, &query)?)?;
    let at_server = server.expect(|seen| seen.payload().first() == Some(&13)).context("the query")?;
    ensure!(is(&at_server, IpNumber::ICMP, ELASTIC_IP, S1), "it arrives as {at_server:x?}");
    let back = host.expect(|seen| seen.payload().first() == Some(&14)).context("the answer")?;
    ensure!(is(&back, IpNumber::ICMP, S1, H1), "it comes back as {back:x?}");
    let answered = [IDENTIFIER.as_slice(), &SEQUENCE, &ORIGINATE].concat();
    ensure!(back.payload().get(4..12) == Some(&answered), "it holds {:x?}", back.payload());
    ensure!(back.payload().get(12..16).is_some_and(|time| time != [0; 4]), "the server tells no time");
    gateway.detach()
}
