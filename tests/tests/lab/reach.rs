//! Private hosts reach the outside; the outside reaches nobody.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::nginx::Nginx;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::{
    ELASTIC_IP, GATEWAY_EXTERNAL, GATEWAY_INTERNAL, Lab, Node, Plan, S1, SECOND_ELASTIC_IP, check,
};

use crate::policy::accept;
use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_private_host_fetches_a_page_and_the_web_server_sees_the_elastic_ip,
        Plan::two_armed() => a_datagram_goes_out_and_its_answer_comes_back,
        Plan::two_armed() => a_ping_is_answered,
        Plan::two_armed() => a_traceroute_shows_the_gateway_and_the_router,
        Plan::two_armed() => a_syn_a_datagram_and_a_ping_from_outside_to_the_elastic_ip_get_nothing,
        Plan::two_armed() => the_gateways_own_addresses_answer_pings_of_any_size_on_either_side,
        Plan::two_armed() => an_elastic_ip_is_answered_for_by_arp_outside_and_no_other_address_is,
        Plan::two_armed() => flags_alone_make_a_gateway,
        Plan::one_armed() => a_gateway_with_one_interface_serves_both_sides,
        Plan::routed() => an_elastic_ip_that_the_router_routes_here_needs_no_address,
    ]
}

/// Page, UDP, ping and traceroute work and the outside gets nothing in, whatever the gateway is.
pub fn everything(lab: &Lab) -> Result<()> {
    let nginx = Nginx::start(lab, Node::S1, S1)?;
    check::page(lab, &nginx)?;
    check::udp(lab)?;
    check::ping(lab)?;
    check::traceroute(lab)?;
    nothing_gets_in(lab)
}

fn nothing_gets_in(lab: &Lab) -> Result<()> {
    check::outside_syn(lab)?;
    check::outside_udp(lab)?;
    check::outside_ping(lab).map(drop)
}

/// Runs a check behind natgw, started and stopped around it.
fn behind_natgw(lab: &Lab, check: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let gateway = Gateway::start(lab, Kind::Natgw)?;
    check(lab)?;
    gateway.stop()
}

fn a_private_host_fetches_a_page_and_the_web_server_sees_the_elastic_ip(lab: &Lab) -> Result<()> {
    let nginx = Nginx::start(lab, Node::S1, S1)?;
    behind_natgw(lab, |lab| check::page(lab, &nginx).map(drop))
}

fn a_datagram_goes_out_and_its_answer_comes_back(lab: &Lab) -> Result<()> {
    behind_natgw(lab, |lab| check::udp(lab).map(drop))
}

fn a_ping_is_answered(lab: &Lab) -> Result<()> {
    behind_natgw(lab, |lab| check::ping(lab).map(drop))
}

fn a_traceroute_shows_the_gateway_and_the_router(lab: &Lab) -> Result<()> {
    behind_natgw(lab, |lab| check::traceroute(lab).map(drop))
}

fn a_syn_a_datagram_and_a_ping_from_outside_to_the_elastic_ip_get_nothing(lab: &Lab) -> Result<()> {
    behind_natgw(lab, nothing_gets_in)
}

/// There is an echo server (RFC 1812 §4.3.3.6): what is for the host passes to its stack, in fragments too.
fn the_gateways_own_addresses_answer_pings_of_any_size_on_either_side(lab: &Lab) -> Result<()> {
    behind_natgw(lab, |lab| {
        for size in [0, 56, 1_472, 4_000] {
            for ttl in [64, 1] {
                echo(lab, Node::H1, GATEWAY_INTERNAL, size, ttl)?;
                echo(lab, Node::H1, GATEWAY_EXTERNAL, size, ttl)?;
                echo(lab, Node::Router, GATEWAY_EXTERNAL, size, ttl)?;
            }
            echo(lab, Node::S1, GATEWAY_EXTERNAL, size, 64)?;
        }
        Ok(())
    })
}

