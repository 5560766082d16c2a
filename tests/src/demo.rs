//! The demo: what natgw does, told step by step on packets that really flow.

use std::fs;
use std::process::id;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::natgw::{Natgw, Reload};
use crate::lab::nginx::Nginx;
use crate::lab::settings::Settings;
use crate::lab::traffic::{EchoServer, Load};
use crate::lab::{H1, H2, Lab, Node, Plan, S1, S2, check, namespace, sweep};

/// The rule that the demo adds by a reload, as the configuration writes it.
const DENY_S2: &str = r#"{ rule = 50, action = "deny", protocol = "udp", cidr = "192.0.2.20/32" }"#;

/// The picture shown first.
const PICTURE: &str = "
  h1 10.0.1.10 ─┐                                                ┌─ s1 192.0.2.10 (nginx)
                ├─ 10.0.1.1  natgw  198.51.100.1 ─── router ─────┤
  h2 10.0.1.11 ─┘         Elastic IP 203.0.113.10                └─ s2 192.0.2.20
";

/// Runs the demo in a lab of its own; under a minute.
///
/// # Errors
/// When a step does not hold, or something is left behind.
pub fn run() -> Result<()> {
    sweep::prepare();
    let started = Instant::now();
    println!(
        "natgw: a NAT gateway between two private hosts and the internet, all in network namespaces\n{PICTURE}"
    );
    perform()?;
    step("Nothing is left behind", nothing_left)?;
    println!("\nEvery step held, in {:.0} s.", started.elapsed().as_secs_f32());
    Ok(())
}

fn perform() -> Result<()> {
    let lab = Lab::new(Plan::two_armed())?;
    let nginx = Nginx::start(&lab, Node::S1, S1)?;
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(&lab, &settings).context("natgw does not start")?;
    step("natgw is attached and forwards", || {
        lab.warm_up()?;
        modes(&gateway)
    })?;

    println!("\nPrivate hosts reach the internet");
    step("A page from nginx, which sees the Elastic IP", || check::page(&lab, &nginx))?;
    step("A UDP exchange", || check::udp(&lab))?;
    step("Ping", || check::ping(&lab))?;
    step("Traceroute shows the gateway", || check::traceroute(&lab))?;

    println!("\nNothing comes in unasked");
    step("A SYN to the Elastic IP", || check::outside_syn(&lab))?;
    step("A datagram to the Elastic IP", || check::outside_udp(&lab))?;
    step("A ping to the Elastic IP", || check::outside_ping(&lab))?;

    println!("\nA NACL deny by reload, while sessions run");
    deny_by_reload(&lab, &mut gateway, &settings)?;

    println!("\nWhat the gateway tells about it");
    for verb in [&["flows"][..], &["drops"], &["eip", "list"], &["status"]] {
        show(&gateway, verb)?;
    }
    println!();
    step("Captures hold no bad checksum and no internal address outside", || {
        lab.verify_captures()?;
        Ok(format!("{} packets on the external link", lab.external_packets()))
    })?;
    step("Detached: no program, no pin, no Elastic IP on the interface", || {
        gateway.detach()?;
        Ok("clean".to_owned())
    })
}

/// Two sessions run; a rule forbids one of them; the other loses nothing.
fn deny_by_reload(lab: &Lab, gateway: &mut Natgw, settings: &Settings) -> Result<()> {
    let _first = EchoServer::start(&lab.host(Node::S1), (S1, 7))?;
    let _second = EchoServer::start(&lab.host(Node::S2), (S2, 7))?;
    let allowed = Load::start(&lab.host(Node::H1), (H1, 4001), (S1, 7), 200)?;
    let denied = Load::start(&lab.host(Node::H2), (H2, 4002), (S2, 7), 200)?;
    step("Two sessions run: h1 → s1 and h2 → s2", || {
        let both = (
            allowed.received_within(Duration::from_secs(1)),
            denied.received_within(Duration::from_millis(500)),
        );
        ensure!(both.0 > 0 && both.1 > 0, "no answers");
        Ok("200 datagrams a second each".to_owned())
    })?;
    step("Reloaded with a rule that denies h2 → s2", || {
        match gateway.reload(&settings.clone().outbound_rule(DENY_S2))? {
            Reload::Accepted(generation) => Ok(format!("generation {generation}: {DENY_S2}")),
            Reload::Refused(message) => bail!("the reload was refused: {message}"),
        }
    })?;
    thread::sleep(Duration::from_millis(200));
    step("h2 → s2 is cut", || {
        let through = denied.received_within(Duration::from_secs(1));
        ensure!(through == 0, "{through} answers came in spite of the rule");
        Ok("no answer within a second".to_owned())
    })?;
    step("h1 → s1 went on", || {
        let tally = allowed.stop()?;
        ensure!(tally.missing.is_empty(), "{} of {} datagrams are lost", tally.missing.len(), tally.sent);
        Ok(format!("{} datagrams sent, {} answered", tally.sent, tally.sent))
    })?;
    denied.stop().map(drop)
}

/// How natgw is attached to each interface.
fn modes(gateway: &Natgw) -> Result<String> {
    let status = gateway.json(&["status"])?;
    let interfaces = status["interfaces"].as_array().context("natgw status: no interfaces")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let modes: Vec<String> =
        interfaces.iter().map(|held| format!("{} {}", text(&held["name"]), text(&held["mode"]))).collect();
    Ok(modes.join(", "))
}

fn show(gateway: &Natgw, verb: &[&str]) -> Result<()> {
    let output = gateway.cli(verb)?;
    ensure!(output.success(), "natgw {} failed: {}", verb.join(" "), output.stderr.trim());
    println!("\n$ natgw {}\n{}", verb.join(" "), output.stdout.trim_end());
    Ok(())
}

/// Fails while a namespace or a pin directory of this process exists.
fn nothing_left() -> Result<String> {
    let ours = format!("{}{}-", sweep::PREFIX, id());
    for directory in [namespace::DIRECTORY, sweep::BPFFS] {
        for entry in fs::read_dir(directory).with_context(|| format!("cannot read {directory}"))? {
            let name = entry?.file_name();
            ensure!(!name.to_string_lossy().starts_with(&ours), "{directory}/{} remains", name.display());
        }
    }
    Ok("no namespace, no pinned map".to_owned())
}

/// Does one step and prints how it went.
fn step(what: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
    match work() {
        Ok(detail) => {
            println!("  ✔ {what}: {detail}");
            Ok(())
        }
        Err(error) => {
            println!("  ✘ {what}");
            Err(error).with_context(|| what.to_owned())
        }
    }
}
