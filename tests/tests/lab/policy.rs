//! NACLs and routes, and their change while traffic flows.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use natgw_tests::lab::natgw::{Natgw, Reload};
use natgw_tests::lab::settings::Settings;
use natgw_tests::lab::traffic::{self, EchoServer, Load};
use natgw_tests::lab::{H1, Lab, Node, Plan, S1, S2};

use crate::{Scenario, scenarios};

/// A rule that forbids what the load toward [`S2`] does.
const DENY_S2: &str =
    r#"{ rule = 50, action = "deny", protocol = "udp", cidr = "192.0.2.20/32", ports = "7" }"#;

pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        Plan::two_armed() => a_nacl_deny_added_by_reload_cuts_its_session_while_another_goes_on,
        Plan::two_armed() => a_blackhole_route_drops_and_counts,
        Plan::two_armed() => nacls_and_routes_are_listed_as_configured,
    ]
}

fn a_nacl_deny_added_by_reload_cuts_its_session_while_another_goes_on(lab: &Lab) -> Result<()> {
    let plain = Settings::of(lab.plan());
    let mut gateway = Natgw::start(lab, &plain)?;
    lab.warm_up()?;
    let _servers = (echo(lab, Node::S1)?, echo(lab, Node::S2)?);
    let host = lab.host(Node::H1);
    let allowed = Load::start(&host, (H1, 4001), (S1, 7), 200)?;
    let denied = Load::start(&host, (H1, 4002), (S2, 7), 200)?;
    ensure!(
        denied.received_within(Duration::from_millis(500)) > 50,
        "the session does not run before the deny"
    );
    accept(gateway.reload(&plain.clone().outbound_rule(DENY_S2))?)?;
    // Answers already under way may still arrive.
    std::thread::sleep(Duration::from_millis(200));
    let through = denied.received_within(Duration::from_secs(1));
    ensure!(through == 0, "{through} answers came in spite of the deny");
    ensure!(gateway.dropped("nacl_outbound")? > 50, "the refused packets are not counted as nacl_outbound");
    accept(gateway.reload(&plain)?)?;
    ensure!(
        denied.received_within(Duration::from_secs(1)) > 50,
        "the session does not run again without the deny"
    );
    let tally = allowed.stop()?;
    ensure!(tally.missing.is_empty(), "the allowed session lost {} of {}", tally.missing.len(), tally.sent);
    denied.stop()?;
    gateway.detach()
}

fn a_blackhole_route_drops_and_counts(lab: &Lab) -> Result<()> {
    let gateway = Natgw::start(lab, &Settings::of(lab.plan()).route("192.0.2.20/32", "blackhole"))?;
    lab.wait_for_ping(Node::H1, S1)?;
    let _servers = (echo(lab, Node::S1)?, echo(lab, Node::S2)?);
    let socket = traffic::udp_socket(&lab.host(Node::H1), (H1, 0))?;
    ensure!(traffic::exchange(&socket, (S1, 7), b"past the hole")?, "the default route does not work");
    ensure!(
        !traffic::exchange(&socket, (S2, 7), b"into the hole")?,
        "a packet came through a blackhole route"
    );
    let dropped = gateway.dropped("blackhole")?;
    ensure!(dropped == 1, "one packet went into the blackhole, {dropped} are counted");
    gateway.detach()
}

fn nacls_and_routes_are_listed_as_configured(lab: &Lab) -> Result<()> {
    let settings = Settings::of(lab.plan()).outbound_rule(DENY_S2).route("192.0.2.20/32", "blackhole");
    let gateway = Natgw::start(lab, &settings)?;
    let rules = gateway.json(&["nacl", "list"])?;
    let listed = rules.as_array().into_iter().flatten().any(|rule| {
        rule["nacl"] == "private"
            && rule["direction"] == "outbound"
            && rule["rule"] == 50
            && rule["action"] == "deny"
            && rule["cidr"] == "192.0.2.20/32"
    });
    ensure!(listed, "rule 50 is not listed: {rules}");
    let routes = gateway.json(&["route", "list"])?;
    let listed = routes.as_array().into_iter().flatten().any(|route| {
        route["route_table"] == "private"
            && route["destination"] == "192.0.2.20/32"
            && route["state"] == "blackhole"
    });
    ensure!(listed, "the blackhole route is not listed: {routes}");
    gateway.detach()
}

/// An echo server on port 7 of an outside server.
fn echo(lab: &Lab, node: Node) -> Result<EchoServer> {
    let address = if node == Node::S1 { S1 } else { S2 };
    EchoServer::start(&lab.host(node), (address, 7))
}

/// Fails unless the reload was accepted.
pub fn accept(reload: Reload) -> Result<u64> {
    match reload {
        Reload::Accepted(generation) => Ok(generation),
        Reload::Refused(message) => bail!("the reload was refused: {message}"),
    }
}
