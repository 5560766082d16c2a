//! Elastic IPs that come and go while sessions run.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::process::Output;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::stream::{Conversation, StreamEcho};
use natgw_tests::lab::traffic::{self, EchoServer, Load};
use natgw_tests::lab::{ELASTIC_IP, Lab, Node, Plan, S1, SECOND_ELASTIC_IP, topology};
use serde_json::Value;

use crate::{Scenario, control, policy, scenarios};

/// How many private hosts there are, enough for both Elastic IPs to be used.
const HOSTS: u8 = 8;
/// How long what is removed drains.
const DRAIN: Duration = Duration::from_secs(3);
/// How much later than at its deadline it may be withdrawn: a second until it is looked at, and time to do it.
const LATE: Duration = Duration::from_secs(3);

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => an_elastic_ip_removed_under_load_drains_and_only_its_sessions_end_at_its_time,
        Plan::two_armed() => the_first_elastic_ip_removed_under_load_drains_as_any_other,
        Plan::two_armed() => an_elastic_ip_added_while_the_gateway_runs_is_used_by_new_sessions,
        Plan::two_armed() => an_elastic_ip_removed_at_once_ends_its_sessions_and_no_others,
        Plan::two_armed() => draining_survives_a_controller_killed_and_started_again,
        Plan::two_armed() => a_reload_drains_what_it_no_longer_names_and_takes_back_what_it_names_again,
        Plan::two_armed() => a_reload_without_a_time_to_drain_cuts_at_once,
        Plan::two_armed() => an_elastic_ip_without_sessions_is_withdrawn_before_its_time,
        Plan::two_armed() => what_cannot_be_added_or_removed_is_refused_and_nothing_changes,
    ]
}

fn an_elastic_ip_removed_under_load_drains_and_only_its_sessions_end_at_its_time(lab: &Lab) -> Result<()> {
    drain_under_load(lab, SECOND_ELASTIC_IP, ELASTIC_IP)
}

fn the_first_elastic_ip_removed_under_load_drains_as_any_other(lab: &Lab) -> Result<()> {
    drain_under_load(lab, ELASTIC_IP, SECOND_ELASTIC_IP)
}

fn drain_under_load(lab: &Lab, gone: Ipv4Addr, stays: Ipv4Addr) -> Result<()> {
    let gateway = two(lab, Settings::of(lab.plan()))?;
    let servers = Servers::start(lab)?;
    let (spared, draining) = begin(lab, &gateway, gone)?;
    let kept_before = tuples(&gateway, stays)?;

    let removed = Instant::now();
    let answer = gateway.json(&["eip", "remove", &gone.to_string(), "--drain", "3s"])?;
    ensure!(answer["state"] == "draining" && answer["seconds_left"] == 3, "remove says {answer}");
    let opened = open(lab, 5_000)?;
    let new = addresses_of(&gateway, 5_000..5_000 + 4)?;
    ensure!(new.len() == opened && new.iter().all(|address| *address == stays), "new sessions got {new:?}");
    let row = row(&gateway, gone)?.context("what drains is not listed")?;
    ensure!(row["state"] == "draining" && row["sessions"].as_u64() > Some(0), "it is listed as {row}");

    thread::sleep((DRAIN - Duration::from_millis(700)).saturating_sub(removed.elapsed()));
    ensure!(draining.streams.iter().all(|stream| !stream.is_cut()), "a connection was cut before its time");
    all_whole(draining.loads).context("what drains, before its time")?;
    wait_until_withdrawn(lab, &gateway, gone, removed + DRAIN)?;
    for stream in draining.streams {
        let lived = stream.stop()?.duration_since(removed);
        let due = DRAIN - Duration::from_millis(100)..DRAIN + LATE;
        ensure!(due.contains(&lived), "a connection that drained was cut after {lived:?}");
    }
    let kept = tuples(&gateway, stays)?;
    ensure!(
        kept_before.is_subset(&kept),
        "sessions of {stays} have ended: {:?}",
        kept_before.difference(&kept)
    );
    spared.whole()?;
    drop(servers);
    gateway.detach()
}

