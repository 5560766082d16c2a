//! The design's invariants, as far as packets on wires can show them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer, Load};
use natgw_tests::lab::{ELASTIC_IP, H1, H2, Lab, Node, Plan, S1, S2, check};

use crate::{Scenario, control, policy, sample, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => invariant_1_no_internal_source_leaves_while_the_gateway_starts_reloads_and_detaches,
        Plan::two_armed() => invariant_1_no_internal_source_leaves_when_ports_are_exhausted,
        Plan::one_armed() => invariant_1_no_internal_source_leaves_through_one_arm_either,
        Plan::two_armed() => invariant_2_an_outside_packet_never_creates_state,
        Plan::two_armed() => invariant_3_two_live_sessions_never_share_an_external_endpoint_toward_one_remote,
        Plan::two_armed() => invariant_5_a_controller_killed_under_load_and_started_again_costs_no_packet,
        Plan::two_armed() => invariant_6_a_session_lives_while_either_direction_is_seen_and_then_dies_whole,
        Plan::two_armed() => invariant_8_everything_refused_is_counted_and_seen,
    ]
}

fn invariant_1_no_internal_source_leaves_while_the_gateway_starts_reloads_and_detaches(
    lab: &Lab,
) -> Result<()> {
    start_reload_detach(lab)
}

fn invariant_1_no_internal_source_leaves_through_one_arm_either(lab: &Lab) -> Result<()> {
    start_reload_detach(lab)
}

/// Two hosts never stop sending while the gateway comes and goes; the captures judge what leaves.
pub fn start_reload_detach(lab: &Lab) -> Result<()> {
    let _servers =
        (EchoServer::start(&lab.host(Node::S1), (S1, 7))?, EchoServer::start(&lab.host(Node::S2), (S2, 7))?);
    let first = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 1000)?;
    let second = Load::start(&lab.host(Node::H2), (H2, 4001), (S2, 7), 1000)?;
    let settings = Settings::of(lab.plan());
    for _ in 0..3 {
        let mut gateway = Natgw::start(lab, &settings)?;
        ensure!(
            first.received_within(Duration::from_millis(500)) > 0,
            "nothing passes behind a ready gateway"
        );
        let deny = r#"{ rule = 50, action = "deny", protocol = "all", cidr = "192.0.2.20/32" }"#;
        policy::accept(gateway.reload(&settings.clone().outbound_rule(deny))?)?;
        gateway.kill9();
        gateway.restart()?;
        gateway.detach()?;
        thread::sleep(Duration::from_millis(100));
        let through = first.received_within(Duration::from_millis(200));
        ensure!(through == 0, "{through} datagrams came back without a gateway");
    }
    ensure!(lab.external_packets() > 100, "the capture saw too little to judge");
    first.stop()?;
    second.stop().map(drop)
}

fn invariant_1_no_internal_source_leaves_when_ports_are_exhausted(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).ports(5000, 5009))?;
    lab.wait_for_ping(Node::H1, S1)?;
    let server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let sockets = sockets(lab, Node::H1, H1, 20)?;
    for socket in &sockets {
        socket.send_to(b"a port, please", (S1, 7))?;
    }
    thread::sleep(Duration::from_millis(500));
    let served = server.clients().len();
    ensure!(served == 10, "an Elastic IP of 10 ports served {served} sessions toward one remote");
    let refused = gateway.dropped("error_port_allocation")?;
    ensure!(refused == 10, "10 sessions found no port, {refused} are counted");
    gateway.detach()
}

fn invariant_2_an_outside_packet_never_creates_state(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let listed = tuples(&gateway)?;
    let opened = counter(&gateway, "sessions_opened")?;
    check::outside_syn(lab)?;
    check::outside_udp(lab)?;
    check::outside_ping(lab)?;
    let server = lab.host(Node::S1);
    for port in 1000..1050 {
        let destination = (ELASTIC_IP, port);
        sample::send(&server, &sample::tcp((S1, 80), destination, |header| header.syn = true)?)?;
        sample::send(
            &server,
            &sample::tcp((S1, 80), destination, |header| (header.syn, header.ack) = (true, true))?,
        )?;
        sample::send(&server, &sample::tcp((S1, 80), destination, |header| header.rst = true)?)?;
    }
    let now = counter(&gateway, "sessions_opened")?;
    ensure!(now == opened, "packets from outside opened {} sessions", now - opened);
    let now = tuples(&gateway)?;
    ensure!(now.is_subset(&listed), "sessions appeared: {:?}", now.difference(&listed));
    ensure!(gateway.dropped("no_session")? >= 150, "the packets are not counted as no_session");
    gateway.detach()
}