/// Three pings of `size` bytes are answered, each from the address that was asked and with the bytes that were sent.
fn echo(lab: &Lab, node: Node, address: Ipv4Addr, size: u16, ttl: u8) -> Result<()> {
    let (size_text, ttl_text, target) = (size.to_string(), ttl.to_string(), address.to_string());
    let command =
        ["ping", "-n", "-c3", "-i0.2", "-W2", "-s", &size_text, "-t", &ttl_text, "-M", "dont", &target];
    let output = lab.host(node).try_run(&command)?.stdout;
    let answer = format!("{} bytes from {target}: icmp_seq=", size + 8);
    let answers = output.lines().filter(|line| line.starts_with(&answer)).count();
    // It says so where the bytes that come back are others, or fewer.
    let damaged = ["wrong data", "truncated", "DUP!"].iter().any(|complaint| output.contains(complaint));
    let node = node.name();
    ensure!(
        answers == 3 && !damaged,
        "{node} pings {target} with {size} bytes and a TTL of {ttl}:\n{output}"
    );
    Ok(())
}

/// RFC 3022 §6.2: addresses of the pool on the external link are answered for, and no others.
fn an_elastic_ip_is_answered_for_by_arp_outside_and_no_other_address_is(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &settings)?;
    lab.warm_up()?;
    let link = lab.host(Node::Gateway).run(&["ip", "-br", "link", "show", "dev", lab.plan().external()])?;
    let own = link.stdout.split_whitespace().nth(2).context("the external interface has no MAC address")?;
    let near = Ipv4Addr::new(203, 0, 113, 9);
    for (address, expected) in [(ELASTIC_IP, Some(own)), (SECOND_ELASTIC_IP, None), (near, None)] {
        let told = ask_for(lab, address)?;
        ensure!(told.as_deref() == expected, "for {address} the router is told {told:?}, not {expected:?}");
    }
    accept(gateway.reload(&settings.elastic_ips(&[ELASTIC_IP, SECOND_ELASTIC_IP]))?)?;
    for address in [ELASTIC_IP, SECOND_ELASTIC_IP] {
        let told = ask_for(lab, address)?;
        ensure!(told.as_deref() == Some(own), "after a reload the router is told {told:?} for {address}");
    }
    gateway.detach()?;
    let told = ask_for(lab, ELASTIC_IP)?;
    ensure!(told.is_none(), "without a gateway the router is told {told:?}");
    Ok(())
}

/// The MAC address that the router learns of when a server outside pings `address`; `None` if it asks in vain.
fn ask_for(lab: &Lab, address: Ipv4Addr) -> Result<Option<String>> {
    let (router, text) = (lab.host(Node::Router), address.to_string());
    router.run(&["ip", "neigh", "flush", "to", &text, "dev", "gw"])?;
    lab.host(Node::S1).try_run(&["ping", "-n", "-c1", "-W1", &text])?;
    // It asks three times, a second each.
    let deadline = Instant::now() + Duration::from_secs(8);
    while Instant::now() < deadline {
        let entry = router.run(&["ip", "neigh", "show", "to", &text, "dev", "gw"])?.stdout;
        let words: Vec<_> = entry.split_whitespace().collect();
        if let Some(place) = words.iter().position(|word| *word == "lladdr") {
            return Ok(words.get(place + 1).map(|mac| (*mac).to_owned()));
        }
        if words.contains(&"FAILED") {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the router asks for {address} without an end")
}

fn flags_alone_make_a_gateway(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start_with_flags(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    check::udp(lab)?;
    nothing_gets_in(lab)?;
    gateway.detach()
}

fn a_gateway_with_one_interface_serves_both_sides(lab: &Lab) -> Result<()> {
    behind_natgw(lab, everything)
}

fn an_elastic_ip_that_the_router_routes_here_needs_no_address(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()))?;
    lab.warm_up()?;
    let addresses = lab.host(Node::Gateway).run(&["ip", "-4", "addr", "show"])?.stdout;
    ensure!(
        !addresses.contains(&ELASTIC_IP.to_string()),
        "the Elastic IP is an address of the gateway:\n{addresses}"
    );
    everything(lab)?;
    gateway.detach()
}