fn an_elastic_ip_added_while_the_gateway_runs_is_used_by_new_sessions(lab: &Lab) -> Result<()> {
    let mut gateway = start(lab, &Settings::of(lab.plan()).drain("3s"))?;
    let servers = Servers::start(lab)?;
    let load = Load::start(&lab.host(Node::H1), (host(0), 4_001), (S1, 7), 500)?;
    let output = expect(gateway.cli(&["eip", "add", &SECOND_ELASTIC_IP.to_string()])?, 0)?;
    let line = r#"elastic_ips = ["203.0.113.10", "203.0.113.11"]"#;
    ensure!(output.stdout.contains(line), "how to keep it is not told: {}", output.stdout);
    open(lab, 5_000)?;
    let new: BTreeSet<_> = addresses_of(&gateway, 5_000..5_004)?.into_iter().collect();
    ensure!(new == BTreeSet::from([ELASTIC_IP, SECOND_ELASTIC_IP]), "new sessions use {new:?}");
    let seen: BTreeSet<_> = servers.udp.clients().iter().map(|client| *client.ip()).collect();
    ensure!(seen == new, "the server has seen {seen:?}");

    policy::accept(gateway.reload(&Settings::of(lab.plan()).drain("3s"))?)?;
    let row = row(&gateway, SECOND_ELASTIC_IP)?.context("what was added has gone at once")?;
    ensure!(row["state"] == "draining", "after a reload of the file it is listed as {row}");
    let log = gateway.log();
    ensure!(log.contains("203.0.113.11 was added with `natgw eip add`"), "the log does not tell: {log}");
    control::whole(load)?;
    gateway.detach()
}

fn an_elastic_ip_removed_at_once_ends_its_sessions_and_no_others(lab: &Lab) -> Result<()> {
    let gateway = two(lab, Settings::of(lab.plan()))?;
    let _servers = Servers::start(lab)?;
    let (spared, cut) = begin(lab, &gateway, SECOND_ELASTIC_IP)?;
    let removed = Instant::now();
    let answer = gateway.json(&["eip", "remove", &SECOND_ELASTIC_IP.to_string(), "--now"])?;
    ensure!(answer["state"] == "removed" && answer["seconds_left"].is_null(), "remove says {answer}");
    wait_until_withdrawn(lab, &gateway, SECOND_ELASTIC_IP, removed)?;
    for stream in cut.streams {
        let lived = stream.stop()?.duration_since(removed);
        ensure!(lived < Duration::from_secs(1), "a connection outlived its address by {lived:?}");
    }
    cut.loads.into_iter().try_for_each(|load| load.stop().map(drop))?;
    spared.whole()?;
    gateway.detach()
}

fn draining_survives_a_controller_killed_and_started_again(lab: &Lab) -> Result<()> {
    let mut gateway = two(lab, Settings::of(lab.plan()))?;
    let _servers = Servers::start(lab)?;
    let (spared, draining) = begin(lab, &gateway, ELASTIC_IP)?;
    let removed = Instant::now();
    expect(gateway.cli(&["eip", "remove", &ELASTIC_IP.to_string(), "--drain", "4"])?, 0)?;
    gateway.write(&Settings::of(lab.plan()).elastic_ips(&[SECOND_ELASTIC_IP]).to_toml())?;
    gateway.kill9();
    let offline = row(&gateway, ELASTIC_IP)?.context("without a controller, what drains is not listed")?;
    ensure!(offline["state"] == "draining", "without a controller it is listed as {offline}");
    gateway.restart()?;
    let row = row(&gateway, ELASTIC_IP)?.context("the drain is forgotten")?;
    ensure!(row["state"] == "draining" && row["seconds_left"].as_u64() <= Some(4), "it is listed as {row}");
    thread::sleep(Duration::from_millis(3_300).saturating_sub(removed.elapsed()));
    ensure!(draining.streams.iter().all(|stream| !stream.is_cut()), "a connection was cut before its time");
    all_whole(draining.loads).context("what drains, before its time")?;
    wait_until_withdrawn(lab, &gateway, ELASTIC_IP, removed + Duration::from_secs(4))?;
    spared.whole()?;
    gateway.detach()
}