fn invariant_3_two_live_sessions_never_share_an_external_endpoint_toward_one_remote(lab: &Lab) -> Result<()> {
    const EACH: u16 = 100;
    // As many ports as sessions: every collision would show, and so would a search that gives up.
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).ports(5000, 5000 + 2 * EACH - 1))?;
    lab.warm_up()?;
    let server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let mut all = sockets(lab, Node::H1, H1, EACH)?;
    all.extend(sockets(lab, Node::H2, H2, EACH)?);
    for (number, socket) in all.iter().enumerate() {
        let payload = format!("session {number}");
        ensure!(
            traffic::exchange(socket, (S1, 7), payload.as_bytes())?,
            "{payload} got no answer or another's"
        );
    }
    let clients = server.clients().len();
    ensure!(clients == all.len(), "{} sessions share {clients} external endpoints", all.len());
    let external: HashSet<String> =
        gateway.flows()?.iter().filter(|flow| flow["protocol"] == "udp").map(external_tuple).collect();
    ensure!(external.len() == all.len(), "flows lists {} external tuples", external.len());
    gateway.detach()
}

pub fn invariant_5_a_controller_killed_under_load_and_started_again_costs_no_packet(lab: &Lab) -> Result<()> {
    let mut gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let _server = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let load = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 3000)?;
    thread::sleep(Duration::from_secs(1));
    let port = control::elastic_port(&gateway, 4001)?;
    gateway.kill9();
    thread::sleep(Duration::from_secs(2));
    gateway.restart()?;
    thread::sleep(Duration::from_secs(2));
    control::whole(load)?;
    ensure!(control::elastic_port(&gateway, 4001)? == port, "the session has another port after the restart");
    gateway.detach()
}

fn invariant_6_a_session_lives_while_either_direction_is_seen_and_then_dies_whole(lab: &Lab) -> Result<()> {
    const IDLE: u64 = 3;
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).timeout("udp", IDLE).timeout("icmp", IDLE))?;
    lab.warm_up()?;
    let server = traffic::udp_socket(&lab.host(Node::S1), (S1, 5000))?;
    let client = traffic::udp_socket(&lab.host(Node::H1), (H1, 4001))?;
    let mut external = None;
    for _ in 0..2 * IDLE + 2 {
        client.send_to(b"outbound only", (S1, 5000))?;
        let (_, from) = traffic::receive(&server)?.context("an outbound datagram is lost")?;
        ensure!(external.is_none_or(|held| held == from), "the session was replaced while outbound was seen");
        external = Some(from);
        thread::sleep(Duration::from_secs(1));
    }
    let external = external.context("no session")?;
    for _ in 0..2 * IDLE + 2 {
        server.send_to(b"inbound only", external)?;
        traffic::receive(&client)?
            .context("an inbound datagram is lost: the session died while inbound was seen")?;
        thread::sleep(Duration::from_secs(1));
    }
    control::wait_for_no_session(&gateway, Duration::from_secs(15))?;
    let refused = gateway.dropped("no_session")?;
    server.send_to(b"too late", external)?;
    ensure!(traffic::receive(&client)?.is_none(), "the inbound entry outlived the session");
    ensure!(gateway.dropped("no_session")? == refused + 1, "the late datagram is not counted as no_session");
    client.send_to(b"again", (S1, 5000))?;
    traffic::receive(&server)?.context("the outbound entry outlived the session and led nowhere")?;
    gateway.detach()
}

