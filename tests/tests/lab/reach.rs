//! Private hosts reach the outside; the outside reaches nobody.

use anyhow::{Result, ensure};
use natgw_tests::lab::gateway::{Gateway, Kind};
use natgw_tests::lab::natgw::Natgw;
use natgw_tests::lab::nginx::Nginx;
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::{ELASTIC_IP, Lab, Node, Plan, S1, check};

use crate::{Scenario, scenarios};

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_private_host_fetches_a_page_and_the_web_server_sees_the_elastic_ip,
        Plan::two_armed() => a_datagram_goes_out_and_its_answer_comes_back,
        Plan::two_armed() => a_ping_is_answered,
        Plan::two_armed() => a_traceroute_shows_the_gateway_and_the_router,
        Plan::two_armed() => a_syn_a_datagram_and_a_ping_from_outside_to_the_elastic_ip_get_nothing,
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