fn a_reload_drains_what_it_no_longer_names_and_takes_back_what_it_names_again(lab: &Lab) -> Result<()> {
    let both = Settings::of(lab.plan()).drain("3s");
    let mut gateway = two(lab, both.clone())?;
    let _servers = Servers::start(lab)?;
    let (spared, draining) = begin(lab, &gateway, SECOND_ELASTIC_IP)?;
    policy::accept(gateway.reload(&both)?)?;
    let row = row(&gateway, SECOND_ELASTIC_IP)?.context("it is cut")?;
    ensure!(row["state"] == "draining", "after the reload it is listed as {row}");
    let two = both.clone().elastic_ips(&[ELASTIC_IP, SECOND_ELASTIC_IP]);
    policy::accept(gateway.reload(&two)?)?;
    policy::accept(gateway.reload(&both)?)?;
    expect(gateway.cli(&["eip", "add", &SECOND_ELASTIC_IP.to_string()])?, 0)?;
    thread::sleep(DRAIN + Duration::from_millis(1_500));
    let row = self::row(&gateway, SECOND_ELASTIC_IP)?.context("it was taken back, and is withdrawn")?;
    ensure!(row["state"] == "in_use", "what was taken back is listed as {row}");
    draining.whole()?;
    spared.whole()?;
    gateway.detach()
}

fn a_reload_without_a_time_to_drain_cuts_at_once(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan()).drain("0s");
    let mut gateway = two(lab, settings.clone())?;
    let _servers = Servers::start(lab)?;
    let (spared, cut) = begin(lab, &gateway, SECOND_ELASTIC_IP)?;
    let removed = Instant::now();
    policy::accept(gateway.reload(&settings)?)?;
    wait_until_withdrawn(lab, &gateway, SECOND_ELASTIC_IP, removed)?;
    ensure!(cut.streams.into_iter().all(|stream| stream.stop().is_ok()), "a conversation panicked");
    cut.loads.into_iter().try_for_each(|load| load.stop().map(drop))?;
    spared.whole()?;
    gateway.detach()
}

fn an_elastic_ip_without_sessions_is_withdrawn_before_its_time(lab: &Lab) -> Result<()> {
    let gateway = two(lab, Settings::of(lab.plan()).timeout("icmp", 1).timeout("udp", 2))?;
    let _servers = Servers::start(lab)?;
    open(lab, 5_000)?;
    let used = row(&gateway, ELASTIC_IP)?.context("an Elastic IP is not listed")?;
    ensure!(used["sessions"].as_u64() > Some(0), "no session has it: {used}");
    let removed = Instant::now();
    expect(gateway.cli(&["eip", "remove", &ELASTIC_IP.to_string()])?, 0)?;
    let row = row(&gateway, ELASTIC_IP)?.context("it does not drain")?;
    ensure!(row["seconds_left"].as_u64() > Some(340), "the default time is another: {row}");
    wait_until_withdrawn(lab, &gateway, ELASTIC_IP, removed + Duration::from_secs(6))?;
    gateway.detach()
}

fn what_cannot_be_added_or_removed_is_refused_and_nothing_changes(lab: &Lab) -> Result<()> {
    let mut gateway = start(lab, &Settings::of(lab.plan()))?;
    let before = (gateway.json(&["status"])?["generation"].clone(), gateway.json(&["eip", "list"])?);
    for (command, code, message) in [
        ("remove 203.0.113.99", 1, "203.0.113.99 is no Elastic IP in use"),
        ("remove 203.0.113.10", 1, "203.0.113.10 is the last Elastic IP that NAT gateway nat-a lends"),
        ("remove 203.0.113.10 --now", 1, "add another one first with `natgw eip add`"),
        ("add 203.0.113.10", 1, "203.0.113.10 is in use by NAT gateway nat-a"),
        ("add 10.0.1.99", 1, "10.0.1.99 lies inside private subnet private-a"),
        ("add 203.0.113.11 --nat-gateway nat-b", 1, "there is no NAT gateway nat-b; name one of: nat-a"),
        ("add 203.0.113.11 --ports 9-8", 1, "port range 9-8 is empty"),
        ("remove 203.0.113.10 --drain soon", 2, "soon is no time to drain"),
    ] {
        let words: Vec<_> = ["eip"].into_iter().chain(command.split(' ')).collect();
        let output = expect(gateway.cli(&words)?, code)?;
        ensure!(output.stderr.contains(message), "eip {command} says {}", output.stderr);
    }
    let after = (gateway.json(&["status"])?["generation"].clone(), gateway.json(&["eip", "list"])?);
    ensure!(before == after, "{before:?} has become {after:?}");
    gateway.terminate()?;
    let output = expect(gateway.cli(&["eip", "add", "203.0.113.11"])?, 1)?;
    ensure!(output.stderr.contains("no controller runs for"), "without a controller: {}", output.stderr);
    gateway.detach()
}