fn invariant_8_everything_refused_is_counted_and_seen(lab: &Lab) -> Result<()> {
    const EACH: u64 = 5;
    let deny = r#"{ rule = 50, action = "deny", protocol = "udp", cidr = "192.0.2.10/32", ports = "9" }"#;
    let settings = Settings::of(lab.plan()).route("192.0.2.20/32", "blackhole").outbound_rule(deny);
    let gateway = Natgw::start(lab, &settings)?;
    lab.wait_for_ping(Node::H1, S1)?;
    lab.wait_for_ping(Node::S1, natgw_tests::lab::GATEWAY_EXTERNAL)?;
    let refused = [
        ("nacl_outbound", Node::H1, sample::udp(H1, S1, b"denied")?),
        ("blackhole", Node::H1, sample::udp(H1, S2, b"nowhere")?),
        ("no_session", Node::H1, sample::udp(H1, ELASTIC_IP, b"to ourselves")?),
        ("protocol", Node::H1, sample::gre(H1, S1)?),
        ("no_session", Node::S1, sample::gre(S1, ELASTIC_IP)?),
        ("not_opening", Node::H1, sample::tcp((H1, 4001), (S1, 80), |header| header.rst = true)?),
        ("martian", Node::S1, sample::udp(Ipv4Addr::new(240, 0, 0, 1), ELASTIC_IP, b"nobody")?),
        ("source_not_in_subnet", Node::S1, sample::udp(ELASTIC_IP, ELASTIC_IP, b"ourselves")?),
        ("source_not_in_subnet", Node::H1, sample::udp(Ipv4Addr::new(10, 0, 77, 7), S1, b"who?")?),
        ("no_session", Node::S1, sample::udp(S1, ELASTIC_IP, b"let me in")?),
    ];
    for (reason, node, packet) in &refused {
        let before = gateway.dropped(reason)?;
        for _ in 0..EACH {
            sample::send(&lab.host(*node), packet)?;
        }
        thread::sleep(Duration::from_millis(100));
        let counted = gateway.dropped(reason)? - before;
        ensure!(counted == EACH, "{EACH} packets had to be refused as {reason}, {counted} were counted");
    }
    what_is_reset_is_counted_as_that(lab, &gateway)?;
    drops_agree_with_status(&gateway)?;
    gateway.detach()
}

/// A segment of a session that is not known is answered with a RST: no drop, but counted.
fn what_is_reset_is_counted_as_that(lab: &Lab, gateway: &Natgw) -> Result<()> {
    const EACH: u64 = 5;
    let refused = gateway.dropped("not_opening")?;
    let resets = counter(gateway, "resets_sent")?;
    let packet = sample::tcp((H1, 4001), (S1, 80), |header| header.ack = true)?;
    for _ in 0..EACH {
        sample::send(&lab.host(Node::H1), &packet)?;
    }
    thread::sleep(Duration::from_millis(100));
    let sent = counter(gateway, "resets_sent")? - resets;
    ensure!(sent == EACH, "{EACH} packets had to be answered with a RST, {sent} are counted");
    ensure!(gateway.dropped("not_opening")? == refused, "they are counted as not_opening too");
    Ok(())
}

/// The reasons add up to the total, and each refusal has a sample.
fn drops_agree_with_status(gateway: &Natgw) -> Result<()> {
    let drops = gateway.json(&["drops"])?;
    let rows = drops.as_array().context("natgw drops: no array")?;
    let sum: u64 = rows.iter().filter_map(|row| row["packets"].as_u64()).sum();
    let total = gateway.json(&["status"])?["drops_total"].as_u64().context("no drops_total")?;
    ensure!(sum == total, "the reasons add up to {sum}, status says {total}");
    for row in rows {
        ensure!(row["latest"].is_object(), "no sample of what was refused: {row}");
        ensure!(row["description"].as_str().is_some_and(|text| !text.is_empty()), "no description: {row}");
    }
    Ok(())
}

/// `count` sockets of one host on ports from 30000, the same on every host.
fn sockets(lab: &Lab, node: Node, address: Ipv4Addr, count: u16) -> Result<Vec<std::net::UdpSocket>> {
    let host = lab.host(node);
    (30_000..30_000 + count).map(|port| traffic::udp_socket(&host, (address, port))).collect()
}

/// What must be unique among live sessions.
fn external_tuple(flow: &serde_json::Value) -> String {
    let fields = ["protocol", "elastic_ip", "elastic_port", "destination", "destination_port"];
    fields.map(|field| flow[field].to_string()).join(" ")
}

fn tuples(gateway: &Natgw) -> Result<HashSet<String>> {
    let internal = |flow: &serde_json::Value| format!("{} {}", flow["source"], flow["source_port"]);
    Ok(gateway.flows()?.iter().map(|flow| format!("{} {}", internal(flow), external_tuple(flow))).collect())
}

fn counter(gateway: &Natgw, name: &str) -> Result<u64> {
    let status = gateway.json(&["status"])?;
    status["counters"][name].as_u64().with_context(|| format!("natgw status: no counter {name}"))
}