/// The servers that everybody talks to.
struct Servers {
    udp: EchoServer,
    _tcp: StreamEcho,
}

impl Servers {
    fn start(lab: &Lab) -> Result<Self> {
        let server = lab.host(Node::S1);
        Ok(Self { udp: EchoServer::start(&server, (S1, 7))?, _tcp: StreamEcho::start(&server, (S1, 8))? })
    }
}

/// What runs over one Elastic IP: a steady UDP exchange and a TCP connection of each of its hosts.
#[derive(Default)]
struct Traffic {
    loads: Vec<Load>,
    streams: Vec<Conversation>,
}

impl Traffic {
    /// Ends it a while after what others have lost; fails unless every datagram came back and no connection was cut.
    fn whole(self) -> Result<()> {
        thread::sleep(Duration::from_millis(500));
        ensure!(self.streams.iter().all(|stream| !stream.is_cut()), "a connection was cut");
        all_whole(self.loads)?;
        self.streams.into_iter().try_for_each(|stream| stream.stop().map(drop))
    }
}

/// Stops the loads at the same moment; fails unless every datagram came back.
fn all_whole(loads: Vec<Load>) -> Result<()> {
    let stopping: Vec<_> = loads.into_iter().map(|load| thread::spawn(|| control::whole(load))).collect();
    let panicked = |_| anyhow!("a thread that stops a load panicked");
    stopping.into_iter().try_for_each(|load| load.join().map_err(panicked)?)
}

/// Number `number` of the private hosts: all are addresses of one node.
fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 20 + number)
}

/// A gateway with these settings, and the private hosts.
fn start(lab: &Lab, settings: &Settings) -> Result<Natgw> {
    let script: String =
        (0..HOSTS).map(|number| format!("addr add {}/24 dev eth0\n", host(number))).collect();
    topology::ip(&lab.host(Node::H1), &script)?;
    let gateway = Natgw::start(lab, settings)?;
    lab.warm_up()?;
    // The gateway drops what is for a host whose MAC address it has to find first.
    let server = S1.to_string();
    for host in (0..HOSTS).map(|number| host(number).to_string()) {
        let ping = ["ping", "-n", "-c3", "-i0.05", "-W1", "-I", &host, &server];
        lab.host(Node::H1).run(&ping)?;
    }
    Ok(gateway)
}

/// The same with two Elastic IPs.
fn two(lab: &Lab, settings: Settings) -> Result<Natgw> {
    start(lab, &settings.elastic_ips(&[ELASTIC_IP, SECOND_ELASTIC_IP]))
}

/// Every host begins to talk; what runs over another Elastic IP than `gone`, and what runs over it.
fn begin(lab: &Lab, gateway: &Natgw, gone: Ipv4Addr) -> Result<(Traffic, Traffic)> {
    let node = lab.host(Node::H1);
    let mut all = Vec::new();
    for number in 0..HOSTS {
        let load = Load::start(&node, (host(number), 4_001), (S1, 7), 50)?;
        let stream = Conversation::start(&node, (host(number), 4_002), (S1, 8))?;
        all.push((host(number), load, stream));
    }
    thread::sleep(Duration::from_millis(500));
    let on_it: BTreeSet<_> = tuples(gateway, gone)?.into_iter().map(|(source, ..)| source).collect();
    let (mut spared, mut draining) = (Traffic::default(), Traffic::default());
    for (source, load, stream) in all {
        let side = if on_it.contains(&source) { &mut draining } else { &mut spared };
        side.loads.push(load);
        side.streams.push(stream);
    }
    ensure!(!spared.loads.is_empty() && !draining.loads.is_empty(), "all hosts have one Elastic IP");
    Ok((spared, draining))
}

/// Every host opens four sessions from `first_port` on, which have to work; how many.
fn open(lab: &Lab, first_port: u16) -> Result<usize> {
    let node = lab.host(Node::H1);
    let all = (0..HOSTS).flat_map(|number| (0..4).map(move |port| (host(number), first_port + port)));
    let all: Vec<_> = all.collect();
    for local in &all {
        let socket = traffic::udp_socket(&node, *local)?;
        ensure!(traffic::exchange(&socket, (S1, 7), b"new")?, "a new session from {local:?} fails");
    }
    Ok(all.len())
}

/// Sessions of one Elastic IP: source, its port, protocol and external port.
fn tuples(gateway: &Natgw, address: Ipv4Addr) -> Result<BTreeSet<(Ipv4Addr, u64, String, u64)>> {
    let flows = gateway.flows()?;
    let mine = flows.iter().filter(|flow| flow["elastic_ip"] == address.to_string());
    let number = |flow: &Value, field: &str| flow[field].as_u64().unwrap_or_default();
    let tuple = |flow: &Value| -> Result<_> {
        let source = flow["source"].as_str().context("a session without a source")?.parse()?;
        let protocol = flow["protocol"].to_string();
        Ok((source, number(flow, "source_port"), protocol, number(flow, "elastic_port")))
    };
    mine.map(tuple).collect()
}

/// The Elastic IPs of the UDP sessions from these ports.
fn addresses_of(gateway: &Natgw, ports: std::ops::Range<u64>) -> Result<Vec<Ipv4Addr>> {
    let flows = gateway.flows()?;
    let mine = flows.iter().filter(|flow| {
        flow["protocol"] == "udp" && flow["source_port"].as_u64().is_some_and(|port| ports.contains(&port))
    });
    mine.map(|flow| Ok(flow["elastic_ip"].as_str().context("a session without an Elastic IP")?.parse()?))
        .collect()
}

/// What `natgw eip list` says of `address`, if anything; `natgw status` has to say the same.
fn row(gateway: &Natgw, address: Ipv4Addr) -> Result<Option<Value>> {
    let row = find(&gateway.json(&["eip", "list"])?, address);
    let status = gateway.json(&["status"])?;
    let in_status = find(&status["nat_gateways"][0]["elastic_ips"], address);
    let state = |row: &Option<Value>| row.as_ref().map(|row| row["state"].clone());
    ensure!(state(&row) == state(&in_status), "listed as {row:?}, but status says {in_status:?}");
    Ok(row)
}

/// The row about `address`.
fn find(rows: &Value, address: Ipv4Addr) -> Option<Value> {
    let mut rows = rows.as_array().into_iter().flatten();
    rows.find(|row| row["address"] == address.to_string()).cloned()
}

/// Waits until `address` is the gateway's no longer, which is to be soon after `due`, and looks for leftovers.
fn wait_until_withdrawn(lab: &Lab, gateway: &Natgw, address: Ipv4Addr, due: Instant) -> Result<()> {
    while find(&gateway.json(&["eip", "list"])?, address).is_some() {
        ensure!(Instant::now() < due + LATE, "{address} is there {LATE:?} after its time");
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(tuples(gateway, address)?.is_empty(), "{address} still has sessions");
    let interface = lab.plan().external();
    let shown = lab.host(Node::Gateway).run(&["ip", "-4", "addr", "show", "dev", interface])?.stdout;
    ensure!(!shown.contains(&address.to_string()), "{address} is still on {interface}:\n{shown}");
    Ok(())
}

/// The output of a command that has to end with this code.
fn expect(output: Output, code: i32) -> Result<Output> {
    let Output { status, stdout, stderr } = &output;
    ensure!(status.code() == Some(code), "the exit status is {status}, not {code}:\n{stdout}{stderr}");
    Ok(output)
}
